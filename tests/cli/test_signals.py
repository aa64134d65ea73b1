"""Ctrl-C saves and stops, a second one stops at once, and the run continues bit for bit."""
import os
import signal
import time
import unittest

from program import ProgramTest

CLOCK = ("seconds", "tokens_per_second", "time", "share", "eta")  # parts of keys that depend on the clock


class Signals(ProgramTest):
    def setUp(self):
        super().setUp()
        self.prepare()
        self.arguments = ["train", "config.yaml", "training.steps=300", "checkpoint.every=10", "layer_dropout.rate=0.3"]

    def losses(self, folder="run"):
        """step -> what was computed there; a step that was computed twice must have given the same."""
        found = {}
        for line in self.metrics(folder):
            rest = {key: value for key, value in line.items() if not any(part in key for part in CLOCK)}
            self.assertEqual(found.setdefault((line["step"], tuple(sorted(rest))), rest), rest)
        return found

    def wait_for_steps(self, process, count):
        """Until metrics.jsonl has that many lines, or the process ends."""
        path = self.path("run/metrics.jsonl")
        while process.poll() is None:
            if os.path.exists(path) and self.read("run/metrics.jsonl").count(b"\n") >= count:
                return
            time.sleep(0.002)

    def finish(self, process):
        _, err = process.communicate(timeout=120)
        return process.returncode, err.decode()

    def expected(self):
        self.good(*self.arguments, "run_dir=whole")
        return self.losses("whole")

    def test_first_signal_saves(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number):
                process = self.start(*self.arguments, *(["--resume"] if os.path.exists(self.path("run")) else []))
                steps = self.read("run/metrics.jsonl").count(b"\n") if os.path.exists(self.path("run")) else 0
                self.wait_for_steps(process, steps + 15)
                process.send_signal(number)
                status, err = self.finish(process)
                self.assertEqual(130, status, err)
                self.assertIn("checkpoint", err.lower())
        self.good(*self.arguments, "--resume")
        self.assertEqual(self.expected(), self.losses())

    def test_signal_saves_when_nobody_reads_the_progress_any_more(self):
        process = self.start(*self.arguments)
        self.wait_for_steps(process, 15)
        process.stderr.close()
        process.stdout.close()
        process.send_signal(signal.SIGINT)
        self.assertEqual(130, process.wait(120))
        newest = self.document("inspect", "run/checkpoints/" + self.checkpoints()[-1], "--json")
        self.assertGreaterEqual(newest["step"], 15)

    def test_second_signal_stops_at_once(self):
        process = self.start(*self.arguments, "training.micro_batch_size=2048", "training.steps=100000")
        time.sleep(1.0)
        self.assertIsNone(process.poll())
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        status, err = self.finish(process)
        self.assertLess(time.monotonic() - started, 5.0)
        self.assertIn(status, (130, -signal.SIGINT), err)


if __name__ == "__main__":
    unittest.main()
