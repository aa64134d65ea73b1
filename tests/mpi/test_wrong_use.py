"""What cannot work is refused on all processes with one message, before anything is written."""
import os
import stat

import ranks


class WrongUse(ranks.RanksTest):
    def train(self, size, *overrides):
        return self.launch(size, "train", "config.yaml", *overrides)

    def test_a_batch_that_does_not_divide(self):
        self.refused(self.train(3, "training.global_batch_size=30"),
                     ["3 processes", "training.global_batch_size 30", "10 micro-batches"])

    def test_different_configs(self):
        self.refused(self.launch_each([["train", "config.yaml"], ["train", "config.yaml", "seed=2"]]),
                     ["rank 1", "seed differs"])
        self.refused(self.launch_each([["train", "config.yaml"], ["train", "config.yaml"],
                                       ["train", "config.yaml", "optimizer.beta1=0.8"]]),
                     ["rank 2", "optimizer.beta1 differs"])

    def test_a_bad_config_on_one(self):
        self.refused(self.launch_each([["train", "config.yaml"], ["train", "config.yaml", "training.stepz=2"]]),
                     ["rank 1", "training.stepz"])

    def test_different_programs(self):
        with open(ranks.program.PROGRAM, "rb") as file:
            self.write("other", file.read() + b"\0")
        os.chmod(self.path("other"), stat.S_IRWXU)
        self.refused(self.launch_each([["train", "config.yaml"]] * 2, [ranks.program.PROGRAM, "./other"]),
                     ["rank 1", "program"])

    def test_different_text(self):
        self.good("prepare", "--tokenizer", "bytes", "--validation", "0.1", "--out", "more.h5", "text.txt")
        self.refused(self.launch_each([["train", "config.yaml"], ["train", "config.yaml", "data.tokens=more.h5"]]),
                     ["rank 1", "data.tokens"])

    def test_a_file_that_is_not_there(self):
        self.refused(self.train(2, "data.tokens=nowhere.h5"), "nowhere.h5")
        self.refused(self.launch_each([["train", "config.yaml", "--resume"]] * 2), "holds no checkpoint")

    def test_a_run_that_is_there(self):
        self.run_ranks(2, "train", "config.yaml", "training.steps=2", "run_dir=before")
        status, _, err = self.finish(self.train(2, "run_dir=before"))
        self.assertEqual((2, 1), (status, err.count("holds a run already")), err)


if __name__ == "__main__":
    ranks.main()
