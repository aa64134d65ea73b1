"""Encoding and decoding equal the `tokenizers` and `sentencepiece` libraries, id for id:

    python compare_tokenizers.py TOKENIZE_LINES [--lines N] [--family NAME ...] [--keep FOLDER] [--file FILE ...]

Tokenizers with the exact configuration of each family are trained here, on text every Debian has; hard lines are
generated (generate_lines.py), N for each family, a quarter of them for variants of one. --file compares a tokenizer.json or tokenizer.model of yours instead. Needs both libraries."""
import argparse
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

import sentencepiece
import tokenizers

import generate_lines
import train_tokenizers


def pack(records, code):
    parts = []
    for record in records:
        parts.append(struct.pack("=I", len(record)))
        parts.append(record if code is None else struct.pack(f"={len(record)}i", *record))
    return b"".join(parts)


def unpack(data, width):
    records, at = [], 0
    while at < len(data):
        count, = struct.unpack_from("=I", data, at)
        at += 4
        records.append(data[at:at + count] if width == 1 else list(struct.unpack_from(f"={count}i", data, at)))
        at += count * width
    return records


def run(program, path, mode, records):
    code, width = (None, 4) if mode == "encode" else ("i", 1)
    result = subprocess.run([program, path, mode], input=pack(records, code), capture_output=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{path}: {result.stderr.decode()}")
    found = unpack(result.stdout, width)
    if len(found) != len(records):
        sys.exit(f"{path}: {len(found)} answers to {len(records)} questions")
    return found


def complain(family, what, items, ours, theirs):
    wrong = [i for i in range(len(items)) if ours[i] != theirs[i]]
    for i in wrong[:5]:
        print(f"{family}: {what} differs for {items[i]!r}\n  ours   {ours[i]}\n  theirs {theirs[i]}")
    if wrong:
        print(f"{family}: {len(wrong)} of {len(items)} {what}s differ")
    return len(wrong)


def library(path):
    """(encode, decode) of the Python library for a file."""
    if path.endswith(".model"):
        processor = sentencepiece.SentencePieceProcessor(model_file=path)
        return (lambda texts: processor.encode(texts, num_threads=2)), (lambda ids: processor.decode(ids)), \
            processor.vocab_size()
    tokenizer = tokenizers.Tokenizer.from_file(path)

    def encode(texts):
        return [found.ids for found in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(ids):
        return tokenizer.decode_batch(ids, skip_special_tokens=False)
    return encode, decode, tokenizer.get_vocab_size()


def random_ids(encoded, size, count, draw):
    """Ids to decode: what encoding gave, and sequences that no text gives."""
    chosen = list(encoded[:count])
    for i in range(count // 4):
        if i % 2:
            chosen.append([draw.randrange(size) for _ in range(draw.randrange(0, 12))])
        else:
            line = encoded[draw.randrange(len(encoded))]
            chosen.append([draw.choice(line) if line else 0 for _ in range(draw.randrange(0, 9))])
    return chosen


def compare(program, family, path, lines):
    encode, decode, size = library(path)
    texts = [line.decode("utf-8", "replace") for line in lines]
    theirs = encode(texts)
    wrong = complain(family, "encoding", lines, run(program, path, "encode", lines), theirs)
    ids = random_ids(theirs, size, len(lines) // 2, random.Random(5))
    ours = [text.decode("utf-8") for text in run(program, path, "decode", ids)]
    return wrong + complain(family, "decoding", ids, ours, decode(ids))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--lines", type=int, default=100000)
    parser.add_argument("--family", action="append")
    parser.add_argument("--keep")
    parser.add_argument("--file", action="append")
    options = parser.parse_args()
    lines = generate_lines.lines(options.lines)
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(options.keep or scratch)
        folder.mkdir(exist_ok=True)
        files = [(path, path) for path in options.file] if options.file else \
            train_tokenizers.train(folder, options.family)
        for family, path in files:
            count = options.lines if options.file or family in train_tokenizers.NAMED else options.lines // 4
            found = compare(options.program, family, str(path), lines[:count])
            print(f"{family}: {count} lines, {found} differences", flush=True)
            wrong += found
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
