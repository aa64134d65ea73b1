"""Two network namespaces as two hosts, which know each other by TCP alone: training across them, and losing one. Needs
root and the right to make namespaces."""
import os
import re
import subprocess
import sys
import time

import ranks

HOSTS = ["10.77.0.1", "10.77.0.2"]
NAMES = [f"lstest{os.getpid()}x{number}" for number in (1, 2)]
SECONDS_TO_END = 30
# Enters the other host as ssh would: agent HOST COMMAND...
AGENT = f"""#!/bin/sh
host=$1
shift
exec ip netns exec {NAMES[0][:-1]}${{host##*.}} unshare --uts sh -c 'hostname "$0"; exec sh -c "$1"' "host${{host##*.}}" "$*"
"""


def ip(*arguments):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout


def processes_in(name):
    return [int(process) for process in ip("netns", "pids", name).split()]


def remove(name):
    for process in processes_in(name):
        try:
            os.kill(process, 9)
        except ProcessLookupError:
            pass
    ip("netns", "delete", name)


def remove_all():
    """Also what a test left that was itself killed."""
    for name in re.findall(r"^lstest\d+x\d", ip("netns", "list"), re.MULTILINE):
        owner = int(re.match(r"lstest(\d+)", name)[1])
        if owner == os.getpid() or not os.path.exists(f"/proc/{owner}"):
            remove(name)


def make_hosts():
    remove_all()
    for name in NAMES:
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
    ip("link", "add", "link0", "netns", NAMES[0], "type", "veth", "peer", "name", "link0", "netns", NAMES[1])
    for name, host in zip(NAMES, HOSTS):
        ip("-n", name, "address", "add", host + "/24", "dev", "link0")
        ip("-n", name, "link", "set", "link0", "up")


class Namespaces(ranks.RanksTest):
    def setUp(self):
        super().setUp()
        self.write("agent", AGENT)
        os.chmod(self.path("agent"), 0o700)
        self.addCleanup(remove_all)
        make_hosts()

    def launch_hosts(self, *arguments, path=ranks.program.PROGRAM):
        """One process on the first host, on which mpirun runs, two on the second."""
        network = HOSTS[0][:-1] + "0/24"
        return subprocess.Popen(
            ["ip", "netns", "exec", NAMES[0], "unshare", "--uts", "sh", "-c", 'hostname host1; exec "$@"', "sh",
             ranks.MPIRUN, "--host", f"{HOSTS[0]}:1,{HOSTS[1]}:2", "-np", "3", "--bind-to", "none",
             "--mca", "plm_rsh_agent", self.path("agent"), "--mca", "btl", "tcp,self",
             "--mca", "btl_tcp_if_include", network, "--mca", "oob_tcp_if_include", network,
             path, *arguments],
            cwd=self.folder, env=ranks.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)

    def trainers(self, name):
        found = []
        for process in processes_in(name):
            try:
                with open(f"/proc/{process}/cmdline", "rb") as file:
                    if file.read().split(b"\0")[0] == ranks.program.PROGRAM.encode():
                        found.append(process)
            except OSError:
                pass
        return found

    def long_run(self, *arguments):
        """A run under way on both hosts."""
        mpirun = self.launch_hosts("train", "config.yaml", "training.steps=1000000", "checkpoint.every=0",
                                   "evaluation.every=0", *arguments)
        metrics = self.path("run/metrics.jsonl")
        while mpirun.poll() is None and not (os.path.exists(metrics) and os.path.getsize(metrics) > 1000):
            time.sleep(0.05)
        self.assertEqual((1, 2), tuple(len(self.trainers(name)) for name in NAMES))
        return mpirun

    def first_host_ends(self, mpirun):
        """In time; returns what was said. Whether mpirun itself ends is not asked where it cannot reach its daemon."""
        began = time.monotonic()
        while self.trainers(NAMES[0]):
            self.assertLess(time.monotonic() - began, SECONDS_TO_END, "a process goes on without the other host")
            time.sleep(0.05)
        try:
            _, err = mpirun.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            remove(NAMES[1])
            mpirun.kill()
            _, err = mpirun.communicate()
        return err.decode()

    def test_the_same_curve(self):
        steps = "training.steps=20", "checkpoint.every=15"
        self.good("train", "config.yaml", "run_dir=alone", *steps)
        for background in ("false", "true"):
            folder = f"apart-{background}"
            mpirun = self.launch_hosts("train", "config.yaml", f"run_dir={folder}",
                                       f"checkpoint.background={background}", *steps)
            _, err = mpirun.communicate(timeout=300)
            self.assertEqual(0, mpirun.returncode, err.decode())
            self.assert_same_curve(self.curve("alone"), self.curve(folder), 1e-5)
            self.assertEqual(["step-00000015.h5", "step-00000020.h5"], self.checkpoints(folder))

    def test_a_lost_process(self):
        mpirun = self.long_run()
        os.kill(self.trainers(NAMES[1])[0], 9)
        self.assertRegex(self.first_host_ends(mpirun), r"lost rank [12] \(process \d+ on host2|process rank [12] with PID")

    def test_a_lost_host(self):
        mpirun = self.long_run()
        for process in processes_in(NAMES[1]):
            os.kill(process, 9)
        # Where mpirun sees its daemon go first, it ends all processes with a text about daemons before any can speak.
        self.assertRegex(self.first_host_ends(mpirun),
                         HOSTS[1] + r"|lost rank [12]|rank [12] with PID|one or more daemons")

    def test_a_cut_cable(self):
        mpirun = self.long_run("parallel.timeout=10")
        ip("-n", NAMES[1], "link", "set", "link0", "down")
        err = self.first_host_ends(mpirun)
        self.assertRegex(err, r"rank 0 on host1: step \d+, [a-z ]+, waits for rank [12], ")


def may_make_namespaces():
    try:
        try:
            make_hosts()
        finally:
            remove_all()
        return subprocess.run(["unshare", "--uts", "true"], check=False).returncode == 0
    except (OSError, subprocess.CalledProcessError):
        return False


if __name__ == "__main__":
    if os.geteuid() != 0 or not may_make_namespaces():
        print("network namespaces need root and the right to make them: not tested")
        sys.exit(77)
    ranks.main()
