"""The bytes that processes send are the lower bound, not only in the documentation."""
import json
import os
import re
import statistics
import subprocess

import ranks


class Bench(ranks.RanksTest):
    def test_bytes(self):
        for size in (2, 3):
            status, out, err = self.finish(self.launch(size, "bench", "comm", "--json", "--precision", "fp32"))
            self.assertEqual(0, status, err)
            ratios = [case["ratio"] for case in json.loads(out)["cases"] if "bytes sent" in case["name"]]
            self.assertEqual(2, len(ratios))
            self.simulated(out)
            for ratio in ratios:  # shards end on cache lines, so they are not all of one size
                self.assertAlmostEqual(1.0, ratio, delta=0.01)


    def simulated(self, out):
        """The simulator takes the first step's seconds from it, less the waiting."""
        self.write("bench.json", out)
        times = [case["milliseconds"] for case in json.loads(out)["cases"]
                 if "step of" in case["name"] or "during backward" in case["name"]]
        said = subprocess.run([os.path.join(ranks.program.SOURCE, "scripts", "simulate-ranks"), "--steps", "1",
                               "--measured", self.path("bench.json")], capture_output=True, text=True, check=True).stdout
        self.assertAlmostEqual((times[0] - times[1]) * 1e-3, float(re.search(r"median ([\d.]+) s", said)[1]), delta=1e-4)

    def test_steps_of_a_run_are_simulated(self):
        self.good("train", "config.yaml", "training.steps=5", "layer_dropout.rate=0", "evaluation.every=0")
        script = os.path.join(ranks.program.SOURCE, "scripts", "simulate-ranks")
        said = subprocess.run([script, "--steps", "1", "--measured", self.path("run/metrics.jsonl")],
                              capture_output=True, text=True, check=True).stdout
        seconds = sorted(36 * 32 / line["tokens_per_second"] for line in self.metrics() if line["step"] > 1)
        self.assertAlmostEqual(statistics.median(seconds), float(re.search(r"median ([\d.]+) s", said)[1]), delta=1e-4)
        self.assertEqual(7, len(re.findall(r"^ +\d+( +\d+\.\d %){4}$", said, re.MULTILINE)), said)
        refused = subprocess.run([script, "--measured", self.path("config.yaml")], capture_output=True, text=True,
                                 check=False)
        self.assertEqual((1, ""), (refused.returncode, refused.stdout))


if __name__ == "__main__":
    ranks.main()
