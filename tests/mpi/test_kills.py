"""A process is killed at every stage of a save, ordinary or in the background: before its file is made, before its room
is taken, in the middle of a shard, around the syncs, before and after the file gets its name, before an old one goes. The
others end and name it, no half file has a checkpoint's name, and the run goes on to the bits of one that nobody killed."""
import concurrent.futures
import itertools
import os
import shutil
import signal
import subprocess
import time

import ranks
import test_faults
from ranks import program

SAVE = 4  # that is killed: three are before it, of which it removes the first
RUN = ("training.steps=6", "checkpoint.every=1", "checkpoint.keep=3", "evaluation.every=0", "log_every=1",
       "measure_peak=false", "model.num_hidden_layers=2", "early_exit.rotation=1")
AT_ONCE = 3  # most of the time is mpirun's, which waits


def stages(calls):
    """Numbers of calls, counted from 0: of neighbours of one kind the first, one in the middle and the last."""
    found = []
    for _, group in itertools.groupby(enumerate(calls), lambda call: call[1]):
        numbers = [number for number, _ in group]
        found += sorted({numbers[0], numbers[len(numbers) // 2], numbers[-1]})
    return found


class Place:
    """A folder for one run, beside the others', so that all can be called run and have the same bits."""

    def __init__(self, test, name, size, *arguments):
        self.test, self.size, self.arguments = test, size, arguments
        self.folder = test.path(name)
        os.mkdir(self.folder)
        for shared in ("config.yaml", "tokens.h5"):
            os.link(test.path(shared), self.path(shared))
        shutil.copy(os.environ["KILL_AT"], self.path("kill_at.so"))  # LD_PRELOAD takes no path with a blank in it

    def path(self, name):
        return os.path.join(self.folder, name)

    def begin(self, *arguments, size=None, **told):
        size = size or self.size
        command = ["/usr/bin/env", "LD_PRELOAD=./kill_at.so", *[f"{name}={value}" for name, value in told.items()],
                   program.PROGRAM, "train", "config.yaml", *RUN, *self.arguments, *arguments]
        if size > 1:
            command = [ranks.MPIRUN, "--oversubscribe", "-np", str(size), *command]
        return subprocess.Popen(command, cwd=self.folder, env=ranks.environment(), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def complete(self, *arguments, **told):
        status, _, err = self.test.finish(self.begin(*arguments, **told))
        self.test.assertEqual(0, status, err)

    def checkpoints(self):
        """Name -> content of what has a checkpoint's name."""
        found = {}
        for name in os.listdir(self.path("run/checkpoints")):
            if name.endswith(".h5"):
                with open(self.path(f"run/checkpoints/{name}"), "rb") as file:
                    found[name] = file.read()
        return found

    def kill(self, rank, number):
        """At a call of a rank; the others end, and it is named."""
        test = self.test
        if self.size == 1:
            test.assertEqual(-signal.SIGKILL, test.finish(self.begin(KILL_AT=number))[0])
            return
        mpirun, processes = self.begin(KILL_AT=number, KILL_RANK=rank), {}
        while len(processes) < self.size and mpirun.poll() is None:
            processes |= ranks.processes_of(mpirun)
            time.sleep(0.02)
        status, err = test.end_soon(mpirun, processes)
        test.assertNotEqual(0, status, err)
        test.assertEqual({rank}, {int(match[1] or match[2]) for match in test_faults.LOST.finditer(err)}, err)


class Kills(ranks.RanksTest):
    end_soon = test_faults.Faults.end_soon

    def points(self, whole):
        """Of every rank the calls to kill it at, in the run `whole` that nobody kills."""
        whole.complete(KILL_LOG=whole.path("calls"))
        found = []
        for rank in range(whole.size):
            with open(whole.path(f"calls.{rank}"), encoding="utf-8") as file:
                calls = [line.rstrip("\n").split(" ", 1) for line in file]
            of_save, after = ([number for number, (_, path) in enumerate(calls) if f"step-{step:08d}" in path][0]
                              for step in (SAVE, SAVE + 1))
            names = [name for name, _ in calls]
            found += [(rank, of_save + 1 + number, names[of_save + number]) for number in stages(names[of_save:after])]
        return found

    def lines(self, place):
        return self.curve(os.path.relpath(place.path("run"), self.folder))

    def kill_and_go_on(self, whole, rank, number):
        place = Place(self, f"{whole.size}-{rank}-{number}", whole.size, *whole.arguments)
        place.kill(rank, number)
        present, expected = place.checkpoints(), whole.checkpoints()
        self.assertIn(f"step-{SAVE - 1:08d}.h5", present)
        for name in present.keys() & expected.keys():
            self.assertEqual(expected[name], present[name], f"{name} is not whole")
        place.complete("--resume")
        self.assertTrue(expected == place.checkpoints(), "other bits")
        self.assertEqual(sorted(expected), sorted(os.listdir(place.path("run/checkpoints"))))
        self.assertEqual(self.lines(whole), self.lines(place))

    def every_stage(self, size, background):
        """The kinds of calls that each rank has been killed at."""
        whole = Place(self, f"whole-{size}-{background}", size, f"checkpoint.background={background}")
        points = self.points(whole)
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            runs = {pool.submit(self.kill_and_go_on, whole, rank, number): f"rank {rank} at call {number}, {name}"
                    for rank, number, name in points}
            failed = [f"{runs[run]}: {run.exception()}" for run in concurrent.futures.as_completed(runs) if run.exception()]
        self.assertEqual([], failed, "\n".join(failed))
        return {(rank, name) for rank, _, name in points}

    def test_alone(self):
        kinds = self.every_stage(1, "false")
        self.assertLessEqual({(0, name) for name in ("open", "pwrite", "fsync", "rename", "unlink")}, kinds)

    def test_alone_in_the_background(self):
        kinds = self.every_stage(1, "true")
        self.assertLessEqual({(0, name) for name in ("open", "fallocate", "pwrite", "fsync", "rename", "unlink")}, kinds)

    def several(self, background):
        kinds = self.every_stage(2, background)
        self.assertLessEqual({(0, name) for name in ("open", "fallocate", "pwrite", "fsync", "rename", "unlink")}, kinds)
        self.assertLessEqual({(1, name) for name in ("pwrite", "fsync")}, kinds)

    def test_two(self):
        self.several("false")

    def test_two_in_the_background(self):
        self.several("true")

    def test_what_is_left(self):
        """Files of killed saves are gone after the next start, whatever MPI called its own."""
        place = Place(self, "place", 1)
        place.complete("training.steps=2")
        os.unlink(place.path("run/checkpoints/step-00000002.h5"))
        for name in ("step-00000009.h5.tmp", "step-00000009.h5.tmp.locktest.1"):
            self.write(f"place/run/checkpoints/{name}", "half")
        self.write("place/run/checkpoints/notes.tmp", "not ours")
        self.write("place/run/config.yaml.123-0.tmp", "half")
        place.complete("training.steps=2", "--resume")
        self.assertEqual([], [name for name in os.listdir(place.path("run")) if name.endswith(".tmp")])
        self.assertEqual(["notes.tmp", "step-00000001.h5", "step-00000002.h5"],
                         sorted(os.listdir(place.path("run/checkpoints"))))

    def test_a_watchdog_that_does_not_start(self):
        """On one process: all leave together, and say so once."""
        for rank in (0, 1):
            place = Place(self, f"watch{rank}", 2)
            status, _, err = self.finish(place.begin(KILL_EVENTFD="yes", KILL_RANK=rank))
            said = [line for line in err.splitlines() if line.startswith("layerskip:")]
            self.assertEqual((2, 1), (status, len(said)), err)
            self.assertRegex(said[0], rf"^layerskip: rank {rank} on \S+: cannot start the watchdog$")


if __name__ == "__main__":
    ranks.main()
