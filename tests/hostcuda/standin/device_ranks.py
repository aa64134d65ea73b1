"""Several processes of the program as nvcc built it, each on a stand-in GPU of its own, for the tests of NCCL."""
import os
import re
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(here, "../../mpi"), os.path.join(here, "../../cli")]
import program  # noqa: E402 (the path comes first)
import ranks  # noqa: E402
import test_faults  # noqa: E402,F401

STANDINS = os.environ["LS_STANDINS"]
STEPS = 12
CONFIG = f"""\
model:
  hidden_size: 16
  intermediate_size: 24
  num_hidden_layers: 3
  num_attention_heads: 2
  num_key_value_heads: 1
data:
  tokens: tokens.h5
  sequence_length: 8
layer_dropout:
  rate: 0.4
  time: uniform
early_exit:
  scale: 0.5
  rotation: 3
training:
  steps: {STEPS}
  micro_batch_size: 2
  global_batch_size: 24
optimizer:
  learning_rate: 0.003
checkpoint:
  every: 4
  keep: 9
evaluation:
  every: 6
  batches: 5
parallel:
  bucket_mib: 0.006
  timeout: 120
log_every: 1
measure_peak: false
precision: fp32
threads: 1
run_dir: run
"""


class DeviceRanksTest(ranks.RanksTest):
    libraries = STANDINS

    def setUp(self):
        super().setUp()
        self.write("config.yaml", CONFIG)
        self.log = ""

    def device_environment(self, fakes):
        told = {f"HOSTCUDA_{name.upper()}": str(value) for name, value in fakes.items() if name != "visible"}
        if "visible" in fakes:
            told["CUDA_VISIBLE_DEVICES"] = fakes["visible"]
        return {"LD_LIBRARY_PATH": self.libraries, "HOSTCUDA_LOG": self.path("standin.log"), "HOSTCUDA_DEVICES": "4"} | told

    def launch_device(self, size, *arguments, each=None, **fakes):
        """Starts processes on stand-in GPUs; each: what single ranks are told besides, by rank."""
        return self.launch_program(program.PROGRAM, [["train", "config.yaml", "device=cuda", *arguments]] * size,
                                   each, **fakes)

    def launch_program(self, path, commands, each=None, **fakes):
        lines = []
        for rank, command in enumerate(commands):
            told = self.device_environment(fakes | (each or {}).get(rank, {}))
            lines.append([f"{name}={value}" for name, value in told.items()] + [path, *command])
        return self.launch_each(lines, ["/usr/bin/env"] * len(commands))

    def run_device(self, size, *arguments, **fakes):
        """Must succeed without misuse of the libraries, with all memory given back; returns standard error."""
        self.forget_log()
        status, _, err = self.finish(self.launch_device(size, *arguments, **fakes))
        self.assertEqual(0, status, f"{size} processes, {arguments}: {err}")
        self.log = self.read("standin.log").decode()
        self.assertEqual(size, self.log.count("0 reports, 0 allocations left"), self.log)
        return err

    def forget_log(self):
        if os.path.exists(self.path("standin.log")):
            os.unlink(self.path("standin.log"))

    def aborted(self):
        """Ranks that have aborted their communicator."""
        log = self.read("standin.log").decode() if os.path.exists(self.path("standin.log")) else ""
        return set(map(int, re.findall(r"rank (\d+) aborted NCCL", log)))

    def received(self):
        """Bytes that NCCL brought each rank, in their order."""
        return [int(count) for _, count in sorted(re.findall(r"rank (\d+) left NCCL after (\d+) bytes", self.log))]
