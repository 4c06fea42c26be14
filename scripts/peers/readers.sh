# To be sourced: makes `python` one that has numpy, polars and pyarrow, in a folder outside the tree.
readers=${DLRM_BENCH_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/dlrm-bench/peers}/criteo
python=$readers/bin/python
[ -x "$python" ] || python3 -m venv "$readers"
"$python" -c 'import numpy, polars, pyarrow' 2>/dev/null || "$readers/bin/pip" install --quiet numpy polars pyarrow
