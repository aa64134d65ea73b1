"""Writes data/unicode_ranges.c: the general category of every character in Unicode 16.0, the version that the regular
expressions of the `tokenizers` library (0.23) know.

Run it with a Python that has unicodedata2 16.0.0 from PyPI:  python make_unicode_ranges.py"""
import pathlib
import subprocess

import unicodedata2

CATEGORIES = ["Cn", "Cc", "Cf", "Co", "Cs", "Ll", "Lm", "Lo", "Lt", "Lu", "Mc", "Me", "Mn", "Nd", "Nl", "No", "Pc", "Pd",
              "Pe", "Pf", "Pi", "Po", "Ps", "Sc", "Sk", "Sm", "So", "Zl", "Zp", "Zs"]
TARGET = pathlib.Path(__file__).resolve().parent.parent.parent / "data" / "unicode_ranges.c"


def main():
    assert unicodedata2.unidata_version == "16.0.0"
    entries = []
    previous = None
    for character in range(0x110000):
        category = unicodedata2.category(chr(character))
        if category != previous:
            entries.append(f"0x{character << 8 | CATEGORIES.index(category):x},")
        previous = category
    names = ", ".join(f'"{name}"' for name in CATEGORIES)
    lines = ["/* General categories of Unicode 16.0; see unicode.h. Written by tests/data/make_unicode_ranges.py. */",
             '#include "data/unicode.h"', "",
             "const char *const ls_unicode_category_names[] = {" + names + "};",
             f"const int ls_unicode_category_count = {len(CATEGORIES)};", "",
             "const uint32_t ls_unicode_ranges[] = {", *entries, "};",
             f"const int ls_unicode_range_count = {len(entries)};", ""]
    TARGET.write_text("\n".join(lines), encoding="ascii")
    subprocess.run(["clang-format", "-i", str(TARGET)], check=True)


if __name__ == "__main__":
    main()
