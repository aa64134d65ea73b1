"""Plants bugs in how the CUDA backend orders its copies and in what it records, one at a time, and expects test_offload
and test_graphs to find each.

queue_mutations.py --build FOLDER: FOLDER is the tree's build. A source is compiled anew by its own command and linked
in front of the libraries that hold the right one. The test must pass without a bug and fail with it in one of the
orders of streams at least. A text that is no longer in its source exactly once is an error: the list stays true.
"""
import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
LANES, EXEC, RECORDER = "optim/lanes.c", "kernels/cuda/exec.c", "kernels/cuda/recorder.c"
DECODER, GRAPHS = "eval/decoder.c", "eval/round_graphs.c"
ORDERS = {"test_offload": {"at random": 0, "late": 1, "early": 2}, "test_graphs": {"at random": 0}}

# kind, source, text, replacement
ORDER_BUGS = [
    ("ops do not wait for the lane to come", LANES,
     "    ls_exec_order(lanes->exec, LS_QUEUE_UPLOADS, LS_QUEUE_OPS);\n", ""),
    ("a lane takes a place before the one there is home", LANES,
     "    ls_exec_order(lanes->exec, LS_QUEUE_DOWNLOADS, LS_QUEUE_UPLOADS);\n", ""),
    ("a lane goes home before it is updated", LANES,
     "    ls_exec_order(lanes->exec, LS_QUEUE_OPS, LS_QUEUE_DOWNLOADS);\n    ls_exec_order(lanes->exec, LS_QUEUE_UPLOADS",
     "    ls_exec_order(lanes->exec, LS_QUEUE_UPLOADS"),
    ("the last lane goes home before it is updated", LANES,
     "    ls_exec_order(lanes->exec, LS_QUEUE_OPS, LS_QUEUE_DOWNLOADS);\n    move(lanes, LS_QUEUE_DOWNLOADS, lanes->current);\n    lanes->current = -1",
     "    move(lanes, LS_QUEUE_DOWNLOADS, lanes->current);\n    lanes->current = -1"),
    ("the last lane stays", LANES,
     "    move(lanes, LS_QUEUE_DOWNLOADS, lanes->current);\n    lanes->current = -1", "    lanes->current = -1"),
    ("two places for three lanes", LANES, "lane % LS_LANE_PLACES * LS_MOMENTS", "lane % 2 * LS_MOMENTS"),
    ("the host reads and writes moments that are on their way", EXEC,
     "    if (ls_cuda_ok(exec, drain(ls_cuda_of(exec)), \"running\")) memcpy(out, in, bytes);", "    memcpy(out, in, bytes);"),
    ("waiting for ops alone", EXEC, "{cuda->stream, cuda->uploads, cuda->downloads}",
     "{cuda->stream, cuda->uploads, cuda->uploads}"),
    ("an event recorded where nothing has gone by", EXEC, "stream_of(cuda, earlier)), \"copying\"", "cuda->uploads), \"copying\""),
]
RECORDING_BUGS = [
    ("positions as they were when the round was recorded", DECODER, "&decoder->round->position,\n                                first, R",
     "NULL, decoder->length - 1 + first, R"),
    ("drafts' positions as they were when the round was recorded", DECODER, "&decoder->round->position, i, 1",
     "NULL, decoder->length - 1 + i, 1"),
    ("rounds of fewer rows taken for those of more", GRAPHS, "a->rows == b->rows &&", ""),
    ("draws of another seed", GRAPHS, " && s->seed == t->seed", ""),
    ("another exit layer's round", GRAPHS, "a->exit_layer == b->exit_layer && ", ""),
    ("scratch that has moved is used", RECORDER, "recording->scratch == ls_cuda_of(exec)->scratch", "recording->graph != NULL && exec != NULL"),
    ("scratch grows while ops are recorded", EXEC, "    if (cuda->recording) {", "    if (cuda->recording && bytes == 1) {"),
    ("a round that was recorded is not run", GRAPHS, "LS_TRY(record(graph, exec, issue, context));",
     "return record(graph, exec, issue, context);"),
]
BUGS = [("test_offload", *bug) for bug in ORDER_BUGS] + [("test_graphs", *bug) for bug in RECORDING_BUGS]


def compile_bug(build, folder, bug):
    _, _, source, text, replacement = bug
    with open(os.path.join(ROOT, source), encoding="utf-8") as file:
        whole = file.read()
    if whole.count(text) != 1:
        raise ValueError(f"{source} holds {whole.count(text)} times: {text!r}")
    planted, made = os.path.join(folder, os.path.basename(source)), os.path.join(folder, "planted.o")
    with open(planted, "w", encoding="utf-8") as file:
        file.write(whole.replace(text, replacement))
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        entry = next(entry for entry in json.load(file) if entry["file"] == os.path.join(ROOT, source))
    command = shlex.split(entry["command"])
    command[command.index("-o") + 1] = made
    command[command.index("-c") + 1] = planted
    subprocess.run([*command, "-w"], cwd=entry["directory"], check=True, capture_output=True, text=True)
    return made


def link(build, folder, program, planted):
    here = os.path.join(build, "tests/hostcuda/standin")

    def read(name):
        with open(os.path.join(here, name), encoding="utf-8") as file:
            return file.read()

    command = re.sub(r"@(\S+)", lambda match: read(match[1]), read(f"CMakeFiles/{program}.dir/link.txt"))
    command = " ".join(command.split())
    own = f"CMakeFiles/{program}.dir/{program}.c.o"
    out = os.path.join(folder, program)
    if command.count(f" {own}") != 1 or command.count(f"-o {program} ") != 1:
        raise ValueError(f"not the link command that was expected: {command}")
    command = command.replace(f" {own}", f" {own} {planted}").replace(f"-o {program} ", f"-o {out} ")
    subprocess.run(command, shell=True, cwd=here, check=True, capture_output=True, text=True)
    return out


def failures(program, libraries):
    """The orders of streams in which the test fails."""
    failed = []
    for name, order in ORDERS[os.path.basename(program)].items():
        told = dict(os.environ, LD_LIBRARY_PATH=libraries, HOSTCUDA_STREAMS=str(order), OMP_WAIT_POLICY="passive")
        if subprocess.run([program], env=told, capture_output=True, timeout=300, check=False).returncode != 0:
            failed.append(name)
    return failed


def find(build, bug):
    """None when the bug is found, else why not; and the orders that found it."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        try:
            found = failures(link(build, folder, bug[0], compile_bug(build, folder, bug)),
                             os.path.join(build, "tests/hostcuda/standin/lib"))
            return None if found else "MISSED", found
        except (subprocess.SubprocessError, ValueError, OSError, StopIteration) as error:
            return f"could not be planted: {error} {getattr(error, 'stderr', '') or ''}"[:900], []


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", required=True)
    build = os.path.abspath(parser.parse_args().build)
    missed = False
    for program in ("test_offload", "test_graphs"):
        wrong = failures(os.path.join(build, "tests/hostcuda/standin", program),
                         os.path.join(build, "tests/hostcuda/standin/lib"))
        print(f"{program} without a bug: {'fails in the orders ' + ', '.join(wrong) if wrong else 'passes'}")
        missed = missed or bool(wrong)
    for bug in BUGS:
        failure, found = find(build, bug)
        missed = missed or failure is not None
        print(f"{bug[1]} ({bug[2]}): {failure or 'found with streams ' + ', '.join(found)}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
