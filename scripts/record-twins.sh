#!/usr/bin/env bash
# Makes the convergence records of planted twins: trains each workload that is named, without its data, once for each seed, and writes
# reference_logs/NAME-planted.json of the runs. Without names those whose data are the same on all machines, the quickest first.
# BIN (target/release/dlrm-bench) is the program, SEEDS (101,102,103) the seeds, at least three, RESULTS (target/twins) where the runs stay,
# OUT (reference_logs) where the records go. A run that missed its target leaves no record, and the script goes on and ends with 1.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-target/release/dlrm-bench}
seeds=${SEEDS:-101,102,103}
results=${RESULTS:-target/twins}
out=${OUT:-reference_logs}
unset CRITEO_KAGGLE CRITEO_1TB DEEPREC_DATA
names=("$@")
if [ ${#names[@]} = 0 ]; then
    names=(deeprec deeprec-normalized oneflow-deepfm oneflow-deepfm-plateau fuxictr-deepfm oneflow-dlrm nvidia mlperf-v2)
fi
failed=0
for name in "${names[@]}"; do
    # Runs of an earlier call, of which one may be half done, are no part of it.
    rm -rf "${results:?}/$name"
    if "$bin" run "workloads/$name.toml" --seeds "$seeds" --results "$results/$name" --quiet --no-plots --no-ceilings </dev/null &&
        "$bin" record "$results/$name" -o "$out/$name-planted.json"; then
        continue
    fi
    printf '%s: no record\n' "$name" >&2
    failed=1
done
exit "$failed"
