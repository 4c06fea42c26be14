#!/usr/bin/env bash
# How training scales over ranks of this host: numbers of ranks take turns, each with the host's processors shared out among its ranks.
# Prints a Markdown table: samples a second (median of the rounds), what it is of ranks times one rank, and the share of time in messages.
# With --threads, and one rank among RANKS, the efficiency that the scaling model of `dlrm-bench plan --simulate` predicts stands beside it: from
# what the run of one rank reached, and from the latency and bandwidth that a run of several measured between its ranks.
#
#   scripts/scale.sh [--rounds N] [--steps N] [--workload FILE] [--weak] [--threads N] PROGRAM RANKS...
#   scripts/scale.sh --threads 1 target/release/dlrm-bench 1 2 4
#
# --threads N gives each rank N threads, whatever their number; --weak a batch of its own size for each rank, so that all work grows with them.
# Three rounds of 100 steps of the quick start unless told. Nothing else should run meanwhile. Needs mpirun in PATH, and python3.
set -euo pipefail
rounds=3 steps=100 workload=quickstart weak= threads=
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
        exit
        ;;
    --rounds) rounds=$2 && shift 2 ;;
    --steps) steps=$2 && shift 2 ;;
    --workload) workload=$2 && shift 2 ;;
    --threads) threads=$2 && shift 2 ;;
    --weak) weak=1 && shift ;;
    --*) echo "no option $1 (--help says what there is)" >&2 && exit 64 ;;
    *) break ;;
    esac
done
[ $# -ge 2 ] || { echo 'give PROGRAM and at least one number of ranks (--help says how)' >&2; exit 64; }
program=$1
shift
for tool in mpirun python3; do command -v $tool >/dev/null || { echo "$tool is missing" >&2; exit 69; }; done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_mpi_yield_when_idle=1
launch=(mpirun)
! mpirun --version | grep -q 'Open MPI\|Open RTE\|PRTE' || launch=(mpirun --oversubscribe --bind-to none)
batch=$("$program" run "$workload" --explain 2>/dev/null | sed -n 's/^ *batch_size = \([0-9_]*\).*/\1/p' | head -1 | tr -d _)

for round in $(seq "$rounds"); do
    for ranks; do
        printf '== round %d of %d, %d ranks (%d s)\n' "$round" "$rounds" "$ranks" "$SECONDS" >&2
        more=()
        [ -z "$threads" ] || more+=(--threads "$threads")
        [ -z "$weak" ] || more+=(--batch-size-per-rank "$batch")
        rm -rf "$work/results"
        "${launch[@]}" -n "$ranks" "$program" run "$workload" --steps "$steps" --ranks "$ranks" --no-ceilings --no-plots --quiet \
            --results "$work/results" ${more[@]+"${more[@]}"} >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
        python3 - "$work/results" "$ranks" >>"$work/figures" <<'PYTHON'
import json, pathlib, sys
(run,) = pathlib.Path(sys.argv[1]).rglob("run.json")
run = json.load(open(run))
rates = run["throughput"]
share = {p["phase"]: p["share"] for p in run["phases"]}
print(sys.argv[2], (rates.get("steady") or {}).get("mean") or rates["training"], share.get("comm", 0.0), sep="\t")
PYTHON
        find "$work/results" -name run.json -exec cp {} "$work/$ranks.json" \;
    done
done
model=()
most=$(printf '%s\n' "$@" | sort -n | tail -1)
if [ -n "$threads" ] && [ -e "$work/1.json" ] && [ "$most" -gt 1 ]; then
    read -r bandwidth latency < <(python3 - "$work/$most.json" <<'PYTHON'
import json, sys
(link,) = (x for x in json.load(open(sys.argv[1]))["links"] if x["between"] == "inside_host")
print(int(link["bandwidth"]), 1e6 * link["latency"])
PYTHON
    )
    printf 'between ranks: %.1f us a message, %.2f GB/s\n' "$latency" "$(python3 -c "print($bandwidth / 1e9)")" >&2
    model=("$work/model.json")
    "$program" plan "$workload" --simulate --like "$work/1.json" --ranks "$(printf '%s\n' "$@" | sort -nu | paste -sd,)" ${weak:+--weak} \
        --ranks-per-host "$most" --link-inside "$bandwidth" --latency-inside "$latency" --json >"${model[0]}"
fi
python3 - "$work/figures" ${model[@]+"${model[@]}"} <<'PYTHON'
import collections, json, statistics, sys
rates, shares = collections.defaultdict(list), collections.defaultdict(list)
for line in open(sys.argv[1]):
    ranks, rate, share = line.split("\t")
    rates[int(ranks)].append(float(rate))
    shares[int(ranks)].append(float(share))
least = min(rates)
one = statistics.median(rates[least]) / least
model = {}
if len(sys.argv) > 2:
    model = {p["ranks"]: p["efficiency"] for p in json.load(open(sys.argv[2]))["predictions"]}
print("| ranks | samples/s | efficiency | in messages |" + (" model |" if model else ""))
print("|---|---|---|---|" + ("---|" if model else ""))
for ranks in sorted(rates):
    rate = statistics.median(rates[ranks])
    predicted = f" {model[ranks]:.2f} |" if model else ""
    print(f"| {ranks} | {rate:,.0f} | {rate / ranks / one:.2f} | {statistics.median(shares[ranks]):.0%} |{predicted}")
PYTHON
