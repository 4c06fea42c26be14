#!/usr/bin/env bash
# What `--features candle-cuda` needs to build where there is no CUDA toolkit: nvcc 13.0 from NVIDIA's wheels (300 MB), and stand-ins to
# link against for the libraries that such a program loads when it starts.
#
#   eval "$(scripts/cuda-toolchain.sh)"
#   cargo build --release --features candle-cuda
#
# Needs python3 with venv and pip, a C compiler and cargo. Everything goes to ${DLRM_BENCH_CUDA:-~/.cache/dlrm-bench/cuda}; what is there
# already is kept. CUDA_COMPUTE_CAP (90: Hopper; 80 makes code that later GPUs take too) and NVCC_APPEND_FLAGS are taken from the
# environment if set. The program starts only where libcuda, libcublas, libcublasLt, libcurand, libnvrtc and libcudart can be found.
set -euo pipefail
cd "$(dirname "$0")/.."
home=${DLRM_BENCH_CUDA:-${XDG_CACHE_HOME:-$HOME/.cache}/dlrm-bench/cuda}
mkdir -p "$home"
home=$(cd "$home" && pwd)

for tool in python3 cc cargo; do
    command -v "$tool" >/dev/null || { echo "$tool is missing" >&2; exit 1; }
done
[ -x "$home/venv/bin/python" ] || python3 -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 \
    nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 >&2
toolkit=$(echo "$home"/venv/lib/python3*/site-packages/nvidia/cu13)
[ -x "$toolkit/bin/nvcc" ] || { echo "the wheels hold no $toolkit/bin/nvcc" >&2; exit 1; }

# nvcc looks for libraries in lib64, linkers for names without a version.
[ -e "$toolkit/lib64" ] || ln -s lib "$toolkit/lib64"
ln -sf libcudart.so.13 "$toolkit/lib/libcudart.so"

# stand_in LIBRARY SONAME BINDINGS: a library that has every function which cudarc declares for it, and does nothing.
cudarc=$(dirname "$(cargo metadata --format-version 1 --locked |
    python3 -c 'import json, sys; print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"))')")
stand_in() {
    sed -nE 's/^pub unsafe fn ([A-Za-z0-9_]+) *\(.*/\1/p' "$cudarc/src/$3/sys/mod.rs" | sort -u | sed 's/.*/void &(void) {}/' > "$home/stand_in.c"
    [ -s "$home/stand_in.c" ] || { echo "no functions in $cudarc/src/$3/sys/mod.rs" >&2; exit 1; }
    cc -w -fno-builtin -shared -fPIC -Wl,-soname,"$2" -o "$home/stand-ins/lib$1.so" "$home/stand_in.c"
}
mkdir -p "$home/stand-ins"
stand_in cuda libcuda.so.1 driver
stand_in cublas libcublas.so.13 cublas
stand_in cublasLt libcublasLt.so.13 cublaslt
stand_in curand libcurand.so.10 curand
stand_in nvrtc libnvrtc.so.13 nvrtc

cat <<EOF
export CUDA_HOME='$toolkit'
export PATH='$toolkit/bin':"\$PATH"
export LIBRARY_PATH='$home/stand-ins:$toolkit/lib'"\${LIBRARY_PATH:+:\$LIBRARY_PATH}"
export RUSTFLAGS="\${RUSTFLAGS:+\$RUSTFLAGS }-L native=$home/stand-ins -L native=$toolkit/lib"
export CUDARC_CUDA_VERSION=13000
export CUDA_COMPUTE_CAP='${CUDA_COMPUTE_CAP:-90}'
export NVCC_APPEND_FLAGS='${NVCC_APPEND_FLAGS:---compress-mode=size}'
EOF
