"""The program as nvcc and gcc built it, unmodified, on stand-ins of CUDA's libraries found through LD_LIBRARY_PATH: it
trains with dropout and exits on, saves, resumes, evaluates and decodes by self-speculation as the CPU backend does; and
whatever may fail on a GPU ends in one sentence with nothing lost."""
import json
import os
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../cli"))
from program import PROGRAM, ProgramTest, environment, snapshot  # noqa: E402 (the path comes first)

STANDINS = os.environ["LS_STANDINS"]
# Sums in another order: fp32 losses of 20 steps drift by rounding alone, bf16 ones by its 8 bits.
TOLERANCE = {"fp32": 2e-4, "bf16": 3e-2}
RECIPE = ["layer_dropout.rate=0.4", "early_exit.scale=0.3", "early_exit.rotation=2", "training.steps=20",
          "training.micro_batch_size=2", "training.global_batch_size=4", "data.sequence_length=12",
          "model.num_hidden_layers=3", "evaluation.every=10", "checkpoint.every=8", "checkpoint.keep=9", "log_every=1",
          "measure_peak=false", "schedule.warmup_steps=3"]
OFFLOAD = ["optimizer.offload=moments", "optimizer.lane_mib=0.01"]
UNTIMED = ("seconds", "tokens_per_second", "share_of_peak", "profile")


class Standin(ProgramTest):
    libraries = STANDINS

    def cuda(self, *arguments, **fakes):
        """Runs on the stand-ins; returns status, standard output, standard error."""
        log = self.path("standin.log")
        if os.path.exists(log):
            os.unlink(log)
        told = {f"HOSTCUDA_{name.upper()}": str(value) for name, value in fakes.items()}
        done = subprocess.run([PROGRAM, *map(str, arguments)], cwd=self.folder, capture_output=True, text=True,
                              check=False,
                              env=environment() | {"LD_LIBRARY_PATH": self.libraries, "HOSTCUDA_LOG": log} | told)
        with open(log, encoding="utf-8") as file:
            self.log = file.read()
        os.unlink(log)
        return done.returncode, done.stdout, done.stderr

    def good_cuda(self, *arguments, **fakes):
        """Must succeed, without misuse of the libraries and with all memory given back."""
        status, out, err = self.cuda(*arguments, **fakes)
        self.assertEqual(0, status, f"{arguments}: {err}")
        self.assertIn("0 reports, 0 allocations left", self.log)
        self.err = err
        return out

    def train_cuda(self, run, *overrides, **fakes):
        return self.good_cuda("train", "config.yaml", "device=cuda", f"run_dir={run}", *RECIPE, *overrides, **fakes)

    def close(self, one, two, tolerance):
        """Metrics alike: the same keys, numbers within the tolerance."""
        self.assertEqual(len(one), len(two))
        for a, b in zip(one, two):
            self.assertEqual(a.keys(), b.keys())
            for key in a.keys() - set(UNTIMED):
                self.close_values(a[key], b[key], tolerance, (a.get("step"), key))

    def close_values(self, a, b, tolerance, where):
        if isinstance(a, dict):
            self.assertEqual(a.keys(), b.keys())
            for key in a:
                self.close_values(a[key], b[key], tolerance, (where, key))
        elif isinstance(a, list):
            self.assertEqual(len(a), len(b))
            for x, y in zip(a, b):
                self.close_values(x, y, tolerance, where)
        elif isinstance(a, float) or isinstance(b, float):
            self.assertTrue(abs(a - b) <= tolerance * max(1.0, abs(a)), f"{where}: {a} and {b}")
        else:
            self.assertEqual(a, b, where)


    def waits_and_downloads_of_five_steps(self, *options):
        seen = []
        for steps in (3, 8):
            self.train_cuda(f"steps{steps}", "training.global_batch_size=6", f"training.steps={steps}", "evaluation.every=0",
                            "checkpoint.every=0", "schedule.warmup_steps=0", *options)
            shutil.rmtree(self.path(f"steps{steps}"))
            seen.append([int(number) for number in re.search(r"(\d+) waits, (\d+) downloads", self.log).groups()])
        return tuple(after - before for before, after in zip(*seen))

    def check_memory(self, *options):
        """What inspect tells is what the run allocated, and all that it allocated at any time, of the device's memory and
        of the host's that is pinned; returns the two, as told."""
        told = self.document("inspect", "--memory", "--json", "config.yaml", "device=cuda", *RECIPE, *options)
        device, pinned = told["memory"]["total"], told["host_memory"]["total"]
        self.train_cuda("measured", *options, "training.steps=2", "evaluation.every=0", "schedule.warmup_steps=0")
        self.assertIn(f"memory {device / 1048576.0:.1f} MiB", self.err)
        self.assertIn(f" {device} bytes at most, {pinned} pinned", self.log)
        shutil.rmtree(self.path("measured"))
        return device, pinned

    def untimed(self, run):
        return [{key: value for key, value in line.items() if key not in UNTIMED} for line in self.metrics(run)]

    def resume_from_8(self, run, *options, **fakes):
        """Throws away what came after step 8 and trains it again."""
        for step in (16, 20):
            os.unlink(self.path(f"{run}/checkpoints/step-{step:08d}.h5"))
        self.train_cuda(run, *options, "--resume", **fakes)


class Runs(Standin):
    def setUp(self):
        super().setUp()
        self.prepare()

    def compare(self, precision, *overrides):
        options = [f"precision={precision}", *overrides]
        self.train("run_dir=near", *RECIPE, *options)
        self.train_cuda("far", *options)
        self.close(self.metrics("near"), self.metrics("far"), TOLERANCE[precision])

    def test_fp32(self):
        biased = "model.attention_bias=true"
        self.compare("fp32", biased)
        self.check_memory("precision=fp32", biased)
        self.check_resume("precision=fp32", biased)
        self.check_decoding("fp32")

    def test_bf16(self):
        self.compare("bf16")
        self.check_memory("precision=bf16")
        self.check_decoding("bf16")
        # The other attention, in another order of work: near, and not a number more.
        self.train_cuda("builtin", "precision=bf16", "attention=builtin", seed=7)
        self.close(self.metrics("far"), self.metrics("builtin"), TOLERANCE["bf16"])
        self.assertNotEqual([line["loss"] for line in self.metrics("far") if "loss" in line],
                            [line["loss"] for line in self.metrics("builtin") if "loss" in line])

    def test_recompute_and_no_documents(self):
        self.compare("bf16", "training.recompute=true", "data.document_mask=false")

    def test_one_wait_a_step(self):
        """Three micro-batches, losses and the gradient's norm: one copy to the host, which waits for nothing else. The
        times of ops are read then."""
        for profile in ("false", "true"):
            self.assertEqual((5, 5), self.waits_and_downloads_of_five_steps(f"profile={profile}"), f"profile={profile}")

    def test_profile(self):
        """The ops of the CPU backend, as often, with times; a line tells of the update of the step before it. No bit
        changes."""
        self.train("run_dir=near", *RECIPE, "profile=true")
        self.train_cuda("far", "profile=true")
        self.assertRegex(self.err, r"a step took .* \(mean of 19 steps\)\n +op +calls +ms +share\n +\w+ +\d")
        self.assertNotIn("room", self.err)
        self.train_cuda("plain")
        lines = [[line for line in self.metrics(run) if "loss" in line] for run in ("near", "far", "plain")]
        for number, (near, far) in enumerate(zip(*lines[:2])):
            calls = [{name: op["calls"] for name, op in line["profile"]["ops"].items()} for line in (near, far)]
            if number == 0:
                self.assertEqual({"adamw"}, calls[0].keys() - calls[1].keys())
                calls[0].pop("adamw")
            self.assertEqual(*calls)
            times = [op["milliseconds"] for op in far["profile"]["ops"].values()]
            self.assertGreaterEqual(min(times), 0.0)
            self.assertAlmostEqual(sum(times), far["profile"]["ops_milliseconds"])
            self.assertGreater(sum(times), 0.0)
            self.assertAlmostEqual(1.0, sum(op["share"] for op in far["profile"]["ops"].values()))
        self.assertEqual(self.untimed("far"), self.untimed("plain"))

    def check_resume(self, *options):
        """In another order of streams too, a resumed run ends in the same bits."""
        shutil.copytree(self.path("far"), self.path("resumed"))
        self.resume_from_8("resumed", *options, seed=5)
        self.assertEqual(self.untimed("far"), self.untimed("resumed"))

    def check_decoding(self, precision):
        """Self-speculation gives the tokens of autoregression on the stand-ins, and in fp32 those of the CPU backend."""
        common = ["--model", "far", "--prompt", "abc ", "--max-new-tokens", 16, "--json", "--precision", precision]
        here = self.document("generate", *common)
        plain = self.document_cuda("generate", *common)
        for mode in (["--exit-layer", 2, "--draft-tokens", 3], ["--exit-layer", 1, "--draft-tokens", 7],
                     ["--decode", "prompt-lookup"]):
            fast = self.document_cuda("generate", *common, *mode)
            self.assertEqual(plain["tokens"], fast["tokens"], mode)
        if precision == "fp32":
            self.assertEqual(here["tokens"], plain["tokens"])
        self.check_one_read_a_round(common)
        losses = [[row["loss"] for row in document["exits"]] for document in
                  (self.document("eval", "--model", "far", "--data", "tokens.h5", "--json", "--precision", precision),
                   self.document_cuda("eval", "--model", "far", "--data", "tokens.h5", "--json", "--precision",
                                      precision))]
        self.close_values(losses[0], losses[1], TOLERANCE[precision], "eval")

    def check_one_read_a_round(self, common):
        """Greedy or sampled, a round is waited for once and copies one struct to the host."""
        for mode in (["--exit-layer", 2, "--draft-tokens", 3], ["--decode", "prompt-lookup"], ["--temperature", 0.9],
                     ["--exit-layer", 1, "--draft-tokens", 2, "--temperature", 0.9, "--top-p", 0.8]):
            seen = []
            for tokens in (3, 16):
                rounds = self.document_cuda("generate", *common, *mode, "--max-new-tokens", tokens)["rounds"]
                waits, downloads = re.search(r"(\d+) waits, (\d+) downloads", self.log).groups()
                seen.append((rounds, int(waits), int(downloads)))
            more = {after - before for before, after in zip(*seen)}
            self.assertEqual(1, len(more), (mode, seen))
            self.assertLess(0, more.pop())

    def document_cuda(self, *arguments):
        return json.loads(self.good_cuda(*arguments, "--device", "cuda"))


class Graphs(Standin):
    """Rounds of decoding as CUDA graphs: the tokens of rounds without, also where the text grows over the border of a
    split of attention, at 128; and one wait and one download a round."""

    def setUp(self):
        super().setUp()
        self.prepare()
        self.train("run_dir=far", *RECIPE, "precision=fp32", "model.max_position_embeddings=300")
        self.common = ["generate", "--model", "far", "--prompt", "abc " * 29, "--json", "--precision", "fp32"]

    def seen(self, *options):
        """The document, and waits, downloads and launches of graphs."""
        document = json.loads(self.good_cuda(*self.common, *options, "--device", "cuda"))
        return document, [int(number) for number in
                          re.search(r"(\d+) waits, (\d+) downloads, (\d+) graphs", self.log).groups()]

    def test_tokens(self):
        for mode in ([], ["--exit-layer", 1], ["--exit-layer", 2, "--draft-tokens", 3, "--temperature", 0.8],
                     ["--decode", "prompt-lookup"], ["--decode", "early-exit", "--exit-layer", 2]):
            options = [*mode, "--max-new-tokens", 24]
            here = self.document(*self.common, *options)
            plain, off = self.seen(*options, "--cuda-graphs", "off")
            graphs, on = self.seen(*options)
            self.assertEqual(24, len(graphs["tokens"]), mode)
            self.assertEqual([here["tokens"]] * 2, [plain["tokens"], graphs["tokens"]], mode)
            self.assertEqual(0, off[2])
            self.assertEqual(off[:2], on[:2])
            # The first round of a shape runs op by op: one of all drafts, and few of the last ones.
            self.assertLessEqual(max(1, graphs["rounds"] - 5), on[2], mode)
            self.assertLess(on[2], graphs["rounds"], mode)

    def test_one_read_a_round(self):
        for mode in ([], ["--exit-layer", 2, "--draft-tokens", 3]):
            (few, before), (many, after) = (self.seen(*mode, "--max-new-tokens", tokens) for tokens in (8, 24))
            rounds = many["rounds"] - few["rounds"]
            self.assertLess(0, rounds)
            self.assertEqual([rounds, rounds], [b - a for a, b in zip(before[:2], after[:2])])

    def test_asked_for_on_a_processor(self):
        status, _, err = self.call(*self.common, "--max-new-tokens", 2, "--cuda-graphs", "on")
        self.assertEqual(0, status)
        self.assertIn("nothing is recorded on device cpu", err)
        self.bad(*self.common, "--cuda-graphs", "yes", says=["--cuda-graphs", "'yes'"])


class Offload(Standin):
    """Moments in the host's memory, which pass through the device's in many lanes: the same bits, whatever stream is
    late or early (1, 2; 0: at random)."""

    def setUp(self):
        super().setUp()
        self.prepare()

    def check_bits(self, *options):
        """20 steps either way; then each run's second half again from the other's kind of moments."""
        self.train_cuda("near", *options)
        self.train_cuda("far", *options, *OFFLOAD, "checkpoint.background=true", streams=1)
        self.assertIn("moments are in the host's memory", self.err)
        self.assertEqual(self.untimed("near"), self.untimed("far"))
        wanted = self.untimed("near")
        self.resume_from_8("far", *options, streams=2)
        self.assertEqual(wanted, self.untimed("far"))
        self.resume_from_8("near", *options, *OFFLOAD, streams=2)
        self.assertEqual(wanted, self.untimed("near"))

    def test_fp32(self):
        self.check_bits("precision=fp32")

    def test_bf16(self):
        self.check_bits("precision=bf16")
        near, pinned = self.check_memory("precision=bf16")
        far, pinned_too = self.check_memory("precision=bf16", *OFFLOAD)
        places = 3 * 2 * 4 * 2624  # 0.01 MiB of a moment in whole lines
        self.assertEqual(near - far + places, pinned_too - pinned)

    def test_one_wait_a_step(self):
        self.assertEqual((5, 5 + 5 * self.lanes()), self.waits_and_downloads_of_five_steps(*OFFLOAD, "profile=true"))
        self.assertNotIn("room", self.err)

    def lanes(self):
        """Copies to the host that bring moments home."""
        told = self.document("inspect", "--memory", "--json", "config.yaml", "device=cuda", *RECIPE, *OFFLOAD)
        moments = [block["bytes"] for block in told["host_memory"]["blocks"] if "moments" in block["what"]]
        return sum(-(-size // (4 * 2624)) for size in moments)

    def test_on_the_cpu_it_means_nothing(self):
        self.train("run_dir=near", *RECIPE)
        self.train("run_dir=far", *RECIPE, *OFFLOAD)
        self.assertEqual(self.untimed("near"), self.untimed("far"))


class Failures(Standin):
    """Everything that may be wrong with a GPU: one sentence, status 2, nothing lost."""

    def setUp(self):
        super().setUp()
        self.prepare()

    def refused(self, *says, before=(), arguments=(), **fakes):
        present = snapshot(self.folder)
        status, out, err = self.cuda("train", "config.yaml", "device=cuda", "run_dir=far", *RECIPE, *arguments, **fakes)
        lines = [line for line in err.splitlines() if not any(word in line for word in before)]
        self.assertEqual((2, 1, ""), (status, len(lines), out), err)
        self.assertRegex(lines[0], r"^layerskip: \S.*[^\s.]$")
        for part in says:
            self.assertIn(part, lines[0])
        self.assertIn("0 reports", self.log)
        self.assertEqual(present, snapshot(self.folder))

    def test_no_driver(self):
        self.refused("no NVIDIA driver", "device=cpu", driver=0)

    def test_old_driver(self):
        self.refused("driver is for CUDA 12.4", "CUDA 13.", "update the driver", driver=12040)

    def test_no_device(self):
        self.refused("no NVIDIA GPU is visible", devices=0)

    def test_index(self):
        self.refused("device_index 2 is out of range", "2 GPUs are visible", arguments=["device_index=2"], devices=2)

    def test_architecture(self):
        self.refused("compute capability 7.5", "8.0 and later", capability=75)

    def test_too_little_memory(self):
        self.refused("out of GPU memory", "needs", "training.micro_batch_size", "optimizer.offload: moments", memory=1)

    def test_too_little_pinned_memory(self):
        """Enough for what every run has pinned, and no moment more."""
        self.refused("cannot pin", "the first moments", "optimizer.offload: none", arguments=OFFLOAD, pinned=16)

    def interrupted(self, failure, expected, says, *options):
        """A call fails in the middle of a step after the first checkpoint: the run continues from there, bit for bit."""
        self.train_cuda("whole")
        shutil.copytree(self.path("whole"), self.path("far"))
        for step in (16, 20):
            os.unlink(self.path(f"far/checkpoints/step-{step:08d}.h5"))
        before = self.read("far/checkpoints/step-00000008.h5")
        status, _, err = self.cuda("train", "config.yaml", "device=cuda", "run_dir=far", *RECIPE, *options, "--resume",
                                   fail_in=2500, failure=failure)
        last = [line for line in err.splitlines() if line.startswith("layerskip: ")]
        self.assertEqual((expected, 1), (status, len(last)), err)
        for part in says:
            self.assertIn(part, last[0])
        self.assertIn("the last good checkpoint is far/checkpoints/step-", last[0])
        self.assertEqual(before, self.read("far/checkpoints/step-00000008.h5"))
        self.train_cuda("far", "--resume")
        self.assertEqual(self.untimed("whole"), self.untimed("far"))

    def test_out_of_memory_in_a_step(self):
        self.interrupted(2, 2, ["out of GPU memory"])

    def test_failure_in_a_step(self):
        self.interrupted(999, 75, [" failed "])  # the GPU, or the library that the call was made by

    def test_failure_with_moments_on_their_way(self):
        self.interrupted(999, 75, [" failed "], *OFFLOAD)


class Absent(Standin):
    """Libraries that are not there, or not what they should be, are lost with a word; the rest works."""

    def setUp(self):
        super().setUp()
        self.prepare()
        self.libraries = self.path("libraries")
        os.mkdir(self.libraries)
        shutil.copy(os.path.join(STANDINS, "libcudart.so.13"), self.libraries)
        for name in ("libcublasLt.so.13", "libcudnn.so.9"):
            self.write(f"libraries/{name}", "not a library")

    def test_without_libraries(self):
        self.train_cuda("far", "precision=bf16")
        self.assertIn("no cuBLASLt", self.err)
        self.assertIn("built-in kernels", self.err)
        self.assertIn("no cuDNN", self.err)
        self.train("run_dir=near", *RECIPE, "precision=bf16")
        self.close(self.metrics("near"), self.metrics("far"), TOLERANCE["bf16"])


if __name__ == "__main__":
    unittest.main()
