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
