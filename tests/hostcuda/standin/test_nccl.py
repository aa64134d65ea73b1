"""Training by several processes on GPUs, on stand-ins of CUDA's libraries and NCCL: the curve of one process, whatever
the order in which streams run; equal bits for equal numbers of processes; checkpoints for any number; a lost rank, a
failing GPU and a library that is not there end in one sentence."""
import ctypes
import json
import os
import re
import shutil
import signal
import tempfile
import time
import unittest

import device_ranks
import test_evaluation  # found by device_ranks
import test_namespaces
from device_ranks import STANDINS, STEPS, program, ranks, test_faults

# A model whose blocks do not fit where NCCL's rank fits.
OFFLOAD = ("optimizer.offload=moments", "optimizer.lane_mib=0.002")
LARGE = ("model.hidden_size=128", "model.intermediate_size=256")
POISON = os.environ["RANK_POISON"]
LATER = 120  # updates of a part of a bucket, in the first ten steps and after the first checkpoint
CPU_TOLERANCE = 2e-4  # sums in another order, over 12 steps


class Curves(device_ranks.DeviceRanksTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.kept = tempfile.TemporaryDirectory(prefix="layerskip-runs-")
        cls.addClassCleanup(cls.kept.cleanup)

    def plain(self, size):
        """The folder of a run by `size` processes, made once for all tests; what NCCL brought each."""
        name = f"of{size}"
        kept = os.path.join(self.kept.name, name)
        if not os.path.exists(kept):
            self.run_device(size, f"run_dir={name}", seed=size)
            self.write(f"{name}/received.json", json.dumps(self.received()))
            shutil.copytree(self.path(name), kept)
        elif not os.path.exists(self.path(name)):
            shutil.copytree(kept, self.path(name))
        return name

    def bits(self, folder):
        """All that a run has made, but for the clock and the config's text, which tells the folder."""
        names, text = self.checkpoints(folder), self.read(f"{folder}/config.yaml")
        files = [self.read(f"{folder}/checkpoints/{name}") for name in names]
        self.assertEqual([1] * len(files), [content.count(text) for content in files])
        return self.curve(folder), names, [content.replace(text, b" " * len(text)) for content in files]

    def test_any_number_of_processes(self):
        one = self.curve(self.plain(1))
        self.run_ranks(1, "train", "config.yaml", "device=cpu", "run_dir=near")
        self.assert_same_curve(one, self.curve("near"), CPU_TOLERANCE)
        parameters = json.loads(self.good("inspect", "--json", f"of1/checkpoints/step-{STEPS:08d}.h5"))["parameters"]
        for size in (2, 3, 4):
            self.assert_same_curve(one, self.curve(self.plain(size)), 1e-5)
            # The ring's bound: gradients there and weights back, in fp32 both, and the weights once at the start.
            received = json.loads(self.read(f"of{size}/received.json"))
            self.assertEqual(size, len(received))
            elements = sum(received) / (size - 1) / (8 * STEPS + 4)
            self.assertLess(parameters * 0.999, elements, size)
            # Parameters begin on cache lines, and each of 5 parts has equal shards of them.
            self.assertLess(elements, parameters * 1.03 + 5 * 64 * size, size)

    def test_equal_bits(self):
        """In another order of streams, where saves are written while training goes on."""
        plain = self.bits(self.plain(3))
        # The name makes up for the length of true and false.
        err = self.run_device(3, "run_dir=of33", "checkpoint.background=true", seed=9)
        self.assertEqual(["4", "8"], re.findall(r"step (\d+): saved .* while training went on", err), err)
        self.assertEqual(plain, self.bits("of33"))

    def test_moments_in_the_hosts_memory(self):
        """Each brings its own in lanes, with late streams: equal bits, and from either's checkpoint with the other; the
        host waits as often as without."""
        plain = self.curve(self.plain(3))
        self.run_device(3, "run_dir=home", "checkpoint.background=true", *OFFLOAD, streams=1)
        self.assertEqual(plain, self.curve("home"))
        for run, options in (("home", ()), ("of3", OFFLOAD)):
            for step in (8, 12):
                os.unlink(self.path(f"{run}/checkpoints/step-{step:08d}.h5"))
            self.run_device(3, f"run_dir={run}", "--resume", *options, streams=2)
            self.assertEqual(plain, self.curve(run), run)
        waits = []
        for steps in (2, 5):
            self.run_device(2, f"training.steps={steps}", "training.global_batch_size=8", "evaluation.every=0",
                            "checkpoint.every=0", "schedule.warmup_steps=0", f"run_dir={steps}", *OFFLOAD)
            waits.append(sorted(int(count) for count in re.findall(r"(\d+) waits", self.log)))
        self.assertEqual([3, 3], [after - before for before, after in zip(*waits)])

    def test_gradients_shared_out(self):
        """ZeRO-2 finds what ZeRO-1 does, to the same bits in every order of streams, wherever its moments are."""
        short = ("training.steps=6", "evaluation.every=0", "checkpoint.every=0", "schedule.warmup_steps=0",
                 "training.micro_batch_size=1", "training.global_batch_size=12")
        for name, options in (("tied", ["model.tie_word_embeddings=true"]),
                              ("apart", ["model.tie_word_embeddings=false", "model.num_hidden_layers=5"])):
            self.run_device(3, f"run_dir={name}", *short, *options)
            for streams, others in ((1, ()), (2, OFFLOAD)):
                self.run_device(3, f"run_dir={name}{streams}", "parallel.sharding=gradients", *short, *options, *others,
                                seed=streams, streams=streams)
                self.assert_same_curve(self.curve(name), self.curve(f"{name}{streams}"), 1e-5)
            self.assertEqual(self.curve(f"{name}1"), self.curve(f"{name}2"))

    def test_memory_of_gradients_shared_out(self):
        """What inspect tells is what is allocated at most; and that is 2 + 16/n bytes a parameter in bf16, and places for
        the gradients of two layers, the embedding and the head."""
        for tied, size in (("true", 3), ("false", 2)):
            options = ("device=cuda", "precision=bf16", "parallel.sharding=gradients", f"model.tie_word_embeddings={tied}")
            told = json.loads(self.good("inspect", "--memory", "--processes", str(size), "--json", "config.yaml",
                                        *options))["memory"]
            self.run_device(size, *options, f"run_dir={tied}", "training.steps=1", "evaluation.every=0",
                            "schedule.warmup_steps=0")
            self.assertEqual([told["total"]] * size, list(map(int, re.findall(r"(\d+) bytes at most", self.log))))
            blocks = {block["what"]: block["bytes"] for block in told["blocks"]}
            whole = 64 * size  # elements; every part is padded to it
            vocabulary, norm = 257 * 16, 64  # bytes, and the end of a text
            head = norm if tied == "true" else norm + vocabulary
            outside = -(-vocabulary // whole) * whole + -(-head // whole) * whole
            elements = blocks["the weights"] // 2
            for what in ("the first moments", "the second moments", "the master weights",
                         "this process's share of the gradients"):
                self.assertEqual(4 * elements // size, blocks[what], what)
            self.assertEqual(4 * (outside + 2 * ((elements - outside) // 3)), blocks["gradients on their way"])
            self.assertNotIn("the gradients", blocks)

    def test_sharding(self):
        one = self.curve(self.plain(1))
        self.run_device(2, "run_dir=two", "parallel.sharding=none")
        self.assert_same_curve(one, self.curve("two"), 1e-5)
        self.run_device(2, "run_dir=large", "parallel.bucket_mib=4")
        self.assert_same_curve(one, self.curve("large"), 1e-5)

    def test_bf16(self):
        self.run_device(1, "run_dir=one", "precision=bf16")
        self.run_device(2, "run_dir=two", "precision=bf16")
        self.assert_same_curve(self.curve("one"), self.curve("two"), 2e-3)

    def test_checkpoints_for_any_number(self):
        whole = self.curve(self.plain(2))
        for step in (8, 12):
            os.unlink(self.path(f"of2/checkpoints/step-{step:08d}.h5"))
        for size in (1, 3):
            shutil.copytree(self.path("of2"), self.path(f"run{size}"))
            self.run_device(size, f"run_dir=run{size}", "--resume")
            self.assert_same_curve(whole, self.curve(f"run{size}"), 1e-5)
        shutil.copytree(self.path("of2"), self.path("near"))
        self.run_ranks(2, "train", "config.yaml", "device=cpu", "run_dir=near", "--resume")
        self.assert_same_curve(whole, self.curve("near"), CPU_TOLERANCE)

    def test_one_wait_a_step(self):
        """As a process alone: the copy of losses and norm. No bucket is waited for by the host."""
        for options in ([], ["parallel.sharding=none"], ["parallel.sharding=gradients", "training.micro_batch_size=1"]):
            seen = []
            for steps in (2, 5):
                self.run_device(2, f"training.steps={steps}", "training.global_batch_size=8", "evaluation.every=0",
                                "checkpoint.every=0", "schedule.warmup_steps=0", f"run_dir={steps}{len(options)}", *options)
                counts = re.findall(r"(\d+) waits, (\d+) downloads", self.log)
                seen.append(sorted([int(waits), int(downloads)] for waits, downloads in counts))
            growth = [[y - x for x, y in zip(*pair)] for pair in zip(*seen)]
            self.assertEqual([[3, 3], [3, 3]], growth, options)

    def test_groups(self):
        """NCCL starts what is complete as one: a group a part of the model in backward, one for all weights."""
        seen = []
        for steps in (2, 5):
            err = self.run_device(2, f"training.steps={steps}", "training.global_batch_size=8", "evaluation.every=0",
                                  "schedule.warmup_steps=0", f"run_dir={steps}")
            self.assertIn("12 buckets", err)
            seen.append([int(count) for count in re.findall(r"left NCCL after \d+ bytes in (\d+) groups", self.log)])
        parts = 3 + 2  # layers, the embedding, the final norm with the head
        self.assertEqual([3 * (parts + 1)] * 2, [after - before for before, after in zip(*seen)])

    def test_steps_that_are_not_finite(self):
        """A bad number on one process alone: all skip the step, or all stop. So do they where one can make no pass; it
        starts its buckets in the others' order."""
        for action, sharding in (("stop", "optimizer"), ("skip", "gradients")):
            status, _, err = self.finish(self.launch_program(POISON, [[
                "config.yaml", "device=cuda", f"training.not_finite={action}", f"parallel.sharding={sharding}"]] * 3))
            self.assertEqual(0, status, err)


class Refused(device_ranks.DeviceRanksTest):
    def test_without_nccl(self):
        self.libraries = self.path("libraries")
        shutil.copytree(STANDINS, self.libraries)
        self.write("libraries/libnccl.so.2", "not a library")
        self.refused(self.launch_device(2), ["several processes on GPUs need NCCL", "start one process"])
        self.run_device(1, "training.steps=2", "evaluation.every=0", "schedule.warmup_steps=0")

    def test_the_real_nccl(self):
        """It is loaded and joins nobody, since there is no driver: all say so together, and none waits for another."""
        try:
            ctypes.CDLL("libnccl.so.2")
        except OSError as missing:
            self.skipTest(f"NCCL itself is not here: {missing}")
        self.libraries = self.path("libraries")
        shutil.copytree(STANDINS, self.libraries)
        os.unlink(self.path("libraries/libnccl.so.2"))
        self.refused(self.launch_device(3), "NCCL cannot join the GPUs: unhandled cuda error")

    def test_one_that_cannot_join(self):
        for rank in (0, 1):
            self.forget_log()
            self.refused(self.launch_device(3, each={rank: {"nccl_refuses": 1}}),
                         [f"rank {rank} on", "NCCL cannot join the GPUs"])
            self.assertEqual({0, 1, 2} - {rank}, self.aborted())

    def test_one_that_never_joins(self):
        """All give up together, by the time that the config gives."""
        status, _, err = self.finish(self.launch_device(3, "parallel.timeout=3", each={1: {"nccl_lingers": 1}}))
        said = [line for line in err.splitlines() if line.startswith("layerskip:")]
        self.assertEqual((75, 1), (status, len(said)), err)
        self.assertIn("NCCL has not joined the GPUs within 3 s", said[0])
        self.assertEqual({0, 1, 2}, self.aborted())

    def test_old_nccl(self):
        self.refused(self.launch_device(2, nccl_version=21805), ["NCCL 2.18 is too old", "2.19"])

    def test_more_processes_than_gpus(self):
        self.refused(self.launch_device(2, devices=1), ["ranks 0 and 1 have the same GPU", "at most as many"])
        self.refused(self.launch_device(3, devices=2), "ranks 0 and 2 have the same GPU")

    def test_a_gpu_each(self):
        """As Slurm arranges it: every process sees one GPU, and its number is 0."""
        steps = "training.steps=2", "evaluation.every=0", "schedule.warmup_steps=0"
        self.run_device(2, *steps, each={0: {"visible": "3"}, 1: {"visible": "1"}})
        self.refused_again(self.launch_device(2, *steps, "run_dir=no", each={0: {"visible": "1"}, 1: {"visible": "1"}}))

    def refused_again(self, process):
        status, _, err = self.finish(process)
        self.assertEqual(2, status, err)
        self.assertIn("have the same GPU", err)
        self.assertFalse(os.path.exists(self.path("no")))

    def test_one_gpu_that_does_not_open(self):
        self.refused(self.launch_device(2, each={1: {"capability": 75}}), ["rank 1 on", "compute capability 7.5"])

    def test_one_gpu_with_too_little_memory(self):
        """After NCCL has joined them: all leave it together."""
        self.refused(self.launch_device(2, each={1: {"memory": 1}}, *LARGE), ["rank 1 on", "out of GPU memory"])
        self.assertNotIn("aborted", self.read("standin.log").decode())

    def test_different_configs(self):
        lines = [["train", "config.yaml", "device=cuda", f"seed={seed}"] for seed in (1, 2)]
        self.refused(self.launch_program(program.PROGRAM, lines), "seed differs from rank 0's")


@unittest.skipUnless(os.geteuid() == 0 and test_namespaces.may_make_namespaces(),
                     "network namespaces need root and the right to make them")
class Hosts(device_ranks.DeviceRanksTest):
    """Ranks 1 and 2 on another host than rank 0, which sees neither their processes nor their memory."""
    launch_hosts = test_namespaces.Namespaces.launch_hosts

    def setUp(self):
        super().setUp()
        self.write("agent", test_namespaces.AGENT)
        os.chmod(self.path("agent"), 0o700)
        self.addCleanup(test_namespaces.remove_all)
        test_namespaces.make_hosts()

    def launch_apart(self, refuses=None):
        told = " ".join(f"{name}={value}" for name, value in self.device_environment({}).items())
        self.write("start", f"""#!/bin/sh
export {told} CUDA_VISIBLE_DEVICES=$OMPI_COMM_WORLD_RANK
[ "$OMPI_COMM_WORLD_RANK" != {refuses} ] || export HOSTCUDA_NCCL_REFUSES=1
exec {program.PROGRAM} "$@"
""")
        os.chmod(self.path("start"), 0o700)
        return self.launch_hosts("train", "config.yaml", "device=cuda", path=self.path("start"))

    def test_one_that_cannot_join(self):
        for rank in (0, 2):
            self.forget_log()
            self.refused(self.launch_apart(rank), [f"rank {rank} on host{min(rank, 1) + 1}", "NCCL cannot join the GPUs"])
            self.assertEqual({0, 1, 2} - {rank}, self.aborted())

    def test_training(self):
        status, _, err = self.finish(self.launch_apart())
        self.assertEqual(0, status, err)
        self.run_device(1, "run_dir=one")
        self.assert_same_curve(self.curve("one"), self.curve(), 1e-5)


class Lost(device_ranks.DeviceRanksTest):
    wait_for_processes = test_faults.Faults.wait_for_processes
    wait_for_checkpoint = test_faults.Faults.wait_for_checkpoint
    wait_for_steps = test_faults.Faults.wait_for_steps
    newest = test_faults.Faults.newest
    end_soon = test_faults.Faults.end_soon

    def begin(self, size, *arguments, **options):
        """A run that goes on for long, after its first new checkpoint; and its processes."""
        before = self.newest()
        mpirun = self.launch_device(size, "checkpoint.every=2", "checkpoint.keep=2", "evaluation.every=0", *arguments,
                                    **options)
        processes = self.wait_for_processes(mpirun, size)
        self.wait_for_checkpoint(mpirun, before)
        return mpirun, processes

    def wait_for_end(self, process):
        """What makes it end comes by itself, some steps on."""
        began = time.monotonic()
        while test_faults.is_running(process):
            self.assertLess(time.monotonic() - began, 300, "the failure has not come")
            time.sleep(0.02)

    def test_a_rank_is_killed(self):
        """While the others are in a collective with it, and at any other instant; the run goes on from there."""
        self.run_device(1, "run_dir=one", "evaluation.every=0")
        for held in (True, False):
            self.forget_log()
            mpirun, processes = self.begin(3, "--auto-resume")
            self.assertEqual(3, len(processes))
            os.kill(processes[1], signal.SIGSTOP if held else signal.SIGKILL)
            if held:
                time.sleep(2)
                os.kill(processes[1], signal.SIGKILL)
            _, err = self.end_soon(mpirun, processes)
            self.assertIn(1, {int(match[1] or match[2]) for match in test_faults.LOST.finditer(err)}, err)
            # mpirun may end the slower of the two first.
            self.assertTrue(self.aborted() & {0, 2}, err)
        self.run_device(3, "--auto-resume", "evaluation.every=0")
        self.assert_same_curve(self.curve("one"), self.curve(), 1e-5)

    def test_a_rank_hangs(self):
        mpirun, processes = self.begin(2, "parallel.timeout=5", "training.steps=5000", "parallel.sharding=gradients")
        os.kill(processes[1], signal.SIGSTOP)
        status, err = self.end_soon(mpirun, processes)
        self.assertNotEqual(0, status)
        self.assertIn("parallel.timeout", err)
        self.assertIn(0, self.aborted())
        for rank in range(2):
            self.assertRegex(err, rf"layerskip: rank {rank} on \S+: step \d+, [a-z ]+.*s without news")

    def test_one_gpu_fails(self):
        """It says so and ends, and the other with it."""
        mpirun, processes = self.begin(2, "training.steps=5000", each={1: {"fail_in": 4000, "failure": 999}})
        self.wait_for_end(processes[1])
        status, err = self.end_soon(mpirun, processes)
        self.assertEqual(75, status, err)
        self.assertRegex(err, r"layerskip: rank 1 on \S+ ends: .*\bfailed .*--resume")
        self.assertIn("lost rank 1", err)

    def test_one_gpu_fails_before_the_first_step(self):
        """Where no message comes before it leaves: it does not leave as if all were well."""
        status, _, err = self.finish(self.launch_device(2, "precision=bf16", "parallel.timeout=20",
                                                        each={1: {"fail_in": 0, "fail_at": "convert", "failure": 999}}))
        self.assertNotEqual(0, status)
        self.assertRegex(err, r"layerskip: rank 1 on \S+ ends: the GPU failed while convert.*start the command again")
        self.assertIn("lost rank 1", err)
        self.assertEqual({0, 1}, self.aborted())

    def test_one_never_leaves(self):
        """The watchdog still sees it, and aborts the communicator."""
        status, _, err = self.finish(self.launch_device(2, "parallel.timeout=5", "training.steps=2",
                                                        "schedule.warmup_steps=0", each={1: {"nccl_lingers": 2}}))
        self.assertEqual(75, status, err)
        self.assertIn("parallel.timeout", err)
        self.assertEqual({0, 1}, self.aborted())

    def test_one_gpu_out_of_memory(self):
        """One sentence, without the hope of a new start; all ranks end by one status, whichever fails."""
        for rank in (0, 1):
            mpirun, processes = self.begin(3, "training.steps=5000", "--auto-resume",
                                           each={rank: {"fail_in": LATER, "fail_at": "adamw", "failure": 2}})
            self.wait_for_end(processes[rank])
            status, err = self.end_soon(mpirun, processes)
            said = [line for line in err.splitlines() if line.startswith("layerskip:")]
            self.assertEqual((2, 1), (status, len(said)), err)
            self.assertRegex(said[0], rf"^layerskip: rank {rank} on \S+ ends: (out of GPU memory|\w+ failed at) ")
            self.assertNotIn("--resume", err)

    def resilient(self, failure):
        """Two processes under run-resilient; the GPU of rank 1 fails once, after the first checkpoint."""
        shutil.rmtree(self.path("run"), ignore_errors=True)
        self.write("once", f"#!/bin/sh\nif [ $OMPI_COMM_WORLD_RANK = 1 ] && ! [ -e {failure} ]; then touch {failure}\n"
                           f"export HOSTCUDA_FAIL_IN={LATER} HOSTCUDA_FAIL_AT=adamw; fi\nexec \"$@\"\n")
        os.chmod(self.path("once"), 0o700)
        told = self.device_environment({"failure": failure})
        script = os.path.join(program.SOURCE, "scripts", "run-resilient")
        return ranks.subprocess.run(
            [script, "--wait", "0", "--restarts", "2", ranks.MPIRUN, "--oversubscribe", "-np", "2", "./once",
             program.PROGRAM, "train", "config.yaml", "device=cuda", "training.steps=16", "checkpoint.every=2",
             "evaluation.every=0"],
            cwd=self.folder, env=ranks.environment() | told, capture_output=True, text=True, timeout=600, check=False)

    def test_run_resilient(self):
        """It starts again after a GPU has failed, and not after one was too small."""
        again = self.resilient(999)
        self.assertEqual((0, 1), (again.returncode, again.stderr.count("starting again")), again.stderr)
        self.assertIn("ended with status 75; starting again", again.stderr)
        self.assertEqual("step-00000016.h5", self.checkpoints()[-1])
        stopped = self.resilient(2)
        self.assertEqual((2, 0), (stopped.returncode, stopped.stderr.count("starting again")), stopped.stderr)
        self.assertRegex(stopped.stderr, "ends: (out of GPU memory|\\w+ failed at) ")

    def test_nccl_fails(self):
        mpirun, processes = self.begin(2, "training.steps=5000", each={1: {"nccl_fail_in": 300}})
        self.wait_for_end(processes[1])
        status, err = self.end_soon(mpirun, processes)
        self.assertNotEqual(0, status)
        self.assertRegex(err, r"rank 1 on \S+ (lost touch with the other GPUs|ends): NCCL")
        self.assertIn(1, self.aborted())


class Evaluated(device_ranks.DeviceRanksTest):
    """eval and sweep on a GPU each find what one GPU finds."""

    def setUp(self):
        super().setUp()
        self.write("more.txt", self.read("text.txt") * 2)
        self.good("prepare", "--tokenizer", "bytes", "--validation", "0.5", "--out", "more.h5", "more.txt")
        self.good("train", "config.yaml", "device=cpu", "data.sequence_length=32", "training.steps=2",
                  "schedule.warmup_steps=0", "evaluation.every=0")

    def document_of(self, size, *command):
        """What rank 0 prints, and that every rank has used a GPU of its own."""
        self.forget_log()
        line = [*command, "--model", "run", "--data", "more.h5", "--device", "cuda", "--precision", "fp32", "--json"]
        status, out, err = self.finish(self.launch_program(program.PROGRAM, [line] * size))
        self.assertEqual(0, status, err)
        log = self.read("standin.log").decode()
        self.assertEqual(size, log.count("0 reports, 0 allocations left"), log)
        self.assertEqual([str(gpu) for gpu in range(size)], sorted(re.findall(r"on GPU (\d+)", log)), log)
        return test_evaluation.without_clocks(json.loads(out))

    def test_eval(self):
        command = "eval", "--sequence-length", "31", "--max-samples", "60"
        alone = self.document_of(1, *command)
        for size in (2, 3):
            self.assertEqual(alone, self.document_of(size, *command))

    def test_sweep(self):
        command = ("sweep", "--prompt-tokens", "5", "--max-new-tokens", "5", "--prompts", "4", "--repeats", "1",
                   "--exit-layers", "2", "--draft-tokens", "2")
        alone = self.document_of(1, *command)
        for size in (2, 3):
            self.assertEqual(alone, self.document_of(size, *command))


if __name__ == "__main__":
    ranks.main()
