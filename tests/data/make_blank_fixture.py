"""Writes blank_fixture.json: hard texts with the ids that the `sentencepiece` (0.2.3) and `tokenizers` (0.23.3) libraries
give for them, and the texts they make of ids, for small tokenizers of the families that write a blank as U+2581.

Run it with a Python that has both libraries:  python make_blank_fixture.py"""
import json
import pathlib
import random
import tempfile

import compare_tokenizers
import generate_lines
import train_tokenizers

HERE = pathlib.Path(__file__).resolve().parent
FAMILIES = ["sentencepiece", "sentencepiece_plain", "sentencepiece_user", "llama2", "mistral", "codellama",
            "metaspace_words", "metaspace_never"]
SIZES = {"sentencepiece": 700, "sentencepiece_plain": 500, "sentencepiece_user": 600}


def main():
    for name, size in SIZES.items():
        train_tokenizers.MODELS[name] = {**train_tokenizers.MODELS[name], "vocab_size": size, "character_coverage": 0.99}
    lines = generate_lines.lines(170)
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for family, path in train_tokenizers.train(folder, FAMILIES):
            encode, decode, size = compare_tokenizers.library(str(path))
            ids = encode([line.decode("utf-8", "replace") for line in lines])
            asked = compare_tokenizers.random_ids(ids, size, 70, random.Random(3))
            answers = [text.encode().hex() for text in decode(asked)]
            content = path.read_bytes().hex() if path.suffix == ".model" else json.loads(path.read_text("utf-8"))
            cases.append({"name": family, "file": content, "ids": ids, "asked": asked, "answers": answers})
    # JSON readers of C stop at NUL, so texts are given in hexadecimal.
    rows = ['{"texts": [', ",\n".join(json.dumps(line.hex()) for line in lines), '], "cases": [',
            ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases), "]}\n"]
    (HERE / "blank_fixture.json").write_text("\n".join(rows), encoding="ascii")


if __name__ == "__main__":
    main()
