"""Evaluation and sweeps shared by processes find what one alone finds, say a failure once, and end together."""
import json
import os
import re
import signal
import time

import ranks

HELD_OUT = "--model", "run", "--data", "more.h5"
SWEEP = "sweep", *HELD_OUT, "--json", "--prompt-tokens", "7", "--max-new-tokens", "11"
CLOCKS = ("threads", "processes", "tokens_per_second", "autoregressive_tokens_per_second", "speedup", "speedup_low",
          "speedup_high", "best")


def without_clocks(value):
    if isinstance(value, dict):
        return {key: without_clocks(entry) for key, entry in value.items() if key not in CLOCKS}
    return [without_clocks(entry) for entry in value] if isinstance(value, list) else value


def takes_signals(process):
    """Whether a signal asks it to stop by now: it ignores SIGXFSZ from then on (core/interrupt.h)."""
    try:
        with open(f"/proc/{process}/status", encoding="ascii", errors="replace") as file:
            ignored = re.search(r"^SigIgn:\s*([0-9a-f]+)", file.read(), re.MULTILINE)
    except OSError:
        return False
    return ignored is not None and int(ignored[1], 16) >> (signal.SIGXFSZ - 1) & 1 == 1


class Evaluation(ranks.RanksTest):
    def setUp(self):
        super().setUp()
        # Seven passes of the held-out split, the last of them short.
        self.write("more.txt", self.read("text.txt") * 4)
        self.good("prepare", "--tokenizer", "bytes", "--validation", "0.5", "--out", "more.h5", "more.txt")
        self.good("train", "config.yaml", "training.steps=6", "checkpoint.every=6", "evaluation.every=0")

    def document_of(self, size, *arguments):
        """What rank 0 alone prints."""
        status, out, err = self.finish(self.launch(size, *arguments))
        self.assertEqual(0, status, err)
        return json.loads(out)

    def said_once(self, process, status, says):
        ended, out, err = self.finish(process)
        said = [line for line in err.splitlines() if line.startswith("layerskip:")]
        self.assertEqual((status, 1, ""), (ended, len(said), out), err)
        self.assertIn(says, said[0])

    def test_the_same_losses(self):
        # Samples of 31 tokens leave a short one; 150 are three passes.
        for options in (("--sequence-length", "31"), ("--max-samples", "150", "--no-document-mask"),
                        ("--sequence-length", "2")):
            command = "eval", *HELD_OUT, "--json", *options
            alone = self.document(*command)
            for size in (2, 3):
                self.assertEqual(alone, self.document_of(size, *command), options)

    def test_the_same_sweep(self):
        command = *SWEEP, "--prompts", "7", "--repeats", "1", "--exit-layers", "1,3,5"
        alone = self.document(*command)
        for size in (2, 3):
            shared = self.document_of(size, *command, "--out", f"sweep{size}.json")
            self.assertEqual(without_clocks(alone), without_clocks(shared))
            self.assertEqual((size, 7), (shared["processes"], shared["prompts"]))
            self.assertEqual(shared, json.loads(self.read(f"sweep{size}.json")))
            for setting in shared["settings"]:
                self.assertGreater(setting["speedup"], 0)
                self.assertLessEqual(setting["speedup_low"], setting["speedup_high"])

    def test_time_ends_on_all(self):
        document = self.document_of(3, *SWEEP, "--prompts", "4000", "--max-seconds", "1")
        self.assertLess(document["prompts"], 4000)
        self.assertEqual(0, document["prompts"] % 3)
        self.assertEqual(document["prompts"] * 11, document["settings"][0]["tokens"])

    def test_failures_are_said_once(self):
        self.said_once(self.launch(3, "eval", "--model", "run", "--data", "nowhere.h5"), 2, "nowhere.h5")
        self.said_once(self.launch(2, "eval", "--model", "run"), 2, "--data")
        self.said_once(self.launch(2, "sweep", *HELD_OUT, "--exit-layers", "9"), 2, "9")
        self.said_once(self.launch_each([["eval", *HELD_OUT], ["eval", *HELD_OUT, "--max-samples", "2"]]), 2,
                       "the command line is not that of rank 0")
        self.said_once(self.launch_each([["sweep", *HELD_OUT], ["sweep", *HELD_OUT, "--promptz", "2"]]), 2,
                       "rank 1")

    def in_the_middle(self, number):
        """Of a long sweep, rank 1 gets a signal; returns what was said and the status."""
        process = self.launch(3, *SWEEP, "--prompts", "100000")
        found = {}
        while len(found) < 3 and process.poll() is None:
            found = ranks.processes_of(process)
        while process.poll() is None and not all(map(takes_signals, found.values())):
            time.sleep(0.05)
        time.sleep(1)
        os.kill(found[1], number)
        status, out, err = self.finish(process, 30)
        self.assertEqual("", out)
        return status, err

    def test_a_signal_to_one_ends_all(self):
        status, err = self.in_the_middle(signal.SIGUSR1)
        self.assertEqual((130, 1), (status, err.count("the sweep was interrupted")), err)

    def test_a_lost_process_ends_all(self):
        status, err = self.in_the_middle(signal.SIGKILL)
        self.assertNotEqual(0, status)
        self.assertRegex(err, r"lost rank 1|process rank 1 with PID")

    def test_other_commands_run_once(self):
        status, out, err = self.finish(self.launch(3, "generate", "--model", "run", "--max-new-tokens", "4", "--json",
                                                   "--prompt", "ab"))
        self.assertEqual(0, status, err)
        self.assertEqual(4, len(json.loads(out)["tokens"]))
        self.assertEqual(1, err.count("generate is the work of one process; the other 2 end at once"), err)
        status, out, err = self.finish(self.launch(2, "bench", "flying"))
        self.assertEqual((2, 1), (status, err.count("not a benchmark")), err)

    def test_help_is_printed_once(self):
        for command in ("train", "eval", "sweep", "bench"):
            status, out, err = self.finish(self.launch(2, command, "--help"))
            self.assertEqual((0, 1, ""), (status, out.count("Usage: "), err), command)


if __name__ == "__main__":
    ranks.main()
