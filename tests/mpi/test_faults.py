"""Processes that die, hang or are asked to stop: the others end soon and say whom they lost, and the run goes on from
its newest checkpoint as if nothing had happened."""
import os
import random
import re
import shutil
import signal
import time

import ranks

KILLS = 20
SECONDS_TO_END = 30
LOST = re.compile(r"lost rank (\d+) \(process|mpi(?:run|exec) noticed that process rank (\d+) with PID")


def seconds_computed(process):
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
            return sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def is_running(process):
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Faults(ranks.RanksTest):
    def wait_for_processes(self, mpirun, size):
        found = {}
        while len(found) < size and mpirun.poll() is None:
            found = ranks.processes_of(mpirun)
            time.sleep(0.01)
        return found

    def wait_for_checkpoint(self, mpirun, beyond):
        while mpirun.poll() is None and self.newest() <= beyond:
            time.sleep(0.005)

    def wait_for_steps(self, mpirun):
        path = self.path("run/metrics.jsonl")
        while mpirun.poll() is None and not (os.path.exists(path) and os.path.getsize(path) > 1000):
            time.sleep(0.05)

    def newest(self):
        names = self.checkpoints()
        return int(names[-1][5:13]) if names else -1

    def end_soon(self, mpirun, processes):
        """What was said; all must have ended in time. Open MPI's mpirun sometimes hangs in its own end when a process
        died as it started: it is killed then, and its status is None."""
        began = time.monotonic()
        while any(is_running(process) for process in processes.values()):
            self.assertLess(time.monotonic() - began, SECONDS_TO_END, "a process goes on without the lost one")
            time.sleep(0.05)
        try:
            status, _, err = self.finish(mpirun, 10)
        except ranks.subprocess.TimeoutExpired:
            mpirun.kill()
            return None, self.finish(mpirun)[2]
        return status, err

    def test_random_kills(self):
        steps = "training.steps=50", "checkpoint.every=2", "checkpoint.keep=3"
        self.good("train", "config.yaml", "run_dir=alone", *steps)
        alone = self.curve("alone")
        chance, kills, starts, stuck = random.Random(7), 0, 0, 0
        while kills < KILLS:
            reached = self.newest()
            if reached >= 50:
                self.assert_same_curve(alone, self.curve(), 1e-5)
                shutil.rmtree(self.path("run"))
                continue
            size = chance.choice((2, 3, 4))
            starts += 1
            mpirun = self.launch(size, "train", "config.yaml", "--auto-resume", *steps,
                                 f"checkpoint.background={'true' if starts % 2 else 'false'}")
            processes = self.wait_for_processes(mpirun, size)
            if starts % 4 != 0:  # else while it starts
                self.wait_for_checkpoint(mpirun, reached)
            time.sleep(0.3 * chance.random())
            victim = chance.randrange(size)
            killed = mpirun.poll() is None and victim in processes and is_running(processes[victim])
            if killed:
                os.kill(processes[victim], signal.SIGKILL)
            if not killed:
                self.assertEqual(0, self.finish(mpirun)[0])
                continue
            status, err = self.end_soon(mpirun, processes)
            kills += 1
            if status is None:
                stuck += 1
                self.assertLess(stuck, 3, err)
            named = {int(match[1] or match[2]) for match in LOST.finditer(err)}
            self.assertIn(victim, named, err)
        self.assertLess(starts, 3 * KILLS)
        self.run_ranks(3, "train", "config.yaml", "--auto-resume", *steps)
        self.assert_same_curve(alone, self.curve(), 1e-5)

    def lines(self):
        return self.read("run/metrics.jsonl").splitlines() if os.path.exists(self.path("run/metrics.jsonl")) else []

    def test_what_to_do_next(self):
        """Whoever loses a process speaks of --resume where there is something to resume."""
        self.good("train", "config.yaml", "training.steps=2", "run_dir=model")
        train = "train", "config.yaml", "training.steps=100000", "evaluation.every=0", "measure_peak=false"
        sweep = ("sweep", "--model", "model", "--data", "tokens.h5", "--prompt-tokens", "7", "--max-new-tokens", "11",
                 "--repeats", "1000")
        cases = (((*train, "checkpoint.every=0"), lambda _: len(self.lines()) > 1, "start the command again"),
                 ((*train, "checkpoint.every=1", "run_dir=saved"), lambda _: len(self.checkpoints("saved")) > 1,
                  "--resume continues from the newest"),
                 (sweep, lambda process: seconds_computed(process) > 2.0, "start the command again"))
        for command, is_under_way, says in cases:
            mpirun = self.launch(3, *command)
            processes = self.wait_for_processes(mpirun, 3)
            while mpirun.poll() is None and not is_under_way(processes[1]):
                time.sleep(0.05)
            os.kill(processes[1], signal.SIGKILL)
            _, err = self.end_soon(mpirun, processes)
            self.assertRegex(err, r"rank [02]: lost rank 1 .*" + says)

    def test_a_hang_is_found(self):
        mpirun = self.launch(3, "train", "config.yaml", "training.steps=5000", "checkpoint.every=1000",
                             "evaluation.every=0", "parallel.timeout=12")
        processes = self.wait_for_processes(mpirun, 3)
        self.wait_for_steps(mpirun)
        os.kill(processes[1], signal.SIGSTOP)
        status, err = self.end_soon(mpirun, processes)
        self.assertNotEqual(0, status)
        self.assertIn("parallel.timeout", err)
        for rank in range(3):
            self.assertRegex(err, rf"layerskip: rank {rank} on \S+: step \d+, [a-z ]+.*s without news")
        self.assertRegex(err, r"rank [02] on .*waits for rank 1")

    def test_stop_and_continue(self):
        mpirun = self.launch(3, "train", "config.yaml", "training.steps=5000", "checkpoint.every=0",
                             "evaluation.every=0")
        processes = self.wait_for_processes(mpirun, 3)
        self.wait_for_steps(mpirun)
        os.kill(processes[2], signal.SIGUSR1)
        status, err = self.end_soon(mpirun, processes)
        self.assertEqual((130, 1), (status, err.count("stopped by SIGUSR1")), err)
        reached = self.newest()
        self.assertGreater(reached, 0)
        self.assertEqual(reached, self.curve()[-1]["step"])

    def test_a_full_disk(self):
        # Files of at most 10 MiB, which MPI's own are and the checkpoint of 14 MiB is not.
        self.write("limited", f"#!/bin/sh\nulimit -f {10 * 1024 * 2}\nexec '{ranks.program.PROGRAM}' \"$@\"\n")
        os.chmod(self.path("limited"), 0o700)
        train = ["train", "config.yaml", "model.hidden_size=192", "model.intermediate_size=288", "training.steps=1"]
        status, _, err = self.finish(self.launch_each([train] * 2, ["./limited"] * 2))
        said = [line for line in err.splitlines() if line.startswith("layerskip:")]
        self.assertEqual((2, 1), (status, len(said)), err)
        self.assertIn("cannot write", said[0])
        self.assertEqual([], os.listdir(self.path("run/checkpoints")))

    def test_a_slow_disk(self):
        """Two syncs of one process take longer than parallel.timeout."""
        command = ["LD_PRELOAD=" + os.environ["KILL_AT"], "KILL_RANK=1", "KILL_LINGER=6", ranks.program.PROGRAM, "train",
                   "config.yaml", "training.steps=1", "parallel.timeout=10", "evaluation.every=0", "measure_peak=false"]
        status, _, err = self.finish(self.launch_each([command] * 2, ["/usr/bin/env"] * 2))
        self.assertEqual(0, status, err)
        self.assertEqual(["step-00000001.h5"], self.checkpoints())

    def test_one_that_cannot_write(self):
        """In an ordinary save, where all open the file at once, and in the background; nobody waits for it."""
        for background in ("false", "true"):
            command = ["LD_PRELOAD=" + os.environ["KILL_AT"], "KILL_RANK=1", "KILL_REFUSE=yes", ranks.program.PROGRAM,
                       "train", "config.yaml", "training.steps=4", "checkpoint.every=2", f"run_dir={background}",
                       f"checkpoint.background={background}"]
            status, _, err = self.finish(self.launch_each([command] * 2, ["/usr/bin/env"] * 2))
            said = [line for line in err.splitlines() if line.startswith("layerskip:")]
            self.assertEqual((2, 1), (status, len(said)), err)
            self.assertRegex(said[0], r"rank 1 on \S+: cannot write \S+step-00000002.h5.tmp: Read-only file system; no "
                                      "checkpoint was saved before")
            self.assertEqual([], os.listdir(self.path(f"{background}/checkpoints")))

    def test_a_damaged_checkpoint(self):
        """It is refused, or on --auto-resume set aside: the one before gives the same run. A changed number is seen too."""
        def flip_metadata(content):
            at = content.rindex(b"OHDR") + 30
            return content[:at] + bytes([content[at] ^ 1]) + content[at + 1:]
        train = "train", "config.yaml", "training.steps=8", "checkpoint.every=2", "evaluation.every=0", "measure_peak=false"
        self.run_ranks(2, *train)
        os.unlink(self.path("run/checkpoints/step-00000008.h5"))
        newest = "run/checkpoints/step-00000006.h5"
        whole, expected = self.read(newest), self.curve()
        for size, damage in ((2, lambda content: content[:len(content) // 2]), (1, flip_metadata), (1, lambda _: b"")):
            self.write(newest, damage(whole))
            status, _, err = self.finish(self.launch(size, *train, "--resume"))
            self.assertEqual(2, status, err)
            self.assertRegex(err, "step-00000006.h5 .*; --auto-resume sets it aside and continues from \\S*step-00000004.h5")
            err = self.run_ranks(size, *train, "--auto-resume")
            self.assertRegex(err, "warning: .*step-00000006.h5 .*; going on from the checkpoint before it")
            self.assertIn("continuing after step 4", err)
            self.assert_same_curve(expected, self.curve(), 1e-5)
            self.assertEqual([f"step-{step:08d}.h5{end}" for step, end in
                              ((2, ""), (4, ""), (6, ""), (6, ".damaged"), (8, ""))],
                             sorted(os.listdir(self.path("run/checkpoints"))))
            os.unlink(self.path("run/checkpoints/step-00000008.h5"))
        middle = len(whole) // 2
        self.write(newest, whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1:])
        for size in (1, 2, 3):
            status, _, err = self.finish(self.launch(size, *train, "--resume"))
            self.assertEqual((2, 1), (status, err.count("its numbers are not those that were saved; remove it")), err)
        for step in (2, 4, 6):
            self.write(f"run/checkpoints/step-{step:08d}.h5", "nothing")
        status, _, err = self.finish(self.launch(2, *train, "--auto-resume"))
        self.assertEqual((2, 2), (status, err.count("going on from the checkpoint before it")), err)
        self.assertIn("step-00000002.h5 is not a checkpoint file", err)

    def test_odd_folders(self):
        """Names with spaces, of other alphabets, longer than MPI's own buffers; the run goes on there too."""
        long = "/".join(["ein sehr langer Name " + "ü" * 90] * 3)
        for folder, background in ((long, "false"), ("-'\"\\ 日本", "true")):
            train = ("train", "config.yaml", f"run_dir={folder}", "training.steps=4", "checkpoint.every=2",
                     "evaluation.every=0", "measure_peak=false", f"checkpoint.background={background}")
            self.run_ranks(2, *train)
            os.unlink(self.path(f"{folder}/checkpoints/step-00000004.h5"))
            self.assertIn("continuing after step 2", self.run_ranks(2, *train, "--auto-resume"))
            self.assertEqual(["step-00000002.h5", "step-00000004.h5"], sorted(os.listdir(self.path(f"{folder}/checkpoints"))))

    def test_run_resilient_ends_a_launcher_that_hangs(self):
        # The first launcher outlives its process; the second one does not.
        self.write("layerskip", "#!/bin/sh\nsleep 3\n")
        self.write("launcher", "#!/bin/sh\n\"$@\"\ntest -e again && exit 2\ntouch again\nexec sleep 300\n")
        for name in ("layerskip", "launcher"):
            os.chmod(self.path(name), 0o700)
        began = time.monotonic()
        resilient = ranks.subprocess.run(
            [os.path.join(ranks.program.SOURCE, "scripts", "run-resilient"), "--wait", "0", "--hang", "2", "./launcher",
             "./layerskip", "train", "config.yaml"],
            cwd=self.folder, env=ranks.environment(), capture_output=True, text=True, timeout=100, check=False)
        self.assertEqual(2, resilient.returncode, resilient.stderr)
        self.assertIn("the launcher has not", resilient.stderr)
        self.assertLess(time.monotonic() - began, 60)

    def test_run_resilient_gives_up(self):
        """After as many new starts as were allowed that bring nothing new; those that do begin the count anew."""
        self.write("layerskip", f"#!/bin/sh\n[ $1 = train ] || exec '{ranks.program.PROGRAM}' \"$@\"\n"
                                "echo start >>starts\nn=$(wc -l <starts)\nmkdir -p 'a run/checkpoints'\n"
                                "[ $n -gt 6 ] || touch \"a run/checkpoints/step-0000000$n.h5\"\nexit 75\n")
        os.chmod(self.path("layerskip"), 0o700)
        resilient = ranks.subprocess.run(
            [os.path.join(ranks.program.SOURCE, "scripts", "run-resilient"), "--wait", "0", "--restarts", "2",
             "./layerskip", "train", "config.yaml", "run_dir=a run"],
            cwd=self.folder, env=ranks.environment(), capture_output=True, text=True, timeout=100, check=False)
        self.assertEqual(75, resilient.returncode, resilient.stderr)
        self.assertIn("2 new starts brought no new checkpoint", resilient.stderr)
        self.assertEqual(6 + 2, len(self.read("starts").splitlines()))

    def test_run_resilient(self):
        script = os.path.join(ranks.program.SOURCE, "scripts", "run-resilient")
        resilient = ranks.subprocess.Popen(
            [script, "--wait", "0", "--restarts", "1", ranks.MPIRUN, "--oversubscribe", "-np", "3", ranks.program.PROGRAM,
             "train", "config.yaml", "training.steps=50", "checkpoint.every=2"],
            cwd=self.folder, env=ranks.environment(), stderr=ranks.subprocess.PIPE)
        killed = 0
        while resilient.poll() is None and killed < 2:
            self.wait_for_checkpoint(resilient, self.newest())
            for line in ranks.subprocess.run(["pgrep", "-P", str(resilient.pid)], capture_output=True, text=True,
                                             check=False).stdout.split():
                class Parent:
                    pid = int(line)
                found = ranks.processes_of(Parent)
                if 1 in found:
                    os.kill(found[1], signal.SIGKILL)
                    killed += 1
                    break
            time.sleep(0.5)
        _, err = resilient.communicate(timeout=300)
        self.assertEqual(0, resilient.returncode, err.decode())
        self.assertIn("starting again", err.decode())
        self.good("train", "config.yaml", "run_dir=alone", "checkpoint.every=2")
        self.assert_same_curve(self.curve("alone"), self.curve(), 1e-5)


if __name__ == "__main__":
    ranks.main()
