"""The whole program on memory that the host may not touch (remote_exec.c): training with the recipe, resuming,
evaluation and decoding finish, and give to the bit what they give on the process's own memory."""
import os
import subprocess
import unittest

from program import ProgramTest, environment

REMOTE = os.environ["LAYERSKIP_REMOTE"]
RECIPE = ["layer_dropout.rate=0.3", "early_exit.scale=0.2", "training.micro_batch_size=2",
          "training.global_batch_size=4", "evaluation.every=6", "data.document_mask=true"]
UNTIMED = ("seconds", "tokens_per_second", "share_of_peak")


class Remote(ProgramTest):
    def remote(self, *arguments):
        """Must succeed on guarded memory; returns standard output."""
        done = subprocess.run([REMOTE, *map(str, arguments)], cwd=self.folder, env=environment(), capture_output=True,
                              text=True, check=False)
        self.assertEqual(0, done.returncode, f"{arguments}: {done.stderr}")
        self.assertIn("remote memory opened", done.stderr)
        return done.stdout

    def same_training(self, *overrides):
        options = [*RECIPE, *overrides]
        self.train("run_dir=near", *options)
        self.remote("train", "config.yaml", "run_dir=far", *options)
        os.unlink(self.path("far/checkpoints/step-00000012.h5"))
        self.remote("train", "config.yaml", "run_dir=far", *options, "--resume")
        untimed = [[{key: value for key, value in line.items() if key not in UNTIMED} for line in self.metrics(run)]
                   for run in ("near", "far")]
        self.assertEqual(untimed[0], untimed[1])
        self.assertGreater(len(untimed[0]), 2)

    def test_training_and_resuming(self):
        self.prepare()
        for number, overrides in enumerate((["precision=fp32"], ["precision=bf16", "training.recompute=true"])):
            with self.subTest(overrides=overrides):
                self.same_training(*overrides)
                self.decode_alike()
            for run in ("near", "far"):
                os.rename(self.path(run), self.path(f"{run}-{number}"))

    def decode_alike(self):
        data = ["--data", "tokens.h5", "--json"]
        self.assertEqual(self.good("eval", "--model", "near", *data), self.remote("eval", "--model", "far", *data))
        common = ["--prompt", "abc ", "--max-new-tokens", 20]
        for mode in ([], ["--exit-layer", 2, "--draft-tokens", 3], ["--decode", "prompt-lookup"],
                     ["--exit-layer", 1, "--temperature", 1.2, "--top-p", 0.9]):
            self.assertEqual(self.good("generate", "--model", "near", *common, *mode),
                             self.remote("generate", "--model", "far", *common, *mode))
        self.write("choice.yaml", "kind: multiple_choice\ndata: q.jsonl\nprompt: '{q}'\nchoices: [a, bc]\ngold: g\n")
        self.write("write.yaml", "kind: exact_match\ndata: q.jsonl\nprompt: '{q}'\nanswer: x\nmax_new_tokens: 9\n")
        self.write("q.jsonl", "".join(f'{{"q": "{"k" * i}", "g": 1}}\n' for i in range(1, 7)))
        for task in (["choice.yaml"], ["write.yaml", "--exit-layer", 2]):
            self.good("task", *task, "--model", "near", "--details", "near.jsonl")
            self.remote("task", *task, "--model", "far", "--details", "far.jsonl")
            self.assertEqual(self.read("near.jsonl"), self.read("far.jsonl"))
        self.remote("sweep", "--model", "far", "--data", "tokens.h5", "--prompts", 1, "--max-new-tokens", 6)


if __name__ == "__main__":
    unittest.main()
