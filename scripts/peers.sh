#!/usr/bin/env bash
# Side by side on this machine's CPU: our engine, candle, PyTorch as installed, and PyTorch tuned. Prints a Markdown table.
#
#   scripts/peers.sh [--rounds N] [--seconds S] [--systems deeprec,mlperf,deepfm,deepfm-dense-adam,facebook] [--json FILE]
#
# Needs cargo, python3 with venv and pip, and a C compiler. PyTorch goes to a virtual environment outside the tree,
# ${DLRM_BENCH_PEERS:-~/.cache/dlrm-bench/peers} (several GB). Nothing else should run meanwhile.
#
# "Tuned" means what a knowing user does: on an AMD CPU a small library makes MKL take its AVX-512 path, and glibc is told to
# keep freed memory and to use huge pages.
set -euo pipefail
cd "$(dirname "$0")/.."
home=${DLRM_BENCH_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/dlrm-bench/peers}
mkdir -p "$home"

if [ ! -x "$home/venv/bin/python" ]; then
    python3 -m venv "$home/venv"
fi
"$home/venv/bin/python" -c 'import torch' 2>/dev/null || "$home/venv/bin/pip" install --quiet torch==2.15.0 numpy

# MKL asks this function whether it runs on an Intel CPU; elsewhere it falls back to AVX2.
printf 'int mkl_serv_intel_cpu_true(void) { return 1; }\n' | cc -x c -shared -fPIC -o "$home/mkl.so" -

cargo build --release --quiet --example step_speed
"$home/venv/bin/python" scripts/peers/rounds.py target/release/examples/step_speed "$home/mkl.so" "$@"
