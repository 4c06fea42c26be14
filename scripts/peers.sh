#!/usr/bin/env bash
# Side by side on this machine's CPU: our engine, candle, PyTorch as installed, and PyTorch tuned. Prints a Markdown table.
#
#   scripts/peers.sh [--rounds N] [--seconds S] [--systems deeprec,mlperf,deepfm,deepfm-dense-adam,facebook] [--batch N] [--json FILE] [--all]
#   scripts/peers.sh --help
#
# --all has those measured too that specialise, each as installed and tuned: Intel's extension for PyTorch with the last PyTorch that it was
# made for, FBGEMM's table-batched embeddings and TorchRec with theirs, TensorFlow with and without XLA (some 15 GB more; who cannot run here
# stands in the table with what it says).
#
# --batch N: steps of N samples instead of the systems' own (2,048; 10,000 of DeepFM).
#
# In bf16 all are measured where the processor multiplies bf16; elsewhere our engine alone is, since PyTorch takes minutes a step.
#
# Needs cargo, python3 with venv and pip, and a C compiler. PyTorch for CPUs goes to a virtual environment outside the tree,
# ${DLRM_BENCH_PEERS:-~/.cache/dlrm-bench/peers} (about 1 GB; a PyTorch that is there is taken as it is). Nothing else should run meanwhile.
#
# "Tuned" means what a knowing user does: on an AMD CPU a small library makes MKL take its AVX-512 path, and glibc is told to
# keep freed memory and to use huge pages.
set -euo pipefail
cd "$(dirname "$0")/.."
torch=2.15.0

all=
given=()
for argument; do
    case $argument in
    --all) all=1 && continue ;;
    -h | --help)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
        exit
        ;;
    esac
    given+=("$argument")
done
for tool in cargo python3 cc; do
    command -v "$tool" >/dev/null || { echo "$tool is missing (scripts/peers.sh --help says what is needed)" >&2; exit 1; }
done

say() { printf '== %s (%d s)\n' "$1" "$SECONDS" >&2; }

home=${DLRM_BENCH_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/dlrm-bench/peers}
say "engines side by side; PyTorch in $home"
mkdir -p "$home"
[ -x "$home/venv/bin/python" ] || python3 -m venv "$home/venv"
if ! "$home/venv/bin/python" -c 'import torch, numpy' 2>/dev/null; then
    say "installing PyTorch $torch for CPUs, about 200 MB to fetch"
    # The wheels for CPUs are a tenth of those for GPUs, which PyPI has; where only PyPI can be reached those have to do.
    "$home/venv/bin/pip" install --quiet --index-url "${DLRM_BENCH_TORCH_INDEX:-https://download.pytorch.org/whl/cpu}" "torch==$torch" ||
        { say 'not to be had there: the wheel of PyPI, several GB'; "$home/venv/bin/pip" install --quiet "torch==$torch"; }
    "$home/venv/bin/pip" install --quiet numpy
fi

others=()
# other NAME PACKAGE...: a virtual environment of that name with those packages
other() {
    local venv=$home/$1
    if [ ! -e "$venv/ready" ]; then
        say "installing ${*:2}"
        rm -rf "$venv" && python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet "${@:2}" && touch "$venv/ready" || say "not to be had: $1"
    fi
}
if [ -n "$all" ]; then
    other ipex torch==2.8.0 intel-extension-for-pytorch==2.8.0 numpy
    other torchrec "torch==$torch" fbgemm-gpu-nightly-cpu==2026.10.16 torchrec==1.9.2 numpy
    other tensorflow tensorflow-cpu==2.21.0
    others=(--other "ipex=$home/ipex/bin/python" --other "fbgemm=$home/torchrec/bin/python" --other "torchrec=$home/torchrec/bin/python"
        --other "tensorflow=$home/tensorflow/bin/python" --other "tensorflow-xla=$home/tensorflow/bin/python")
fi

# MKL asks this function whether it runs on an Intel CPU; elsewhere it falls back to AVX2.
printf 'int mkl_serv_intel_cpu_true(void) { return 1; }\n' | cc -x c -shared -fPIC -o "$home/mkl.so" -

say 'building our steps'
cargo build --release --quiet --example step_speed
say 'measuring'
"$home/venv/bin/python" scripts/peers/rounds.py target/release/examples/step_speed "$home/mkl.so" "${others[@]}" "${given[@]}"
