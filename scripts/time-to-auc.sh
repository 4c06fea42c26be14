#!/usr/bin/env bash
# Time to the same AUC: our engine and PyTorch tuned, whole trainings in turns, on the quick start's planted data and on Frappe.
# Prints a Markdown table: seconds from the first step until an evaluation finds the AUC (evaluations included, making and reading data left out
# for PyTorch, included for us), steps until then, and how many times longer.
#
#   scripts/time-to-auc.sh [--rounds N] [--program FILE] [quickstart] [frappe]
#   scripts/time-to-auc.sh --help
#
# Both unless one is named; Frappe needs FRAPPE, the folder with train.csv and valid.csv (docs/datasets.md says where they are). Each round
# has a seed of its own. The quick start's data are written once to npy for PyTorch, which has them in memory before its clock starts.
# Needs what scripts/peers.sh needs, which installs PyTorch (and with --all FBGEMM, which takes part where it is). Nothing else should run meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=3 program= systems=()
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
        exit
        ;;
    --rounds) rounds=$2 && shift 2 ;;
    --program) program=$2 && shift 2 ;;
    quickstart | frappe) systems+=("$1") && shift ;;
    *) echo "no system or option $1 (--help says what there is)" >&2 && exit 64 ;;
    esac
done
[ ${#systems[@]} -gt 0 ] || systems=(quickstart frappe)
home=${DLRM_BENCH_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/dlrm-bench/peers}
[ -x "$home/venv/bin/python" ] || { echo "no PyTorch in $home: scripts/peers.sh installs it" >&2; exit 69; }
if [ -z "$program" ]; then
    cargo build --release --quiet --bin dlrm-bench
    program=target/release/dlrm-bench
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say() { printf '== %s (%d s)\n' "$1" "$SECONDS" >&2; }

# What a knowing user sets (scripts/peers.sh): MKL takes its best path on AMD too, memory is kept and in huge pages.
tuned=(env LD_PRELOAD="$home/mkl.so" GLIBC_TUNABLES=glibc.malloc.hugetlb=1 MALLOC_TRIM_THRESHOLD_=1000000000 MALLOC_MMAP_THRESHOLD_=1000000000)
[ -e "$home/mkl.so" ] || tuned=(env)

# ours SYSTEM SEED OPTION...: one of our runs, as a line for the table
ours() {
    rm -rf "$work/results"
    "$program" run "${@:3}" --seed "$2" --results "$work/results" --no-plots --no-ceilings --quiet >"$work/out" 2>&1 ||
        { cat "$work/out" >&2; exit 1; }
    python3 scripts/performance/whole.py record "$1" "$work/results" >>"$work/lines"
}

# theirs SYSTEM SEED VENV MODE FILE...: one of PyTorch's
theirs() {
    "${tuned[@]}" "$home/$3/bin/python" scripts/peers/torch_whole.py "$1" "$4" "${@:5}" --target "$(cat "$work/$1.target")" --seed "$2" \
        >>"$work/lines" || echo "$4 of $3 cannot run here" >&2
}

for system in "${systems[@]}"; do
    case $system in
    quickstart)
        say 'writing the planted data'
        for split in train eval; do
            n=$([ $split = train ] && echo 6000000 || echo 100000)
            "$program" data generate criteo_kaggle --split $split --samples "$n" --to npz -o "$work/$split.npz" --quiet >&2
        done
        ;;
    frappe) [ -n "${FRAPPE:-}" ] || { say 'Frappe is left out: FRAPPE names no folder'; continue; } ;;
    esac
    for seed in $(seq "$rounds"); do
        say "$system, round $seed of $rounds"
        if [ "$system" = quickstart ]; then
            ours quickstart "$seed" quickstart
            [ -e "$work/quickstart.target" ] || python3 scripts/performance/whole.py target "$work/lines" >"$work/quickstart.target"
            theirs quickstart "$seed" venv joined "$work/train.npz" "$work/eval.npz"
            [ ! -e "$home/torchrec/ready" ] || theirs quickstart "$seed" torchrec fbgemm "$work/train.npz" "$work/eval.npz"
        else
            echo 0.975 >"$work/frappe.target"
            ours frappe "$seed" frappe-deepfm --set target.auc=0.975
            theirs frappe "$seed" venv plain "$FRAPPE/train.csv" "$FRAPPE/valid.csv"
            theirs frappe "$seed" venv fused "$FRAPPE/train.csv" "$FRAPPE/valid.csv"
        fi
    done
done
python3 scripts/performance/whole.py table "$work/lines"
