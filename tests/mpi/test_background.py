"""Saving in the background writes what an ordinary save writes, is waited for, and fails as an ordinary save does."""
import os
import re

import ranks

BACKGROUND = "checkpoint.background=true", "checkpoint.every=8", "training.steps=20"
ORDINARY = "checkpoint.background=false", "checkpoint.every=8", "training.steps=20"


class Background(ranks.RanksTest):
    def bare(self, folder, step):
        """The bytes of a checkpoint without the config's text, which tells how it was written and where."""
        content = self.read(f"{folder}/checkpoints/step-{step:08d}.h5")
        text = self.read(f"{folder}/config.yaml")
        self.assertEqual(1, content.count(text))
        return content.replace(text, b" " * len(text))

    def test_the_same_file(self):
        for size in (1, 2, 3):
            for sharding in ("none", "optimizer") if size == 2 else ("optimizer",):
                # The folders' names make up for the length of true and false.
                one, other = f"a{size}{sharding}", f"ab{size}{sharding}"
                sharded = f"parallel.sharding={sharding}"
                self.run_ranks(size, "train", "config.yaml", f"run_dir={one}", *ORDINARY, sharded)
                said = self.run_ranks(size, "train", "config.yaml", f"run_dir={other}", *BACKGROUND, sharded)
                self.assertEqual(["8", "16"], re.findall(r"step (\d+): saved .* while training went on", said), said)
                self.assertEqual(self.curve(one), self.curve(other))
                for step in (8, 16, 20):
                    self.assertEqual(self.bare(one, step), self.bare(other, step), f"{size}, {sharding}, {step}")

    def test_it_continues(self):
        self.good("train", "config.yaml", "run_dir=alone", *ORDINARY)
        for before, after in ((1, 3), (3, 2)):
            folder = f"run{before}"
            self.run_ranks(before, "train", "config.yaml", f"run_dir={folder}", *BACKGROUND)
            os.remove(self.path(f"{folder}/checkpoints/step-00000020.h5"))
            self.run_ranks(after, "train", "config.yaml", f"run_dir={folder}", *BACKGROUND, "--resume")
            self.assert_same_curve(self.curve("alone"), self.curve(folder), 1e-5)

    def test_a_failed_write_on_one(self):
        """Rank 0 can make the file, rank 1 cannot write beyond 10 MiB of its 14."""
        self.write("limited", f"#!/bin/sh\nulimit -f {10 * 1024 * 2}\nexec '{ranks.program.PROGRAM}' \"$@\"\n")
        os.chmod(self.path("limited"), 0o700)
        train = ["train", "config.yaml", "model.hidden_size=192", "model.intermediate_size=288", "training.steps=40",
                 "checkpoint.every=2", "checkpoint.background=true", "evaluation.every=0"]
        status, _, err = self.finish(self.launch_each([train] * 2, [ranks.program.PROGRAM, "./limited"]))
        said = [line for line in err.splitlines() if line.startswith("layerskip:")]
        self.assertEqual((2, 1), (status, len(said)), err)
        self.assertRegex(said[0], r"rank 1 on \S+: cannot write \S+step-00000002.h5.tmp.*; no checkpoint was saved before")
        self.assertEqual([], os.listdir(self.path("run/checkpoints")))

    def test_memory_is_told(self):
        told = self.document("inspect", "--memory", "--json", "config.yaml", "checkpoint.background=true")
        parameters = self.document("inspect", "config.yaml", "--json")["parameters"]
        self.assertAlmostEqual(12 * parameters, told["host_memory"]["total"], delta=0.05 * 12 * parameters)


if __name__ == "__main__":
    ranks.main()
