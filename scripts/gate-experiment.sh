#!/usr/bin/env bash
# How often the gate is right on this machine: GATES (20) gates each of a program with itself, and of one slowed down by 2, 5 and 10 %.
# Prints a row for each; the verdicts stay in BUILDS/experiment. SLOWDOWNS ("0 2 5 10"), BUDGET (60s), WORKLOAD can be set.
set -euo pipefail
cd "$(dirname "$0")/.."
builds=${BUILDS:-target/gate}
workload=${WORKLOAD:-workloads/deeprec-planted.toml}
budget=${BUDGET:-60s}
scripts/gate-builds.sh "$builds"
printf '%s, budget %s, %s\n\n' "$workload" "$budget" "$(date -u +%F)"
printf '| slowdown planted | gates | regression | no regression | of these with a detectable slowdown below the planted | not enough evidence | other |\n'
printf '|---|---|---|---|---|---|---|\n'
for percent in ${SLOWDOWNS:-0 2 5 10}; do
    regression=0 fine=0 missed=0 open=0 other=0
    for gate in $(seq "${GATES:-20}"); do
        out="$builds/experiment/$percent-$gate"
        # Without a slowdown both sides are the same file.
        new=$builds/slow
        [ "$percent" = 0 ] && new=$builds/plain
        code=0
        DLRM_BENCH_TEST_SLOWDOWN=$percent "$builds/plain" gate "$workload" --a "$builds/plain" --b "$new" \
            --budget "$budget" --seed "$gate" -o "$out" --quiet >/dev/null || code=$?
        case $code in
            0)
                fine=$((fine + 1))
                # Nothing can be missed where nothing was planted.
                if [ "$percent" != 0 ] && awk -v p="$percent" -F '[:,]' \
                    '/"detectable"/ { exit !($2 != " null" && $2 * 100 < p) }' "$out/verdict.json"; then
                    missed=$((missed + 1))
                fi
                ;;
            1) regression=$((regression + 1)) ;;
            5) open=$((open + 1)) ;;
            130) exit 130 ;;
            *) other=$((other + 1)) ;;
        esac
    done
    printf '| %s %% | %s | %s | %s | %s | %s | %s |\n' "$percent" "${GATES:-20}" "$regression" "$fine" "$missed" "$open" "$other"
done
