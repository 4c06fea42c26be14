#!/usr/bin/env bash
# Measures what docs/performance.md shows, as Markdown with machine, day, commit and the grade of the machine's quiet.
#
#   scripts/performance.sh [--rounds N] [SECTION...]
#   scripts/performance.sh --help
#
# Sections, all unless some are named:
#   ceilings  what this machine can do at most (`dlrm-bench system --ceilings`)
#   peers     our engine beside others (scripts/peers.sh; with PEERS=--all beside those that specialise, too)
#   small     the same at small batches: deeprec at 128 and 512 samples
#   phases    where the time of a step goes (example step_speed)
#   auc       whole trainings to one AUC, ours and PyTorch's (scripts/time-to-auc.sh; Frappe where FRAPPE names it)
#   load      beside busy processes, and with more threads than processors (scripts/under-load.sh)
#   growth    how the cost grows with threads, batch, rows, hotness, dimension and the law of ids, with the floor beside it; a table
#             for other programs and a picture go to ${OUT:-growth}
#
# Two rounds unless told: under an hour on two processors; PEERS=--all takes half as much again. Nothing else should run meanwhile.
# Needs what scripts/peers.sh needs.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=2
sections=()
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
        exit
        ;;
    --rounds) rounds=$2 && shift 2 ;;
    ceilings | peers | small | phases | auc | load | growth) sections+=("$1") && shift ;;
    *) echo "no section or option $1 (--help says what there is)" >&2 && exit 64 ;;
    esac
done
[ ${#sections[@]} -gt 0 ] || sections=(ceilings peers small phases auc load growth)

cargo build --release --quiet --bin dlrm-bench --example step_speed
program=target/release/dlrm-bench
# Whoever builds has made the machine busy.
sleep 5
printf '%s, %s processors, %s, commit %s\n' "$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1)" "$(nproc)" "$(date -u +%F)" \
    "$(git rev-parse --short HEAD)"
printf 'family %s, model %s; ' $(sed -n 's/^cpu family[[:space:]]*: //p;s/^model[[:space:]]*: //p' /proc/cpuinfo | head -2)
"$program" doctor 2>&1 | sed -n '/grade/{p;q}' || true

ceilings() { "$program" system --ceilings; }

peers() { scripts/peers.sh --rounds "$rounds" --seconds 3 ${PEERS:-}; }

small() {
    for batch in 128 512; do scripts/peers.sh --rounds "$rounds" --seconds 2 --systems deeprec --batch "$batch"; done
}

phases() {
    echo '| system | precision | samples/s | ms a step, by phase |'
    echo '|---|---|---:|---|'
    for system in deeprec mlperf deepfm facebook; do
        for precision in fp32 bf16; do
            target/release/examples/step_speed "$system" fused "$precision" 4 | python3 scripts/performance/phases.py
        done
    done
}

auc() { scripts/time-to-auc.sh --rounds "$rounds" --program "$program"; }

load() { scripts/under-load.sh --rounds "$rounds" "$program"; }

growth() { python3 scripts/performance/growth.py "$program" "${OUT:-growth}" "$rounds"; }

for section in "${sections[@]}"; do
    printf '\n## %s (%d s)\n\n' "$section" "$SECONDS"
    "$section"
done
