"""Reads a Criteo log with polars, pyarrow and a loop of Python; prints lines a second of each."""

import itertools
import statistics
import sys
import time

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv

DENSE = [f"I{i}" for i in range(1, 14)]
IDS = [f"C{i}" for i in range(1, 27)]
NAMES = ["label", *DENSE, *IDS]
LOOP = 100_000


def polars_columns(path):
    schema = {n: pl.String if n in IDS else pl.Int32 for n in NAMES}
    frame = pl.scan_csv(path, separator="\t", has_header=False, schema=schema, quote_char=None)
    ids = [pl.col(c).str.to_integer(base=16, dtype=pl.UInt32, strict=True).fill_null(0) for c in IDS]
    return frame.with_columns(*ids).collect().height


def polars_text(path):
    schema = {n: pl.String if n in IDS else pl.Int32 for n in NAMES}
    return pl.read_csv(path, separator="\t", has_header=False, schema=schema, quote_char=None).height


def pyarrow_text(path):
    types = {n: pa.string() if n in IDS else pa.int32() for n in NAMES}
    return pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(column_names=NAMES),
        parse_options=pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=pyarrow.csv.ConvertOptions(column_types=types),
    ).num_rows


def loop(path):
    """What facebook's program does with a line, to arrays (its dictionaries come on top)."""
    labels, ints, ids = np.zeros(LOOP, "i4"), np.zeros((LOOP, 13), "i4"), np.zeros((LOOP, 26), "i8")
    with open(path) as lines:
        for i, line in enumerate(itertools.islice(lines, LOOP)):
            fields = [f if f not in ("", "\n") else "0" for f in line.split("\t")]
            labels[i] = np.int32(fields[0])
            ints[i] = np.array(fields[1:14], dtype=np.int32)
            ids[i] = np.array([int(f, 16) for f in fields[14:]])
    return LOOP


def main():
    path = sys.argv[1]
    print(f"polars {pl.__version__} ({pl.thread_pool_size()} threads), pyarrow {pa.__version__} ({pa.cpu_count()} threads)")
    for name, read, rounds in [
        ("polars, ids to integers", polars_columns, 5),
        ("polars, ids stay text", polars_text, 5),
        ("pyarrow, ids stay text", pyarrow_text, 5),
        ("loop of Python", loop, 3),
    ]:
        rates = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            lines = read(path)
            rates.append(lines / (time.perf_counter() - start))
        rates = rates[1:]
        print(f"{name:<24} {statistics.median(rates):>12,.0f} lines/s  ({min(rates):,.0f} to {max(rates):,.0f})")


main()
