"""The house's rules that a machine can check, one check a function: style.py CHECK [--root DIR] [--build DIR].

A check takes the tree's root and returns its complaints, one line each; none is a pass. test_style.py plants a
violation of every rule and sees it found. Python 3 standard library only.
"""
import argparse
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys

FLOORS = {"core": 0, "kernels": 1, "data": 2, "model": 3, "optim": 4, "eval": 4, "train": 5}
SKIPPED_FOLDERS = {"build", "runs", ".git", ".venv", "__pycache__"}
TEXT_SUFFIXES = (".c", ".h", ".py", ".sh", ".md", ".txt", ".yaml", ".json", ".cmake", ".proto", ".gp")
HEAD_LINES = 10


def files(root, *suffixes):
    """Paths below root, relative and sorted; build products are left out."""
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders
                               if name not in SKIPPED_FOLDERS and not name.startswith("build"))
        found += [os.path.relpath(os.path.join(folder, name), root) for name in names
                  if not suffixes or name.endswith(suffixes)]
    return sorted(found)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def shell_scripts(root):
    return [path for path in files(root)
            if re.match(r"#![^\n]*\b(ba)?sh\b|.*shellcheck shell=", read(root, path)[:400], re.S)
            and not path.endswith((".py", ".md"))]


def room(path):
    """The room a file or an include belongs to, None outside the house."""
    first = path.split("/")[0]
    return first if first in FLOORS else None


def check_includes(root):
    """Includes of the tree are written from its root and point down, never up and never sideways."""
    complaints = []
    for path in files(root, ".c", ".h"):
        here = room(path)
        for number, line in enumerate(read(root, path).splitlines(), 1):
            match = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
            if not match or here is None:
                continue
            there = room(match[1])
            if there is None:
                if "/" in match[1] or os.path.exists(os.path.join(root, os.path.dirname(path), match[1])):
                    complaints.append(f'{path}:{number}: "{match[1]}" is not written from the root of the tree')
            elif there != here and FLOORS[there] >= FLOORS[here]:
                complaints.append(f"{path}:{number}: {here}/ (floor {FLOORS[here]}) must not include "
                                  f"{match[1]} (floor {FLOORS[there]})")
    return complaints


def check_format(root):
    """clang-format would change nothing."""
    sources = [os.path.join(root, path) for path in files(root, ".c", ".h", ".cu", ".cuh", ".cpp")]
    if not sources:
        return []
    result = subprocess.run(["clang-format", "--dry-run", "--Werror", "--style=file", *sources],
                            capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return []
    lines = [line for line in result.stderr.splitlines() if "error:" in line or "warning:" in line]
    return sorted({os.path.relpath(line, root).split(":")[0] + ": clang-format -i would change this file"
                   for line in lines}) or [result.stderr]


def check_tidy(root, build):
    """clang-tidy with the tree's .clang-tidy, and clang's own warnings, on every compiled file once."""
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        commands = json.load(file)
    sources = sorted({entry["file"] for entry in commands if entry["file"].endswith(".c")
                      and not os.path.relpath(entry["file"], root).startswith(("..", "build"))})
    def tidy(source):
        result = subprocess.run(["clang-tidy", "--quiet", "-p", build, "--extra-arg=-Wno-unknown-warning-option", source],
                                capture_output=True, text=True, check=False)
        found = sorted({line for line in result.stdout.splitlines() if re.search(r": (warning|error): ", line)})
        if result.returncode != 0 and not found:
            found = [f"{source}: clang-tidy failed: {result.stderr.strip()[-300:]}"]
        return found

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return sorted({line for found in pool.map(tidy, sources) for line in found})


# Spelled in halves so that this file passes its own check.
MARKS = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b|\bnot (yet )?implemen" r"ted\b", re.I)
PATHS = re.compile(r"(?<![\w.~}-])/(home|root|work|Users|mnt)/\w")
HOSTS = re.compile(r"https?://(?!(arxiv\.org|www\.apache\.org|www\.w3\.org)[/\"')\s>])")


def check_words(root):
    """No marks of unfinished work, no path of somebody's machine, no hosts; no tabs, no trailing blanks."""
    complaints = []
    for path in files(root):
        if not path.endswith(TEXT_SUFFIXES) and path not in shell_scripts(root):
            continue
        if path.endswith("tokenizer.json"):
            continue
        for number, line in enumerate(read(root, path).split("\n"), 1):
            place = f"{path}:{number}: "
            if MARKS.search(line):
                complaints.append(place + "a mark of unfinished work: " + line.strip()[:80])
            if PATHS.search(line):
                complaints.append(place + "a path of one machine: " + line.strip()[:80])
            if HOSTS.search(line):
                complaints.append(place + "a host's address: " + line.strip()[:80])
            if line != line.rstrip():
                complaints.append(place + "blanks at the end of the line")
            if "\t" in line:
                complaints.append(place + "a tab")
    return complaints


def check_scripts(root):
    """Shell scripts parse, stop at the first error, can be run, and please shellcheck."""
    complaints = []
    for path in shell_scripts(root):
        full, text = os.path.join(root, path), read(root, path)
        parsed = subprocess.run(["bash", "-n", full], capture_output=True, text=True, check=False)
        if parsed.returncode != 0:
            complaints.append(f"{path}: {parsed.stderr.strip()}")
        if text.startswith("#!"):
            if not os.access(full, os.X_OK):
                complaints.append(f"{path}: is not executable")
            if "set -euo pipefail" not in text and "common.sh" not in text and "\nexec " not in text:
                complaints.append(f"{path}: lacks set -euo pipefail")
        if shutil.which("shellcheck"):
            result = subprocess.run(["shellcheck", "--external-sources", "--format=gcc", full], cwd=root,
                                    capture_output=True, text=True, check=False)
            complaints += [os.path.relpath(line, root) for line in result.stdout.splitlines()]
    return complaints


def check_heads(root):
    """Every source begins with a comment of at most ten lines that says what it is. room/x.c and tests/room/test_x.c
    may leave that to room/x.h."""
    complaints = []
    for path in files(root, ".c", ".h"):
        match = re.match(r"/\*(.*?)\*/", read(root, path), re.S)
        header = re.sub(r"^tests/(.*)/test_", r"\1/", path[:-2]) + ".h"
        if not match and path.endswith(".c") and os.path.exists(os.path.join(root, header)):
            continue
        if not match or len(match[1].split()) < 2:
            complaints.append(f"{path}:1: does not begin with a comment that says what the file is")
        elif path.endswith(".c") and match[0].count("\n") + 1 > HEAD_LINES:
            complaints.append(f"{path}:1: its head comment is longer than {HEAD_LINES} lines")
    for path in files(root, ".h"):
        guard = "LS_" + re.sub(r"\W", "_", path).upper()
        if room(path) and f"#ifndef {guard}\n#define {guard}\n" not in read(root, path):
            complaints.append(f"{path}: its include guard is not {guard}")
    for path in files(root, ".py"):
        if not re.match(r'(#!.*\n)?"""\S', read(root, path)):
            complaints.append(f"{path}:1: does not begin with a docstring")
    return complaints


def check_keys(root, reference):
    """Configuration keys named in the documents and the shipped configs exist. `reference`: every key, one a line."""
    known = set(reference)
    sections = {key.split(".")[0] for key in known if "." in key}
    complaints = []
    for path in files(root, ".md"):
        for number, line in enumerate(read(root, path).splitlines(), 1):
            for key in re.findall(r"\b([a-z_]+(?:\.[a-z_0-9]+)+)(?==|`)", line):
                if key.split(".")[0] in sections and key not in known:
                    complaints.append(f"{path}:{number}: {key} is no configuration key")
    return complaints


CHECKS = {"includes": check_includes, "format": check_format, "tidy": check_tidy, "words": check_words,
          "scripts": check_scripts, "heads": check_heads, "keys": check_keys}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("check", choices=sorted(CHECKS))
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    parser.add_argument("--build", help="build folder with compile_commands.json, for tidy")
    parser.add_argument("--program", help="the layerskip program, whose --help lists the keys")
    arguments = parser.parse_args()
    extra = []
    if arguments.check == "tidy":
        extra = [arguments.build]
    if arguments.check == "keys":
        text = subprocess.run([arguments.program, "train", "--help"], capture_output=True, text=True, check=True).stdout
        extra = [re.findall(r"^\s*([a-z_]+(?:\.[a-z_0-9]+)+)\b", text, re.M)]
    complaints = CHECKS[arguments.check](arguments.root, *extra)
    for complaint in complaints:
        print(complaint)
    print(f"{arguments.check}: {len(complaints)} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
