#!/usr/bin/env bash
# How fast others read a Criteo log: polars (columns, hexadecimal ids to integers), pyarrow (columns, ids stay text), and the loop of Python
# that facebook's program runs over each line (on the first 100,000). Prints lines a second, the median of several passes.
#
#   CRITEO_LOG=/tmp/train.txt cargo bench --bench criteo_parse      # ours; keeps the log
#   scripts/criteo-peers.sh /tmp/train.txt
#
# Needs python3 with venv and pip; the packages go outside the tree, ${DLRM_BENCH_PEERS:-~/.cache/dlrm-bench/peers}. Nothing else should run.
set -euo pipefail
cd "$(dirname "$0")/.."
log=${1:?usage: scripts/criteo-peers.sh LOG}
. scripts/peers/readers.sh
"$python" scripts/peers/criteo.py "$log"
