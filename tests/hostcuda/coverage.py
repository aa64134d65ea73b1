"""Every line of kernels/cuda/ that compiles to something is run by the tests on the CPU: coverage.py OBJECTS PROGRAM...

OBJECTS is the folder of the kernels' objects, compiled with --coverage; the programs are linked with them. Prints the
lines that no program ran. A line that cannot be run says why beside it, after the words "not run on the CPU:".
"""
import glob
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run_counts(objects):
    """{(file below kernels/cuda/, line): times run}, the most over all objects that have the line."""
    counts = {}
    notes = sorted(glob.glob(os.path.join(os.path.abspath(objects), "*.gcno")))
    with tempfile.TemporaryDirectory() as folder:
        for note in notes:
            result = subprocess.run(["gcov", "--json-format", "--stdout", note], cwd=folder, capture_output=True, text=True,
                                    check=True)
            for line in result.stdout.splitlines():
                found = json.loads(line)
                for file in found["files"]:
                    path = os.path.relpath(os.path.join(found["current_working_directory"], file["file"]), ROOT)
                    if not path.startswith("kernels/cuda/"):
                        continue
                    for entry in file["lines"]:
                        key = path, entry["line_number"]
                        counts[key] = max(counts.get(key, 0), entry["count"])
    return counts


def main():
    objects, programs = sys.argv[1], sys.argv[2:]
    for old in glob.glob(os.path.join(objects, "*.gcda")):
        os.remove(old)
    for program in programs:
        subprocess.run([program], env=dict(os.environ, HOSTCUDA_WAYS="1"), check=True, stdout=subprocess.DEVNULL)
    counts = run_counts(objects)
    missed = 0
    for (path, number), count in sorted(counts.items()):
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            text = file.read().splitlines()[number - 1]
        if count == 0 and "not run on the CPU:" not in text:
            missed += 1
            print(f"{path}:{number}: {text.strip()}")
    files = len({path for path, _ in counts})
    print(f"{len(counts)} lines of {files} files, {missed} not run")
    return 1 if missed or files < len(glob.glob(os.path.join(ROOT, "kernels/cuda/*.cu"))) else 0


if __name__ == "__main__":
    sys.exit(main())
