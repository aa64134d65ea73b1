"""The number of processes changes neither the loss curve nor what a checkpoint holds."""
import json
import os
import shutil

import ranks

CLOSE = 1e-5


class SameResult(ranks.RanksTest):
    def test_one_to_four_processes(self):
        self.good("train", "config.yaml", "run_dir=alone")
        alone = self.curve("alone")
        self.assertEqual(ranks.STEPS + 2, len(alone))
        self.assertLess(alone[-2]["loss"], 0.8 * alone[0]["loss"])
        for size in (1, 2, 3, 4):
            said = self.run_ranks(size, "train", "config.yaml", f"run_dir=run{size}")
            self.assert_same_curve(alone, self.curve(f"run{size}"), 0.0 if size == 1 else CLOSE)
            self.assertEqual(1, said.count("trained 50 steps"), said)
        # The same number of processes: the same bits, in the file too (which names its folder).
        self.run_ranks(3, "train", "config.yaml", "run_dir=runB")
        self.assertEqual(self.curve("run3"), self.curve("runB"))
        self.assertEqual(self.read("run3/checkpoints/step-00000050.h5").replace(b"run3", b"runB"),
                         self.read("runB/checkpoints/step-00000050.h5"))

    def test_every_sharding(self):
        self.good("train", "config.yaml", "run_dir=alone")
        alone = self.curve("alone")
        for sharding in ("none", "optimizer", "gradients"):
            for bucket in (0.01, 64):
                folder = f"{sharding}-{bucket}"
                self.run_ranks(3, "train", "config.yaml", f"run_dir={folder}", f"parallel.sharding={sharding}",
                               f"parallel.bucket_mib={bucket}")
                self.assert_same_curve(alone, self.curve(folder), CLOSE)

    def test_checkpoints_load_on_any_number(self):
        short = ("training.steps=24", "checkpoint.every=16", "evaluation.every=0")
        self.good("train", "config.yaml", "run_dir=alone", *short)
        alone = self.curve("alone")
        for before in (1, 2, 3, 4):
            self.run_ranks(before, "train", "config.yaml", "run_dir=first", *short)
            os.remove(self.path("first/checkpoints/step-00000024.h5"))
            for after in (1, 2, 3, 4):
                shutil.rmtree(self.path("run"), ignore_errors=True)
                shutil.copytree(self.path("first"), self.path("run"))
                self.run_ranks(after, "train", "config.yaml", *short, "--resume")
                self.assert_same_curve(alone, self.curve(), CLOSE)
            shutil.rmtree(self.path("first"))

    def test_records(self):
        """Samples of fine-tuning records, which hold targets in different numbers, and held-out ones."""
        records = ({"prompt": "a" * (i % 11) + ":", "completion": "abcdefgh"[:1 + i * i % 7]} for i in range(600))
        self.write("pairs.jsonl", "\n".join(map(json.dumps, records)))
        self.good("prepare", "--records", "--tokenizer", "bytes", "--validation", "0.1", "--out", "sft.h5",
                  "pairs.jsonl")
        short = ("data.tokens=sft.h5", "training.steps=12", "evaluation.every=6")
        self.good("train", "config.yaml", "run_dir=alone", *short)
        self.run_ranks(2, "train", "config.yaml", "run_dir=two", *short)
        alone = self.curve("alone")
        self.assertEqual(14, len(alone))
        self.assert_same_curve(alone, self.curve("two"), CLOSE)

    def test_bf16(self):
        self.run_ranks(1, "train", "config.yaml", "run_dir=one", "precision=bf16")
        self.run_ranks(3, "train", "config.yaml", "run_dir=three", "precision=bf16")
        self.assert_same_curve(self.curve("one"), self.curve("three"), 2e-2)
        self.run_ranks(2, "train", "config.yaml", "run_dir=from", "precision=bf16", "training.steps=4",
                       "init_from=three")
        self.run_ranks(1, "train", "config.yaml", "run_dir=from1", "precision=bf16", "training.steps=4",
                       "init_from=three")
        self.assert_same_curve(self.curve("from1"), self.curve("from"), 2e-2)


if __name__ == "__main__":
    ranks.main()
