"""The bytes that processes send are the lower bound, not only in the documentation."""
import json

import ranks


class Bench(ranks.RanksTest):
    def test_bytes(self):
        for size in (2, 3):
            status, out, err = self.finish(self.launch(size, "bench", "comm", "--json", "--precision", "fp32"))
            self.assertEqual(0, status, err)
            ratios = [case["ratio"] for case in json.loads(out)["cases"] if "bytes sent" in case["name"]]
            self.assertEqual(2, len(ratios))
            for ratio in ratios:  # shards end on cache lines, so they are not all of one size
                self.assertAlmostEqual(1.0, ratio, delta=0.01)


if __name__ == "__main__":
    ranks.main()
