"""A number that is not finite on one process stops or skips the step on all, by choice."""
import os

import ranks

POISON = os.environ["RANK_POISON"]


class NotFinite(ranks.RanksTest):
    def test_one_process(self):
        for action in ("stop", "skip"):
            for sharding in ("none", "optimizer", "gradients"):
                arguments = ["config.yaml", f"training.not_finite={action}", f"parallel.sharding={sharding}"]
                status, _, err = self.finish(self.launch_each([arguments] * 3, [POISON] * 3))
                self.assertEqual(0, status, f"{arguments}: {err}")

    def test_a_run_that_diverges(self):
        wild = "optimizer.learning_rate=10", "optimizer.clip_norm=0", "optimizer.weight_decay=10"
        status, _, err = self.finish(self.launch(2, "train", "config.yaml", *wild, "evaluation.every=0", "checkpoint.every=0"))
        said = [line for line in err.splitlines() if line.startswith("layerskip:")]
        self.assertEqual((2, 1), (status, len(said)), err)
        self.assertIn("not finite", said[0])
        self.assertIn("no checkpoint was saved", said[0])


if __name__ == "__main__":
    ranks.main()
