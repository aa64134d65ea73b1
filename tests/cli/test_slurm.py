"""scripts/slurm/train.sbatch under a Slurm that is played: srun and scontrol are scripts, the queue is the test. The job
comes back after time limits and lost nodes for ever, and after a failure that does not go away a few times."""
import os
import signal
import subprocess
import unittest

import program

BATCH = os.path.join(program.SOURCE, "scripts/slurm/train.sbatch")
MOST_STARTS = 10
# Starts the program alone in the place of all tasks, or what the test wants to happen: its command line, in "happens".
SRUN = """#!/bin/sh
echo "$@" >>started
while [ "$1" != layerskip ]; do shift; done
test -e happens || exec "$@"
. ./happens
"""
CHECKPOINT = "mkdir -p 'my run/checkpoints'; touch \"my run/checkpoints/$(printf step-%08d.h5 $SLURM_RESTART_COUNT)\"; "
RUN = "run_dir=my run"


class Slurm(program.ProgramTest):
    def setUp(self):
        super().setUp()
        self.restarts = 0
        self.job = 77
        os.mkdir(self.path("bin"))
        os.symlink(program.PROGRAM, self.path("bin/layerskip"))
        self.write("bin/srun", SRUN)
        self.write("bin/scontrol", '#!/bin/sh\necho "$@" >>requeued\n')
        for name in ("srun", "scontrol"):
            os.chmod(self.path(f"bin/{name}"), 0o700)

    def lines(self, name):
        return self.read(name).decode().splitlines() if os.path.exists(self.path(name)) else []

    def surroundings(self):
        environment = program.environment() | {"SLURM_JOB_ID": str(self.job), "SLURM_RESTART_COUNT": str(self.restarts)}
        environment["PATH"] = self.path("bin") + ":" + environment["PATH"]
        if self.restarts == 0:
            del environment["SLURM_RESTART_COUNT"]  # as Slurm leaves it out
        return environment

    def begin(self, happens=None, overrides=(RUN,)):
        """One start of the job: status, what it said, whether tasks were started, whether it is in the queue again."""
        before = len(self.lines("started")), len(self.lines("requeued"))
        if happens is not None:
            self.write("happens", happens)
        elif os.path.exists(self.path("happens")):
            os.unlink(self.path("happens"))
        job = subprocess.run(["bash", BATCH, "config.yaml", *overrides], cwd=self.folder, env=self.surroundings(),
                             capture_output=True, text=True, timeout=600, check=False)
        self.restarts += 1
        requeued = self.lines("requeued")[before[1]:]
        self.assertIn(requeued, ([], [f"requeue {self.job}"]))
        return job.returncode, job.stderr, len(self.lines("started")) > before[0], len(requeued) > 0

    def returns(self, happens, times):
        """It is started, and queued again, so many times."""
        for _ in range(times):
            status, err, started, requeued = self.begin(happens)
            self.assertEqual((0, True, True), (status, started, requeued), err)

    def gives_up(self, happens, says):
        status, err, started, requeued = self.begin(happens)
        self.assertEqual((75, False, False), (status, started, requeued), err)
        self.assertIn(says, err)

    def test_a_run(self):
        """Two time limits in a real run."""
        self.prepare()
        stop = 'touch seen; "$@" &\nuntil [ "my run/metrics.jsonl" -nt seen ]; do sleep 0.05; done\nkill -USR1 $!; wait $!'
        overrides = RUN, "training.steps=100000", "checkpoint.every=1000", "log_every=1"
        reached = []
        for _ in range(2):
            status, err, _, requeued = self.begin(stop, overrides)
            self.assertEqual((0, True), (status, requeued), err)
            self.assertIn("ended with status 130", err)
            reached.append(int(self.checkpoints("my run")[-1][5:13]))
        self.assertIn(f"continuing after step {reached[0]}\n", err)
        self.assertLess(reached[0], reached[1])
        for line in self.lines("started"):
            self.assertRegex(line, "^--mpi=pmix .*--kill-on-bad-exit=1 layerskip train config.yaml run_dir=my run .*"
                                   "--auto-resume$")

    def test_what_does_not_come_back(self):
        for status in (0, 2):
            self.assertEqual((status, "", True, False), self.begin(f"exit {status}"))

    def test_one_task_explains_it(self):
        """srun gives the status of those that were killed for it."""
        status, err, started, requeued = self.begin("echo 'srun: error: node2: task 9: Exited with exit code 2' >&2; exit 137")
        self.assertEqual((2, True, False), (status, started, requeued), err)
        self.assertIn("task 9", err)
        status, err, started, requeued = self.begin("echo 'srun: error: node2: task 9: Exited with exit code 75' >&2; exit 137")
        self.assertEqual((0, True, True), (status, started, requeued), err)

    def test_output_stays_apart(self):
        self.write("happens", "echo to 1; echo to 2 >&2; exit 0")
        job = subprocess.run(["bash", BATCH, "config.yaml", RUN], cwd=self.folder, env=self.surroundings(),
                             capture_output=True, text=True, timeout=600, check=False)
        self.assertEqual((0, "to 1\n", "to 2\n"), (job.returncode, job.stdout, job.stderr))

    def test_a_bad_config(self):
        status, err, started, requeued = self.begin(None, ("training.stepz=3",))
        self.assertEqual((2, False, False), (status, started, requeued), err)
        self.assertIn("training.stepz", err)

    def test_time_limits(self):
        self.returns(CHECKPOINT + "exit 130", 3 * MOST_STARTS)

    def test_lost_processes(self):
        self.returns(CHECKPOINT + "exit 75", 3 * MOST_STARTS)

    def test_a_failure_that_stays(self):
        self.returns("exit 75", 1 + MOST_STARTS)
        self.gives_up("exit 75", f"{MOST_STARTS} times from the beginning")

    def test_time_limits_without_a_step(self):
        """A limit that is too short for a checkpoint is no progress."""
        self.returns(CHECKPOINT + "exit 130", 1)
        self.returns("exit 130", MOST_STARTS)
        self.gives_up("exit 130", f"{MOST_STARTS} times from my run/checkpoints/step-")

    def test_progress_between_failures(self):
        self.returns("exit 75", MOST_STARTS)
        self.returns(CHECKPOINT + "exit 139", 1)
        self.returns("exit 75", MOST_STARTS)
        self.gives_up("exit 75", "gives up")

    def test_lost_nodes(self):
        """The first node goes, and the script with it: Slurm queues the job itself."""
        for _ in range(1 + MOST_STARTS):
            status, err, started, requeued = self.begin("kill -KILL $PPID")
            self.assertEqual((-signal.SIGKILL, True, False), (status, started, requeued), err)
        self.gives_up("exit 75", "gives up")

    def test_another_job(self):
        """A new job of the same run begins to count anew."""
        self.returns("exit 75", 1 + MOST_STARTS)
        self.restarts, self.job = 0, 78
        self.returns("exit 75", 1 + MOST_STARTS)
        self.gives_up("exit 75", "gives up")


if __name__ == "__main__":
    unittest.main()
