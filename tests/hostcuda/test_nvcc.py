"""nvcc takes every kernel for every architecture of the preset cuda without a warning, and no kernel spills
registers. With --table prints, for docs/cuda.md, what each kernel takes."""
import argparse
import concurrent.futures
import glob
import os
import re
import subprocess
import sys
import tempfile

ARCHITECTURES = (80, 90, 100)
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def demangle(names):
    done = subprocess.run(["c++filt", "-p"], input="\n".join(names), capture_output=True, text=True, check=True)
    return [re.sub(r"^(void )?ls::", "", name).replace("(ls::", "(") for name in done.stdout.splitlines()]


def compile_one(nvcc, source, architecture, folder):
    """Complaints, and rows (architecture, symbol, registers, shared bytes, stack bytes, spilled bytes)."""
    name = os.path.basename(source)
    output = os.path.join(folder, f"{name}.{architecture}.cubin")
    done = subprocess.run([nvcc, f"-arch=sm_{architecture}", "-cubin", "-std=c++17", "-O3", "-I", ROOT,
                           "-Werror", "all-warnings", "-Xptxas", "-v", source, "-o", output],
                          capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    where = f"{name} for sm_{architecture}"
    complaints = [f"{where}: {line}" for line in text.splitlines() if re.search(r"\b(warning|error)\b", line, re.I)]
    if done.returncode != 0 and not complaints:
        complaints.append(f"{where}: nvcc gives {done.returncode}")
    rows = []
    for match in re.finditer(r"Compiling entry function '(\S+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
                             r"(\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)", text, re.S):
        shared = re.search(r"(\d+) bytes smem", match[6])
        rows.append((architecture, match[1], int(match[5]), int(shared[1]) if shared else 0, int(match[2]),
                     int(match[3]) + int(match[4])))
    if done.returncode == 0 and not rows:
        complaints.append(f"{where}: ptxas tells of no kernel")
    for row in rows:
        kernel = demangle([row[1]])[0]
        if row[5] > 0:
            complaints.append(f"{where}: {kernel} spills {row[5]} bytes")
    return complaints, rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    sources = sorted(glob.glob(os.path.join(ROOT, "kernels/cuda/*.cu")))
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(compile_one, arguments.nvcc, source, architecture, folder)
                for architecture in ARCHITECTURES for source in sources]
        results = [job.result() for job in jobs]
    complaints = [line for found, _ in results for line in found]
    rows = [row for _, found in results for row in found]
    if arguments.table:
        names = dict(zip([row[1] for row in rows], demangle([row[1] for row in rows])))
        for row in sorted(rows, key=lambda row: (row[0], names[row[1]])):
            print(f"| {row[0]} | `{names[row[1]].split('(')[0]}` | {row[2]} | {row[3]} |")
    for line in complaints:
        print(line)
    print(f"{len(rows)} kernels of {len(sources)} files for {len(ARCHITECTURES)} architectures, "
          f"{len(complaints)} complaints")
    return 1 if complaints or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
