#!/usr/bin/env bash
# How fast training is where it does not have the machine to itself: programs take turns, alone, beside one and two busy processes, and
# with more threads than processors. Prints a Markdown table: samples a second (median of the rounds), and ratios: to the same program
# when quiet, and to the first program in the same case.
#
#   scripts/under-load.sh [--rounds N] [--steps N] [--workload FILE] [--threads 3,4,8,64] PROGRAM...
#
# PROGRAM is a dlrm-bench, such as target/release/dlrm-bench; give the older first. Three rounds of 300 steps unless told; the processors
# are those that this process may use (`taskset -c 0,1` makes them two). Nothing else should run meanwhile. Needs python3.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=3 steps=300 workload=workloads/deeprec-planted.toml more=3,4,8,64
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
        exit
        ;;
    --rounds) rounds=$2 && shift 2 ;;
    --steps) steps=$2 && shift 2 ;;
    --workload) workload=$2 && shift 2 ;;
    --threads) more=$2 && shift 2 ;;
    --*) echo "no option $1 (--help says what there is)" >&2 && exit 64 ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] || { echo 'give at least one PROGRAM (--help says how)' >&2; exit 64; }
for program; do [ -x "$program" ] || { echo "$program is no program" >&2; exit 66; }; done
command -v python3 >/dev/null || { echo 'python3 is missing' >&2; exit 69; }

work=$(mktemp -d)
busy=()
idle() {
    for pid in ${busy[@]+"${busy[@]}"}; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; done
    busy=()
}
trap 'idle; rm -rf "$work"' EXIT

# one CASE THREADS BUSY: each program once, beside so many busy processes; the programs' order changes from round to round
one() {
    for _ in $(seq "$3"); do
        sh -c 'while :; do :; done' &
        busy+=($!)
    done
    local n=$(($# - 3)) i at
    local programs=("${@:4}")
    for i in $(seq 0 $((n - 1))); do
        at=$(((i + round) % n))
        printf '== round %d of %d, %s: %s (%d s)\n' $((round + 1)) "$rounds" "$1" "${programs[$at]}" "$SECONDS" >&2
        rm -rf "$work/results"
        "${programs[$at]}" run "$workload" --steps "$steps" --no-ceilings --no-plots --set "engine.threads=$2" --results "$work/results" \
            >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
        python3 - "$work/results" "$at" "$1" >>"$work/figures" <<'PYTHON'
import json, pathlib, sys
(run,) = pathlib.Path(sys.argv[1]).rglob("run.json")
rates = json.load(open(run))["throughput"]
print(sys.argv[2], (rates.get("steady") or {}).get("mean") or rates["training"], sys.argv[3], sep="\t")
PYTHON
    done
    idle
}

processors=$(nproc)
for round in $(seq 0 $((rounds - 1))); do
    one quiet "$processors" 0 "$@"
    one 'one busy process' "$processors" 1 "$@"
    one 'two busy processes' "$processors" 2 "$@"
    for threads in ${more//,/ }; do one "$threads threads" "$threads" 0 "$@"; done
done
python3 - "$work/figures" "$processors" "$workload" "$@" <<'PYTHON'
import statistics, sys
figures, processors, workload, *programs = sys.argv[1:]
rates = {}
for line in open(figures):
    program, rate, case = line.rstrip("\n").split("\t")
    rates.setdefault(case, {}).setdefault(int(program), []).append(float(rate))
print(f"{workload}, {processors} processors, {len(rates['quiet'][0])} rounds\n")
print("| case | program | samples/s | lowest to highest | of quiet | to the first |")
print("|---|---|---:|---|---:|---:|")
for case, all in rates.items():
    for i, found in sorted(all.items()):
        quiet = [a / b for a, b in zip(found, rates["quiet"][i])]
        first = [a / b for a, b in zip(found, all[0])]
        print(f"| {case} | {programs[i]} | {statistics.median(found):,.0f} | {min(found):,.0f} to {max(found):,.0f} "
              f"| {statistics.median(quiet):.0%} | {statistics.median(first):.2f} |")
PYTHON
