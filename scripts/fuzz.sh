#!/usr/bin/env bash
# Looks for counterexamples: the property tests of each family over and over for a while, with new seeds. The parsers of files get random and damaged
# input, the kernels and the statistics random shapes and numbers.
#
#   scripts/fuzz.sh [MINUTES [FAMILY]...]      # 10 minutes each of all families; a family is a module of the library
#
# As many families at once as there are cores. Prints a line for each; ends with 1 if a test failed, and says where the counterexample is. Proptest keeps
# that in proptest-regressions/ too.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:-10}
[[ $minutes =~ ^[0-9]+$ && $minutes -gt 0 ]] || { echo 'usage: scripts/fuzz.sh [MINUTES [FAMILY]...]; MINUTES is a whole number from 1' >&2; exit 2; }
shift || true
families=("$@")
if [ ${#families[@]} = 0 ]; then
    families=(data::format::{bin40,criteo,csv,fuxictr,hugectr,libsvm,npz,numpy,nvidia,parquet,torchrec} data::preprocess::{criteo,fields,chunks,unpack}
        data::npy data::locality data::source::parquet data::source::bin40 mllog::parse mllog::check results::tree workload::parse
        backend::cpu::{bags,batch_norm,dense_update,dropout,fm,gemm,groups,interaction,sparse_update} data::preprocess::prepare data::source::planted
        metrics random stats)
fi

program=$(cargo test --lib --no-run --message-format=json |
    python3 -c 'import json, sys; print([m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable")][-1])')
logs=$(mktemp -d)
# So that another build in the meantime does not matter.
cp "$program" "$logs/tests"
program="$logs/tests"
export program logs minutes
# The files are many and small: in memory where there is such a folder.
[ -w /dev/shm ] && export TMPDIR=/dev/shm

one() {
    local log="$logs/${1//::/-}.log" rounds=0 end=$((SECONDS + 60 * minutes))
    while [ $SECONDS -lt $end ]; do
        if ! PROPTEST_CASES=2560 "$program" "$1::" > "$log" 2>&1; then
            printf '%-28s FAILED after %d rounds: %s\n' "$1" "$rounds" "$log"
            return 1
        fi
        grep -q '[1-9][0-9]* passed' "$log" || { echo "$1: there is no such family" >&2; return 1; }
        rounds=$((rounds + 1))
    done
    printf '%-28s %d rounds, %s each\n' "$1" "$rounds" "$(grep -o '[0-9]* passed' "$log")"
}
export -f one
printf '%s\n' "${families[@]}" | xargs -P "$(nproc)" -I{} bash -c 'one {}'
