# What the scripts share: where the tree is, how they talk, how they build. Sourced, not run.
# shellcheck shell=bash
set -euo pipefail
export LC_ALL=C.UTF-8

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
jobs=$(nproc)

say() { printf '== %s\n' "$*"; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 2
}

# build PRESET TARGET [-DNAME=VALUE...]: configures and builds, quietly unless something goes wrong. Works in the tree's
# root, because presets are found in the current directory.
build() {
    local preset=$1 target=$2
    shift 2
    local log=$root/build/$preset.log
    mkdir -p "$root/build"
    if ! (cd "$root" && cmake --preset "$preset" "$@" &&
        cmake --build --preset "$preset" --target "$target" --parallel "$jobs") >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        die "building $preset failed; the whole log is $log"
    fi
}

# python_environment: makes build/python-venv, where the tests that compare with Python libraries run: Debian's PyTorch
# and NumPy (PyPI's PyTorch would bring gigabytes of CUDA), and from PyPI what tests/python/requirements.txt names; beside
# them, in its folder newest/, what tests/data/requirements.txt names.
# Where that cannot be had it says so in one line and fails; those tests are then skipped.
python_environment() {
    local venv=$root/build/python-venv log=$root/build/python-venv.log wanted
    wanted=$(cat "$root/tests/python/requirements.txt" "$root/tests/data/requirements.txt")
    [[ $(cat "$venv/requirements.txt" 2>/dev/null) != "$wanted" ]] || return 0
    if ! /usr/bin/python3 -c 'import torch, venv' 2>/dev/null; then
        say "python: skipping comparisons with Python libraries: Debian's python3-torch or python3-venv is missing"
        return 1
    fi
    say "python: making an environment for comparisons with Python libraries"
    rm -rf "$venv"
    mkdir -p "$root/build"
    local install=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 20
        --only-binary :all:)
    if ! { /usr/bin/python3 -m venv --system-site-packages "$venv" &&
        "${install[@]}" --requirement "$root/tests/python/requirements.txt" &&
        "${install[@]}" --no-deps --target "$venv/newest" --requirement "$root/tests/data/requirements.txt"; } \
        >"$log" 2>&1; then
        rm -rf "$venv"
        say "python: skipping comparisons with Python libraries: PyPI cannot be reached or lacks one; see $log"
        return 1
    fi
    printf '%s\n' "$wanted" >"$venv/requirements.txt"
}
