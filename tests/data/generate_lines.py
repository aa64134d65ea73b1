"""Hard lines for tokenizers, as bytes: lines(N) gives N of them, the same on every call and machine up to the text that the
machine has (Python's library, whose sources and documentation strings are code and English)."""
import functools
import pathlib
import random
import sysconfig
import unicodedata

SPACES = [" ", "\t", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\xa0", "\u1680", "\u180e", "\u2003", "\u200b",
          "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\ufeff", "\u2581"]
SPECIAL = ["<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|end_of_text|>",
           "<0x41>", "<0x0A>", "<pad>", "[INST]", "[/INST]", "<|a|>", "<|a|>b", "<|left|>", "<|right|>", "quuz", "<|late|>",
           "<|la", "\u2581<s>", "<s", "s>", "<|", "|>", "< s >", "<S>", "<|endoftext", "<0x", "\u0120", "\u2581quuz", "<u>",
           "user defined", "xyzzy", "\n\n\n", "l\u00e8ve"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'\u017f", "\u2019s", "'K", "'", "''s"]
EMOJI = ["\U0001f600", "\U0001f44d\U0001f3fd", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
         "\U0001f1e9\U0001f1ea", "\u2764\ufe0f\u200d\U0001f525", "1\ufe0f\u20e3", "\U0001f3f4\U000e0067\U000e0062\U000e007f",
         "\u263a", "\U0001f9d1\U0001f3ff\u200d\U0001f680"]
RANGES = [(0x80, 0x250), (0x250, 0x370), (0x370, 0x600), (0x600, 0x900), (0x900, 0xe00), (0xe00, 0x1200), (0x1200, 0x2000),
          (0x2000, 0x2c00), (0x2c00, 0x3400), (0x4e00, 0x9fff), (0xac00, 0xd7a4), (0xe000, 0xf900), (0xf900, 0x10000),
          (0x10000, 0x11000), (0x11000, 0x12600), (0x16800, 0x18000), (0x1b000, 0x1e000), (0x1e000, 0x20000),
          (0x20000, 0x2fa20), (0x30000, 0x323b0), (0x40000, 0xe0000), (0xe0000, 0xe0200), (0xf0000, 0x110000)]
BROKEN = [b"\xff", b"\x80", b"\xc0\xaf", b"\xe4\xbd", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xf5\x80", b"\xe0\x80\x80",
          b"\xf4\x90\x80\x80", b"\xc3", b"\xf0\x80\x80\x80", b"\xfe\xfe", b"\xe2\x28\xa1"]


@functools.cache
def library_text():
    """Sources of the Python standard library, in the order of their names."""
    folder = pathlib.Path(sysconfig.get_paths()["stdlib"])
    files = sorted(folder.glob("*.py"))[:120] + sorted((folder / "test").glob("test_[a-u]*.py"))[:60]
    return "".join(file.read_text("utf-8", "replace") for file in files)


def real_text(draw):
    text = library_text()
    start = draw.randrange(len(text) - 400)
    return text[start:start + draw.randrange(1, 200)]


def character(draw):
    low, high = draw.choice(RANGES)
    while True:
        found = draw.randrange(low, high)
        if not 0xD800 <= found < 0xE000:
            return chr(found)


def words(draw):
    alphabet = draw.choice(["abcdefgh", "ABCxyz", "\u00e4\u00f6\u00fc\u00df\u00e9", "\u0430\u0431\u0432\u0433",
                            "\u4f60\u597d\u4e16\u754c", "\u0645\u0631\u062d", "\u0e2a\u0e27\u0e31", "aA1_"])
    return "".join("".join(draw.choice(alphabet) for _ in range(draw.randrange(1, 12))) + draw.choice(SPACES[:6] + [" "] * 8)
                   for _ in range(draw.randrange(1, 9)))


def runs(draw):
    return "".join(draw.choice([" ", "  ", "\n", "\t", "0", "9", "12", "=", "-", "\u0663", "\u2581", "\r\n", ".", "a", "_"])
                   * draw.choice([1, 1, 2, 3, 4, 7, 16, 33]) for _ in range(draw.randrange(1, 8)))


def mixture(draw):
    kinds = [lambda: draw.choice(SPACES), lambda: draw.choice(SPECIAL), lambda: draw.choice(CONTRACTIONS),
             lambda: draw.choice(EMOJI), lambda: character(draw), lambda: chr(draw.randrange(0x300, 0x370)),
             lambda: chr(draw.randrange(0x20, 0x7f)), lambda: draw.choice("abcdefghijkl \n"), lambda: chr(draw.randrange(0x20)),
             lambda: str(draw.randrange(10 ** draw.randrange(1, 12)))]
    return "".join(draw.choice(kinds)() for _ in range(draw.randrange(1, 20)))


def special(draw):
    return "".join(draw.choice([draw.choice(SPECIAL), draw.choice(SPACES[:4]), draw.choice("ab<>|"), "hello", " x "])
                   for _ in range(draw.randrange(1, 8)))


def broken(draw):
    parts = [draw.choice([draw.choice(BROKEN), character(draw).encode(), b"abc ", bytes([draw.randrange(256)])])
             for _ in range(draw.randrange(1, 12))]
    return b"".join(parts)


def planes(draw):
    return "".join(character(draw) for _ in range(draw.randrange(1, 16)))


def composed(draw):
    return unicodedata.normalize(draw.choice(["NFC", "NFD", "NFKC", "NFKD"]), planes(draw) + real_text(draw)[:20] + "\u00e9")


def lines(count):
    draw = random.Random(20240511)
    makers = [real_text] * 4 + [words, runs, mixture, special, broken, planes, composed]
    found = [b"", b" ", b"\n", b"a", b"  a", b"\0", b"a\0b"]
    found += [library_text()[start:start + 20000].encode() for start in range(0, 1000000, 100000)]
    while len(found) < count:
        line = draw.choice(makers)(draw)
        found.append(line if isinstance(line, bytes) else line.encode())
    return found[:count]
