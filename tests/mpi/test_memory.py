"""Sharing out takes the memory from each process that the formula says, by the high-water mark."""
import re

import ranks

PROCESSES = 4
# 8 bytes of moments a parameter; of 4 bytes of gradients what is not the own share, less a few buckets on their way.
SHAPE = ("model.hidden_size=512", "model.intermediate_size=2048", "model.num_hidden_layers=8",
         "model.num_attention_heads=8", "data.sequence_length=16", "training.steps=1", "training.micro_batch_size=1",
         f"training.global_batch_size={PROCESSES}", "parallel.bucket_mib=1", "evaluation.every=0")


class Memory(ranks.RanksTest):
    def peak(self, sharding):
        """Most MiB of any process, and MiB that a byte a parameter makes."""
        said = self.run_ranks(PROCESSES, "train", "config.yaml", f"run_dir={sharding}",
                              f"parallel.sharding={sharding}", *SHAPE)
        return (float(re.search(r"peak memory of a process: (\d+) MiB", said)[1]),
                float(re.search(r"([\d.]+) M parameters", said)[1]) * 1e6 / 2 ** 20)

    def test_high_water_mark(self):
        none, unit = self.peak("none")
        optimizer, _ = self.peak("optimizer")
        gradients, _ = self.peak("gradients")
        others = (PROCESSES - 1) / PROCESSES
        moments = 8 * unit * others
        self.assertAlmostEqual(moments, none - optimizer, delta=0.1 * moments)
        # A layer's gradients are whole until it is done, and the share is kept beside them.
        self.assertGreater(optimizer - gradients, 0.75 * 4 * unit * others)
        self.assertLess(optimizer - gradients, 1.05 * 4 * unit * others)


if __name__ == "__main__":
    ranks.main()
