#!/usr/bin/env bash
# Kills runs at random times (SIGKILL: while data are opened, in training, in an evaluation, while a checkpoint is written) and takes them up again, until
# each of its workloads has been killed so often and come to its end. Losses, AUC, parameters, optimizer state and log must then be those of a
# run that was left alone. Then kills eight commands that write files as often (convert, report, eval, export): what has its name is whole.
#
#   scripts/kill-runs.sh [KILLS]      # 112 a workload, more than a thousand in all; as many of each command
#   scripts/kill-runs.sh KILLS WORD   # only workloads whose name has that word, as in: 200 file
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:-112}
[[ $kills =~ ^[0-9]+$ && $kills -gt 0 ]] || { echo 'usage: scripts/kill-runs.sh [KILLS [WORD]]; KILLS is a whole number from 1' >&2; exit 2; }
export DLRM_BENCH_KILLS=$kills DLRM_BENCH_KILLED=${2:-}
cargo test --test checkpoint a_run_that_is_killed -- --nocapture
[[ -n ${2:-} ]] || cargo test --test kills
