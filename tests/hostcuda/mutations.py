"""Plants bugs in the CUDA kernels, one at a time, and expects the tests of this folder to find each.

mutations.py --build FOLDER -- COMPILER FLAG...: a bug is a text of one source, replaced in a scratch copy. The sources
that it touches are compiled anew (by the command, or COMPILER's plain twin) and linked into the program that must fail,
by CMake's own link command. A text that is no longer in its source exactly once is an error: the list stays true.
"""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KERNELS = "kernels/cuda/"

# kind, source, text, replacement, op whose cases find it, sources to compile (the source itself where left out)
BUGS = [
    ("missing barrier: parts are read before they are there", "reduce.cuh",
     "if (lane == 0) own[warp] = v;\n    __syncthreads();", "if (lane == 0) own[warp] = v;", "rmsnorm_forward", ["rmsnorm.cu"]),
    ("missing barrier: the next reduction overtakes the last", "reduce.cuh",
     "    __syncthreads(); /* the last reduction's parts are read */\n", "", "rmsnorm_backward", ["rmsnorm.cu"]),
    ("race in a reduction over blocks of columns", "bias.cu",
     "    group[threadIdx.y][threadIdx.x] = sum;\n    __syncthreads();", "    group[threadIdx.y][threadIdx.x] = sum;",
     "bias_backward"),
    ("a sum that is normed before it is stored where the next pass reads", "rmsnorm.cu",
     "            store<W>(sum + c, v);\n            return v;", "            return v;", "residual_add_rmsnorm"),
    ("the branch of another row", "rmsnorm.cu", "load<W>(y + row * width + c)", "load<W>(y + first * width + c)",
     "residual_add_rmsnorm"),
    ("off by one at a row's end", "residual.cu",
     "for (int64_t c = static_cast<int64_t>(threadIdx.x) * W; c < width; c += blockDim.x * W) {\n            Floats<W> v",
     "for (int64_t c = static_cast<int64_t>(threadIdx.x) * W; c <= width; c += blockDim.x * W) {\n            Floats<W> v",
     "gather_cast"),
    ("off by one at a block's end", "reduce.cu", "if (whole + threadIdx.x < end)", "if (whole + threadIdx.x + 1 < end)",
     "sum_of_squares"),
    ("two rows of one rank", "embedding.cu", "(other == own && start + i < row)", "(other == own && start + i <= row)",
     "embedding_backward"),
    ("rounding by truncation", "compat.cuh", "const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);\n    uint32_t bits;\n"
     "    memcpy(&bits, &pair, sizeof bits);\n    return bits;",
     "return __float_as_uint(low) >> 16 | (__float_as_uint(high) & 0xffff0000u);", "adamw", ["adamw.cu"]),
    ("aliasing: a logit is read while gradients take its place", "cross_entropy.cu", "loss[row] = lse - right_logit",
     "loss[row] = lse - to_float(x[right])", "cross_entropy"),
    ("a lost sign", "rope.cu", "sine.at[k] *= sign", "sine.at[k] *= 1.0f", "rope"),
    ("a row of the cache too far", "rope.cu", "((head - H) * cache.capacity + cache.position)",
     "((head - H) * cache.capacity + cache.position + 1)", "rope_append"),
    ("the position in memory is not looked at", "rope.cu", "cache.position = first_position(base, start) + r;",
     "cache.position = start + r;", "rope_append"),
    ("shares of splits behind the host's own count are left out", "attention_cached.cu",
     "divide_up(first_position(base, start) + row / H + 1, SPLIT)", "divide_up(start + row / H + 1, SPLIT)", "attention_cached"),
    ("wrong mask: the next position is seen", "attention_forward.cu",
     "high[half] = start + ", "high[half] = 1 + start + ", "attention_forward"),
    ("wrong key/value head of a query head", "attention_forward.cu", "(a.H + h / group) * a.head.size",
     "(a.H + h % a.G) * a.head.size", "attention_forward"),
    ("missing wait for an asynchronous copy", "attention.cuh",
     "        wait_copies<0>();\n        __syncthreads(); /* values have come", "        __syncthreads(); /* values have come",
     "attention_forward", ["attention_forward.cu"]),
    ("missing barrier: keys are overwritten while they are read", "attention.cuh",
     "__syncthreads(); /* values have come, and nobody reads these keys any more */", "", "attention_forward",
     ["attention_forward.cu"]),
    ("a copy beyond the tensor", "attention.cuh", "copy_async(to, from, inside ? 16 : 0)", "copy_async(to, from, 16)",
     "attention_forward", ["attention_forward.cu"]),
    ("a running sum that is not rescaled", "attention.cuh", "            sum[half] *= shrink;\n", "", "attention_forward",
     ["attention_forward.cu"]),
    ("a lost scale", "attention_backward.cu", "store_gradient(to, dk, half, a.scale, column, a.head)",
     "store_gradient(to, dk, half, 1.0f, column, a.head)", "attention_backward"),
    ("missing barrier: a stage is filled while it is read", "attention_backward.cu",
     "add_product<D, N, D>(dq, ds, keys, 0);\n        __syncthreads(); /* nobody reads this stage any more */",
     "add_product<D, N, D>(dq, ds, keys, 0);", "attention_backward"),
    ("shared memory too small", "attention_plain.cuh", "2 * sizeof(PlainTile) + sizeof(PlainWeights) + PLAIN_TILE",
     "3 * sizeof(PlainTile) + PLAIN_TILE", "attention_forward", ["attention_plain.cu"]),
    ("undefined shared memory: one warp too many", "matmul_rows.cu",
     "for (int w = 0; w < ROWS_WARPS; w++) total += part[w][j][e][from];",
     "for (int w = 0; w <= ROWS_WARPS; w++) total += (&part[0][j][e][from])[w * TILES * 4 * WARP];", "matmul_rows"),
    ("K cut short", "matmul.cu", "if (k0 + PRODUCT_DEPTH < p.K) {", "if (k0 + 2 * PRODUCT_DEPTH < p.K) {", "matmul"),
    ("missing barrier: probabilities are drawn from while they are written", "round.cu",
     "p[i] = kept(i) / total;\n    __syncthreads();", "p[i] = kept(i) / total;", "draft_token"),
    ("of equal logits the highest id", "round.cu", "(0xffffffffu - static_cast<uint32_t>(id))",
     "(0x80000000u + static_cast<uint32_t>(id))", "draft_token"),
    ("a biased draw: what the draft had too is drawn again", "round.cu", "judged ? fmax(own[v] - drafted(v), 0.0) : own[v]",
     "own[v]", "accept_drafts"),
    ("a row after a rejection speaks", "round.cu", "if (!own.agreed) return;", "", "accept_drafts"),
    ("bits that depend on the company: one maximum for rows of a tile", "attention.cuh", "now = row_maximum(now);",
     "now = row_maximum(now);\n            now = fmaxf(now, __shfl_xor_sync(ALL_LANES, now, 4));", "invariance",
     ["attention_cached.cu"]),
]


def plant(folder, source, text, replacement):
    """The source with the bug below `folder`, where it comes before the tree's own in the search for includes."""
    with open(os.path.join(ROOT, KERNELS, source), encoding="utf-8") as file:
        whole = file.read()
    if whole.count(text) != 1:
        raise ValueError(f"{source} holds {whole.count(text)} times: {text!r}")
    os.makedirs(os.path.join(folder, KERNELS), exist_ok=True)
    with open(os.path.join(folder, KERNELS, source), "w", encoding="utf-8") as file:
        file.write(whole.replace(text, replacement))


def link(build, program, folder, objects):
    """Links `program` with some objects replaced; CMake left the command in link.txt and, where CUDA is a language of
    the build, lists of files in others that it names with an @."""
    def read(name):
        with open(os.path.join(build, name), encoding="utf-8") as file:
            return file.read()

    command = re.sub(r"@(\S+)", lambda match: read(match[1]), read(f"CMakeFiles/{program}.dir/link.txt"))
    command = " ".join(command.split())
    out = os.path.join(folder, program)
    command = command.replace(f"-o {program} ", f"-o {out} ")
    for name, path in objects.items():
        mode = "check" if program == "hostcuda_checker" else "plain"
        if f"{mode}/{name}.o" not in command:
            raise ValueError(f"{program} does not link {mode}/{name}.o")
        command = command.replace(f" {mode}/{name}.o", f" {path}")
    subprocess.run(command, shell=True, cwd=build, check=True, capture_output=True, text=True)
    return out


def find(build, compiler, bug):
    """None when the bug is found, else why not; and what found it."""
    kind, source, text, replacement, op, *rest = bug
    folder = tempfile.mkdtemp(prefix="mutation-")
    try:
        plant(folder, source, text, replacement)
        program = "hostcuda_invariance" if op == "invariance" else "hostcuda_checker"
        objects = {}
        for name in rest[0] if rest else [source]:
            path = os.path.join(folder, name + ".o")
            own = os.path.join(folder, KERNELS, name)
            full = own if os.path.exists(own) else os.path.join(ROOT, KERNELS, name)
            command = [word for word in compiler if program == "hostcuda_checker" or word != "-fsanitize=thread"]
            command = [command[0], f"-I{folder}", *command[1:], "-w", "-x", "c++", "-c", full, "-o", path]
            subprocess.run(command, check=True, capture_output=True, text=True)
            objects[name] = path
        run = [link(build, program, folder, objects)]
        environment = dict(os.environ, HOSTCUDA_OP=op, HOSTCUDA_STRIDE="3", HOSTCUDA_WAYS="1")
        if op == "invariance":
            run += ["rows_do_not_depend_on_each_other", "attention_cached"]
        result = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=600, check=False)
        lines = [line for line in (result.stderr + result.stdout).splitlines()
                 if line.startswith(("hostcuda:", "checker:", "cuda"))]
        if result.returncode == 0 or not lines:
            return f"MISSED (status {result.returncode})", ""
        return None, lines[0][:150]
    except (subprocess.SubprocessError, ValueError, OSError) as error:
        return f"could not be planted: {error} {getattr(error, 'stderr', '') or ''}"[:600], ""
    finally:
        shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", required=True, help="the folder of the programs")
    parser.add_argument("--only", default="", help="bugs whose kind contains this")
    parser.add_argument("compiler", nargs="+", help="compiler and flags of the checker's kernels")
    arguments = parser.parse_args()
    bugs = [bug for bug in BUGS if arguments.only in bug[0]]
    missed = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for bug, (failure, found) in zip(bugs, pool.map(lambda bug: find(arguments.build, arguments.compiler, bug), bugs)):
            missed += failure is not None
            print(f"{bug[0]} ({bug[1]}): {failure or 'found: ' + found}", flush=True)
    print(f"{len(bugs)} bugs planted, {missed} missed")
    return 1 if missed or not bugs else 0


if __name__ == "__main__":
    sys.exit(main())
