#!/usr/bin/env bash
# gate-builds.sh DIR: DIR/plain and DIR/slow, the same release build but for a planted slowdown that DLRM_BENCH_TEST_SLOWDOWN (percent) sets in `slow`.
# Builds that are there already are kept.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "$1"
[ -x "$1/plain" ] && [ -x "$1/slow" ] && exit 0
# The slow one first, so that target/release holds an honest program in the end.
DLRM_BENCH_BUILD_TEST_SLOWDOWN=1 cargo build --release --locked
cp target/release/dlrm-bench "$1/slow"
cargo build --release --locked
cp target/release/dlrm-bench "$1/plain"
