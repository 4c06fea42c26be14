#!/usr/bin/env bash
# How fast others read the files of benches/formats.rs: numpy the records, polars and pyarrow the parquet file. Prints samples a second, the
# median of several passes.
#
#   FORMATS_DIR=/tmp/formats cargo bench --bench formats      # ours; keeps the files
#   scripts/formats-peers.sh /tmp/formats
#
# Needs python3 with venv and pip; the packages go outside the tree, ${DLRM_BENCH_PEERS:-~/.cache/dlrm-bench/peers}. Nothing else should run.
set -euo pipefail
cd "$(dirname "$0")/.."
files=${1:?usage: scripts/formats-peers.sh FOLDER}
. scripts/peers/readers.sh
"$python" scripts/peers/formats.py "$files"
