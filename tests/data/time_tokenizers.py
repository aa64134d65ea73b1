"""Encoding speed beside the Python libraries', on the same text in one run:

    python time_tokenizers.py LAYERSKIP TOKENIZER... [--text FOLDER] [--repeats N]

The library encodes a batch of documents on one thread; `layerskip prepare` reads, encodes and writes the same documents on
two. They take turns; the best of N is shown, in MB of text a second, and how many times the processor time of one the other
takes, which other programs on the machine disturb less."""
import argparse
import os
import pathlib
import resource
import subprocess
import sysconfig
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import sentencepiece
import tokenizers


def encoder(path):
    if path.endswith(".model"):
        processor = sentencepiece.SentencePieceProcessor(model_file=path)
        return lambda texts: processor.encode(texts, num_threads=1)
    tokenizer = tokenizers.Tokenizer.from_file(path)
    return lambda texts: tokenizer.encode_batch_fast(texts, add_special_tokens=False)


def seconds(call):
    """(elapsed, of the processor), its own and that of the programs it starts."""
    def used():
        return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    start = time.perf_counter(), used()
    call()
    return time.perf_counter() - start[0], used() - start[1]


def best(times):
    return [min(column) for column in zip(*times)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("tokenizer", nargs="+")
    parser.add_argument("--text", default=sysconfig.get_paths()["stdlib"])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    found = sorted(path for path in pathlib.Path(options.text).rglob("*") if path.suffix in (".py", ".txt", ".rst"))
    with tempfile.TemporaryDirectory() as scratch:
        texts = []
        for number, path in enumerate(found):
            text = path.read_text("utf-8", "replace")
            if text and "\0" not in text:
                texts.append(text)
                pathlib.Path(scratch, f"{number:06}.txt").write_text(text, encoding="utf-8", newline="")
        size = sum(len(text.encode()) for text in texts) / 1e6
        print(f"{size:.1f} MB in {len(texts)} documents\n")
        print("| tokenizer | library, 1 thread | prepare, 2 threads | ratio | ratio of processor time |\n|---|---|---|---|---|")
        for path in options.tokenizer:
            encode = encoder(path)
            command = [options.program, "prepare", "--tokenizer", path, "--threads", "2", "--validation", "0",
                       "--out", f"{scratch}/tokens.h5", scratch]
            theirs, ours = [], []
            for _ in range(options.repeats):
                theirs.append(seconds(lambda: encode(texts)))
                ours.append(seconds(lambda: subprocess.run(command, check=True, capture_output=True)))
            them, us = best(theirs), best(ours)
            print(f"| {pathlib.Path(path).name} | {size / them[0]:.1f} MB/s | {size / us[0]:.1f} MB/s |"
                  f" {them[0] / us[0]:.1f} | {them[1] / us[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
