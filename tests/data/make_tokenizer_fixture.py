"""Writes tokenizer_fixture.json: hard strings and the ids that the `tokenizers` library (0.23.3) gives for them, for the
shipped tokenizer and for variants of it. Each variant is a patch of the tokenizer.json that test_tokenizer.c applies too:
top-level keys are replaced, the keys of "model" inside the model, and "string_merges" writes merges as "a b".

Run it with a Python (3.11: Unicode 14, like PCRE2 10.42) that has the library:  python make_tokenizer_fixture.py"""
import json
import pathlib
import random
import unicodedata

import tokenizers

HERE = pathlib.Path(__file__).resolve().parent
SHIPPED = HERE.parent.parent / "data" / "tokenizers" / "python-4096" / "tokenizer.json"
SPACES = [" ", "\t", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\xa0", "\u1680", "\u180e", "\u2003", "\u200b",
          "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\ufeff"]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
CASED = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_level(prefix=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def sequence(*stages):
    return {"type": "Sequence", "pretokenizers": list(stages)}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def added(number, content, **flags):
    token = {"id": 4096 + number, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": False}
    return {**token, **flags}


END_OF_TEXT = {"id": 0, "content": "<|endoftext|>", "single_word": False, "lstrip": False, "rstrip": False,
               "normalized": False, "special": True}


def variants():
    plain = byte_level(regex=False)
    found = {
        "shipped": {},
        "string merges": {"string_merges": True},
        "prefix space": {"pre_tokenizer": byte_level(prefix=True)},
        "prefix space without regex": {"pre_tokenizer": byte_level(prefix=True, regex=False)},
        "no regex, whole words": {"pre_tokenizer": plain, "model": {"ignore_merges": True}},
        "llama3": {"pre_tokenizer": sequence(split(LLAMA3), plain), "model": {"ignore_merges": True}},
        "cased": {"pre_tokenizer": sequence(split(CASED), plain)},
        "digits": {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": True}, byte_level())},
        "digit runs": {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": False}, byte_level())},
        "words": {"pre_tokenizer": sequence(split(r"\w+", "Removed"), plain)},
        "not words": {"pre_tokenizer": sequence(split(r"\W|\d*", "Removed"), plain)},
        "inverted": {"pre_tokenizer": sequence(split(r"[\s\d]", "Removed", True), plain)},
        "literal": {"pre_tokenizer": sequence(split("a.", "Isolated", False, "String"), plain)},
        "empty matches": {"pre_tokenizer": sequence(split(r"(?=\p{Lu})|^|x*", "Isolated"), plain)},
        "line ends": {"pre_tokenizer": sequence(split(r"^[ \w]|[\w|]$", "Removed"), plain)},
        "added": {"added_tokens": [
            END_OF_TEXT, added(0, "<|a|>"), added(1, "<|a|>b"), added(2, "<|left|>", lstrip=True),
            added(3, "<|right|>", rstrip=True), added(4, "quuz", single_word=True),
            added(5, "<|late|>", normalized=True), added(6, "<|la", normalized=True, lstrip=True, rstrip=True),
            added(7, "\n\n\n"), added(8, "l\u00e8ve"), added(9, "uuzy"),
            added(10, "c<|a", normalized=True)]},
    }
    for behavior in ("Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        found[behavior] = {"pre_tokenizer": sequence(split(r"[\s_]", behavior), plain)}
        found[behavior + " inverted"] = {"pre_tokenizer": sequence(split(r"[\s_]", behavior, True), plain)}
    return found


def apply(document, patch):
    document = json.loads(json.dumps(document))
    for key, value in patch.items():
        if key == "model":
            document["model"].update(value)
        elif key == "string_merges":
            document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]
        else:
            document[key] = value
    return document


def random_character(draw):
    kind = draw.random()
    if kind < 0.25:
        return draw.choice(SPACES)
    if kind < 0.6:
        return draw.choice("abcxyzABC'stremld0193 \n_-=<|>.,;(){}#\"\\/\u00e9\u00df\u017f\u0131\u0130\u20ac")
    if kind < 0.7:
        return chr(draw.randrange(0x300, 0x370))
    while True:
        character = chr(draw.randrange(0x80, 0x1F000) if kind < 0.9 else draw.randrange(0x1F300, 0x1F700))
        if unicodedata.category(character) not in ("Cn", "Cs", "Co"):
            return character


def texts():
    chosen = [
        "", " ", "  ", "\n", "\r\n", "\r\n\r\n  x", "\t\tif x:\n\t\t\treturn None\r\n", "a", "\u00e9", "\0", "a\0b",
        "Hello world", "  leading", "trailing   ", "two  blanks", "a" * 200, " " * 100, "=" * 77, "ab" * 50, "0" * 40,
        "def f(self, x=None):\n    return self.x if x is None else x\n", "import os, sys\n\n\nclass A(object):\n    pass\n",
        "'re we'll they've I'm he'd it's isn't 'S 'LL DON'T 'sx''s", "\u2019s \u2018t \u02bcre", "x'\u017f y'S",
        "3.14159 1,000,000 0x1F 1e-9 \u00bd \u00b2 \u2167 \u0663\u0664 \u0967\u0968 \u2460 \u4e00\u4e8c",
        "\u4f60\u597d\uff0c\u4e16\u754c", "\u3053\u3093\u306b\u3061\u306f", "\uc548\ub155\ud558\uc138\uc694",
        "\u041f\u0440\u0438\u0432\u0435\u0442", "\u0645\u0631\u062d\u0628\u0627", "\u05e9\u05dc\u05d5\u05dd",
        "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "e\u0301 n\u0303 A\u030a \u1e9e", "\U0001f600\U0001f3fd",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f", "\U0001d49c\U00020000",
        "<|endoftext|>", "a<|endoftext|>b", "<|endoftext|", "<<|endoftext|>>", "<|endoftext|><|endoftext|>",
        " <|endoftext|> \n", "< |endoftext|>", "<|ENDOFTEXT|>", "\xa0<|endoftext|>\u3000x",
        "<|a|>", "<|a|>b", "<|a|><|a|>bc", "c<|a|>", "c<|a", "x  <|left|>  y", "x  <|right|> \n y", "\u3000<|left|><|right|>\u2003",
        "<|left|> <|left|>", "quuz", "a quuz.", "quuzy", "uuzy", "squuz", "\u0301quuz", "quuz\u200d", "quuz_", "\u24b6quuz",
        "<|late|>", " <|late|> ", "x <|la <|late|>te|>", "\n\n\n\n", "l\u00e8ve \u00e9l\u00e8ve", "quuz quuz,quuz",
        "CamelCaseHTTPServer snake_case_name __init__ XMLHttpRequest", "a.b.c a.. .a a.a.",
        "\u00e0\n\u00e8\r\u00ec\t\u00f2", "// comment\n/* more */", "\\n \\\\ \\x41", "{\"k\": [1, 2, {\"x\": null}]}",
    ]
    chosen += [first + second + third for first in SPACES for second in ("", " ", "\n", "x") for third in ("", "y", " z")]
    draw = random.Random(7)
    for _ in range(250):
        chosen.append("".join(random_character(draw) for _ in range(draw.randrange(1, 30))))
    return list(dict.fromkeys(chosen))


def main():
    shipped = json.loads(SHIPPED.read_text(encoding="utf-8"))
    everything = texts()
    cases = []
    for name, patch in variants().items():
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(apply(shipped, patch)))
        numbers = [i for i in range(len(everything)) if name in ("shipped", "llama3", "added") or i % 4 == 1 or i < 80]
        ids = [tokenizer.encode(everything[i], add_special_tokens=False).ids for i in numbers]
        cases.append({"name": name, "patch": patch, "texts": numbers, "ids": ids})
    # JSON readers of C stop at NUL, so the texts are given as UTF-8 in hexadecimal.
    lines = ['{"texts": [', ",\n".join(json.dumps(text.encode().hex()) for text in everything), '], "cases": [',
             ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases), "]}\n"]
    (HERE / "tokenizer_fixture.json").write_text("\n".join(lines), encoding="ascii")
    print(len(everything), "texts,", len(cases), "cases,", sum(map(len, (case["ids"] for case in cases))), "encodings")


if __name__ == "__main__":
    main()
