"""Runs layerskip under mpirun for the tests of several processes: a folder with a token file and a config whose 12
micro-batches 1, 2, 3 and 4 processes can share."""
import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
import program

MPIRUN = os.environ.get("MPIRUN", "mpirun")
STEPS = 50

CONFIG = f"""\
model:
  hidden_size: 32
  intermediate_size: 48
  num_hidden_layers: 6
  num_attention_heads: 4
  num_key_value_heads: 2
data:
  tokens: tokens.h5
  sequence_length: 32
layer_dropout:
  rate: 0.4
  time: uniform
early_exit:
  scale: 0.5
  rotation: 3
training:
  steps: {STEPS}
  micro_batch_size: 3
  global_batch_size: 36
optimizer:
  learning_rate: 0.003
checkpoint:
  every: 20
  keep: 5
evaluation:
  every: 25
  batches: 5
parallel:
  bucket_mib: 0.1
  timeout: 120
precision: fp32
threads: 1
run_dir: run
"""


def environment():
    """More processes than processors: those that wait must give way."""
    return program.environment() | {
        "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_mpi_yield_when_idle": "1",
        "OMPI_MCA_btl_base_warn_component_unused": "0"}


def processes_of(mpirun):
    """rank -> process, of those that have begun."""
    found = {}
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as file:
                parent = int(file.read().rsplit(")", 1)[1].split()[1])
            with open(f"/proc/{entry}/environ", "rb") as file:
                rank = re.search(rb"(?:^|\0)OMPI_COMM_WORLD_RANK=(\d+)", file.read())
        except (OSError, ValueError, IndexError):
            continue
        if parent == mpirun.pid and rank:
            found[int(rank[1])] = int(entry)
    return found


class RanksTest(program.ProgramTest):
    """A folder a test, with config.yaml and tokens.h5 in it."""

    def setUp(self):
        super().setUp()
        self.write("config.yaml", CONFIG)
        self.prepare()

    def launch(self, size, *arguments, **options):
        """Starts `size` processes of the same command; returns mpirun."""
        return self.launch_each([arguments] * size, **options)

    def launch_each(self, commands, programs=None, **options):
        """One process a command line."""
        line = [MPIRUN, "--oversubscribe"]
        for rank, arguments in enumerate(commands):
            line += [":"] if rank > 0 else []
            line += ["-np", "1", programs[rank] if programs else program.PROGRAM, *map(str, arguments)]
        return subprocess.Popen(line, cwd=self.folder, env=environment(), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    def finish(self, process, timeout=600):
        """Exit status and what layerskip said; mpirun's own banners are left out."""
        out, err = process.communicate(timeout=timeout)
        return process.returncode, out.decode(), err.decode()

    def run_ranks(self, size, *arguments):
        """Must succeed; returns standard error."""
        status, _, err = self.finish(self.launch(size, *arguments))
        self.assertEqual(0, status, f"{size} processes, {arguments}: {err}")
        return err

    def refused(self, process, says):
        """All processes end with status 2 and one message, and nothing is written."""
        status, _, err = self.finish(process)
        said = [line for line in err.splitlines() if line.startswith("layerskip:")]
        self.assertEqual((2, 1), (status, len(said)), err)
        for part in [says] if isinstance(says, str) else says:
            self.assertIn(part, said[0])
        self.assertFalse(os.path.exists(self.path("run")), "a refused run made its folder")

    def curve(self, folder="run"):
        """Lines of metrics.jsonl without what the clock decides."""
        clocks = ("seconds", "tokens_per_second", "share_of_peak")
        return [{key: value for key, value in line.items() if key not in clocks} for line in self.metrics(folder)]

    def assert_same_curve(self, one, other, relative):
        """Every loss within `relative`; which exits were on, exactly."""
        self.assertEqual([line["step"] for line in one], [line["step"] for line in other])
        for a, b in zip(one, other):
            if "evaluation" in a:
                pairs = [(x["loss"], y["loss"]) for x, y in zip(a["evaluation"]["exits"], b["evaluation"]["exits"])]
                self.assertEqual(a["evaluation"]["tokens"], b["evaluation"]["tokens"])
            else:
                self.assertEqual(a["exit_loss"].keys(), b["exit_loss"].keys())
                # A bucket sent too early shows here first.
                norms = a["gradient_norm"], b["gradient_norm"]
                self.assertLessEqual(abs(norms[0] - norms[1]), 100 * relative * norms[0], f"step {a['step']}")
                pairs = [(a["loss"], b["loss"]), (a["objective"], b["objective"])]
                pairs += [(a["exit_loss"][exit], b["exit_loss"][exit]) for exit in a["exit_loss"]]
            for x, y in pairs:
                self.assertLessEqual(abs(x - y), relative * abs(x), f"step {a['step']}: {a} {b}")


def main():
    if subprocess.run([MPIRUN, "--version"], capture_output=True, check=False).returncode != 0:
        print("mpirun does not run here")
        sys.exit(77)
    unittest.main()


