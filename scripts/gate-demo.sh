#!/usr/bin/env bash
# Shows that the gate catches a planted slowdown of 10 %: builds this program twice, once with the slowdown, and runs the gate on both.
# Ends with 0 if it was caught. BUDGET (120s) is the time for the gate, BUILDS (target/gate) where the builds are kept.
set -euo pipefail
cd "$(dirname "$0")/.."
builds=${BUILDS:-target/gate}
scripts/gate-builds.sh "$builds"
code=0
DLRM_BENCH_TEST_SLOWDOWN=10 "$builds/plain" gate workloads/deeprec-planted.toml \
    --a "$builds/plain" --b "$builds/slow" --budget "${BUDGET:-120s}" -o "$builds/demo" || code=$?
if [ "$code" = 1 ]; then
    printf '\nThe planted slowdown of 10 %% was caught (exit code 1).\n'
else
    printf '\nThe planted slowdown of 10 %% was NOT caught (exit code %s).\n' "$code" >&2
    exit 1
fi
