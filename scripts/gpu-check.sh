#!/usr/bin/env bash
# All that a machine with a GPU can say, by a program built elsewhere: no Rust, no registry, no network.
#
#   scripts/gpu-check.sh [--device cuda:0] [--tests TEST_BINARY] [--candle BINARY] [--max-rows N] [--steps N] [--ranks N] [--only REGEX] [--out DIR] BINARY
#
# BINARY is target/release/dlrm-bench, stripped or not (glibc 2.35 or later there). TEST_BINARY is the library's, which
# `cargo test --lib --no-run` names: its tests of backend::cuda take the GPU where there is one. Needs python3, and what docs/cuda.md lists.
# In turn: what the machine is and can do at most; every operation against the CPU, twice, and how fast; the tests; the same training twice, bit
# by bit, without CUDA graphs, and beside the CPU; the quick start to its target; whole training of large models in each precision, MLPerf's DLRM with tables of up to N
# rows (all 187.8 M where 120 GiB of memory are there, else a million), beside the PyTorch of python3 if it has that GPU, and with --candle (the
# program built with candle-cuda) beside candle. With --ranks N the program of mpirun (MPIRUN names another) starts N ranks, each with a GPU
# of its own where there are so many and else sharing them: the same training on 1 and N ranks, bit by bit, and how fast, by messages through
# the host and, with a GPU a rank, by NCCL. --only takes the steps whose names match, where time is short: system|ceilings|operations,
# same|cpu|quickstart, terabyte, deepfm, torch, beside, ranks; what earlier calls left in DIR is told of again. Leaves everything in DIR (gpu-check), gpu-check.json among it, and prints a table last. Exits
# with 1 if anything failed; no step keeps the others from being tried.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
device=cuda:0 tests='' candle='' out=gpu-check steps=400 max_rows='' only='' ranks='' launcher=()
while [ $# -gt 1 ]; do
    case $1 in
        --device) device=$2; shift 2 ;;
        --tests) tests=$2; shift 2 ;;
        --candle) candle=$2; shift 2 ;;
        --max-rows) max_rows=$2; shift 2 ;;
        --only) only=$2; shift 2 ;;
        --ranks) ranks=$2; shift 2 ;;
        --out) out=$2; shift 2 ;;
        --steps) steps=$2; shift 2 ;;
        *) echo "$1 is no option; see the head of $0" >&2; exit 64 ;;
    esac
done
[ $# = 1 ] && [ -x "$1" ] || { echo "name the program: $0 [OPTION...] target/release/dlrm-bench" >&2; exit 64; }
binary=$(realpath "$1")
[ -z "$tests" ] || tests=$(realpath "$tests")
[ -z "$candle" ] || candle=$(realpath "$candle")
mkdir -p "$out" && out=$(realpath "$out")
command -v python3 >/dev/null || { echo 'python3 is missing: it reads the results' >&2; exit 1; }
[ -n "$only" ] && [ -e "$out/steps.tsv" ] || : > "$out/steps.tsv"

# step NAME LIMIT COMMAND...: runs it with a limit in seconds, keeps what it says and how it ended.
step() {
    local name=$1 limit=$2 began rc
    shift 2
    [[ $name =~ $only ]] || return 0
    sed -i "/^$name\t/d" "$out/steps.tsv"
    printf '== %s\n' "$name" >&2
    began=$(date +%s.%N)
    (cd "$root" && timeout --signal=INT --kill-after=20 "$limit" "$@") > "$out/$name.out" 2> "$out/$name.err"
    rc=$?
    printf '%s\t%d\t%s\n' "$name" "$rc" "$(python3 -c "import time; print(round(time.time() - $began, 2))")" >> "$out/steps.tsv"
    [ "$rc" = 0 ] || tail -n 3 "$out/$name.err" >&2
}

# train NAME LIMIT WORKLOAD OPTION...: its results go to a folder of its own.
train() {
    local name=$1 limit=$2 workload=$3
    shift 3
    step "$name" "$limit" ${launcher[@]+"${launcher[@]}"} "${program:-$binary}" run "$workload" --quiet --no-plots --results "$out/results/$name" "$@"
}

nvidia-smi > "$out/nvidia-smi.out" 2>&1 || true
step system 60 "$binary" system --json
if [ -z "$max_rows" ]; then
    [ -e "$out/system.out" ] || "$binary" system --json > "$out/system.out"
    memory=$(python3 -c 'import json, sys; print(max([0] + [g["memory"] for g in json.load(open(sys.argv[1]))["gpus"]]) >> 30)' "$out/system.out")
    max_rows=$([ "${memory:-0}" -ge 120 ] && echo 40000000 || echo 1000000)
fi
step ceilings 120 "$binary" system --ceilings --device "$device" --json
case $device in
    cuda:*) step operations 300 "$binary" system --check-device "$device" --json ;;
esac
if [ -n "$tests" ]; then
    step tests 600 "$tests" backend::cuda --test-threads 1
fi

short=(--set target.share_of_best= --set train.max_steps=400 --set eval.every_steps=200 --set eval.every_epochs= --no-ceilings)
train same-1 120 workloads/quickstart.toml "${short[@]}" --device "$device"
train same-2 120 workloads/quickstart.toml "${short[@]}" --device "$device"
DLRM_BENCH_CUDA_GRAPHS=off train same-without-graphs 120 workloads/quickstart.toml "${short[@]}" --device "$device"
train on-the-cpu 240 workloads/quickstart.toml "${short[@]}" --device cpu
train quickstart 300 workloads/quickstart.toml --device "$device"

# Throughput of whole training steps, data included; the first hundred steps are warm-up.
timed=(--set "train.max_steps=$steps" --set eval.every=never --set eval.every_steps= --set eval.every_epochs= --set train.epochs=1000 --device "$device")
mlperf=(--set model.dim=128 --set 'model.bottom=[512, 256, 128]' --set 'model.top=[1024, 1024, 512, 256, 1]' --set train.batch_size=65536
    --set "data.max_rows=$max_rows")
for precision in fp32 tf32 bf16 fp16; do
    case $device-$precision in cpu-tf32) continue ;; esac
    train "terabyte-$precision" 300 tests/workloads/terabyte-shape.toml "${timed[@]}" "${mlperf[@]}" --set engine.precision=$precision
    train "deepfm-$precision" 300 tests/workloads/deepfm-planted.toml "${timed[@]}" --set engine.precision=$precision --set target.auc= \
        --set data.max_rows=1000000 --set data.train_samples=20000000 --set model.dim=16 --set train.batch_size=10000 \
        --set 'model.hidden=[1000, 1000, 1000, 1000, 1000]' --set model.dropout=0.2
done

DLRM_BENCH_CUDA_GRAPHS=off train terabyte-bf16-without-graphs 300 tests/workloads/terabyte-shape.toml "${timed[@]}" "${mlperf[@]}" \
    --set engine.precision=bf16

# Several ranks against one.
if [ -n "$ranks" ]; then
    mpirun=${MPIRUN:-mpirun}
    [ -e "$out/system.out" ] || "$binary" system --json > "$out/system.out"
    gpus=$(python3 -c 'import json, sys; print(len(json.load(open(sys.argv[1]))["gpus"]))' "$out/system.out")
    several=("$mpirun" -n "$ranks")
    if "$mpirun" --version 2> /dev/null | grep -q 'Open MPI\|Open RTE'; then
        several+=(--bind-to none --oversubscribe)
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
    ways=(host)
    seats=()
    case $device in
        cuda:*) if [ "$((gpus - ${device#cuda:}))" -ge "$ranks" ]; then ways+=(nccl); else seats=(--set comm.gpus=shared); fi ;;
    esac
    train ranks-one 120 workloads/quickstart.toml "${short[@]}" --device "$device" --set comm.sum=tree
    for way in "${ways[@]}"; do
        exchange=()
        [ "$way" = host ] || exchange=(--set "comm.exchange=$way")
        launcher=("${several[@]}")
        train "ranks-$way" 180 workloads/quickstart.toml "${short[@]}" --device "$device" --ranks "$ranks" \
            --set comm.sum=tree ${seats[@]+"${seats[@]}"} ${exchange[@]+"${exchange[@]}"}
        launcher=()
    done
    sized=("${timed[@]}" "${mlperf[@]}" --set "train.max_steps=$((steps / 2))")
    case $device in cuda:*) sized+=(--set engine.precision=bf16) ;; esac
    train ranks-speed-one 180 tests/workloads/terabyte-shape.toml "${sized[@]}" --set data.max_rows=1000000
    for way in "${ways[@]}"; do
        exchange=()
        [ "$way" = host ] || exchange=(--set "comm.exchange=$way")
        launcher=("${several[@]}")
        train "ranks-speed-$way" 180 tests/workloads/terabyte-shape.toml "${sized[@]}" --ranks "$ranks" \
            --set data.max_rows=1000000 ${seats[@]+"${seats[@]}"} ${exchange[@]+"${exchange[@]}"}
        launcher=()
    done
fi

# Others on the same GPU: whole steps on batches that are there already.
if [ "${device%%:*}" = cuda ] && python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2> /dev/null; then
    torch() {
        local name=$1
        shift
        step "torch-$name" 300 env CUDA_VISIBLE_DEVICES="${device#cuda:}" python3 scripts/peers/torch_steps.py "$@" --device cuda
    }
    for precision in tf32 bf16; do
        for how in '' --graph '--compile --graph'; do
            # shellcheck disable=SC2086
            torch "terabyte-$precision-inplace${how// /}" terabyte inplace "--$precision" --max-rows "$max_rows" $how
            # shellcheck disable=SC2086
            torch "deepfm-$precision-fused${how// /}" deepfm-dense-adam fused "--$precision" $how
        done
        torch "deepfm-$precision-sparse" deepfm sparse "--$precision"
    done
fi
if [ -n "$candle" ]; then
    for engine in candle fused; do
        program=$candle train "beside-$engine" 300 tests/workloads/terabyte-shape.toml "${timed[@]}" --engine $engine --set data.max_rows=10000
    done
fi

exec python3 "$root/scripts/gpu-check.py" "$out" "$device"
