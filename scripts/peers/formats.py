"""Reads a.bin and a.parquet of a folder with numpy, polars and pyarrow; prints samples a second of each."""

import statistics
import sys
import time

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

BATCH = 2048


def numpy_batches(folder):
    """As facebook's CriteoBinDataset: batches of records, the logarithm of the counts, ids a column each."""
    rows = np.memmap(folder + "/a.bin", np.int32, "r").reshape(-1, 40)
    for start in range(0, len(rows), BATCH):
        batch = np.array(rows[start : start + BATCH])
        np.log(batch[:, 1:14].astype(np.float32) + 1)
        np.ascontiguousarray(batch[:, 14:].T)
        batch[:, 0].astype(np.float32)
    return len(rows)


def polars_table(folder):
    return pl.read_parquet(folder + "/a.parquet").height


def pyarrow_table(folder):
    return pq.read_table(folder + "/a.parquet").num_rows


def pyarrow_batches(folder):
    """Batches of arrays, as a loader wants them."""
    rows = 0
    for batch in pq.ParquetFile(folder + "/a.parquet").iter_batches(BATCH):
        columns = {n: c.to_numpy(zero_copy_only=False) for n, c in zip(batch.schema.names, batch.columns)}
        np.log(np.stack([columns[f"I{i}"] for i in range(1, 14)], 1).astype(np.float32) + 1)
        rows += len(columns["label"])
    return rows


def main():
    folder = sys.argv[1]
    print(f"polars {pl.__version__} ({pl.thread_pool_size()} threads), pyarrow {pa.__version__} ({pa.cpu_count()} threads)")
    for name, read in [
        ("bin40: numpy, batches", numpy_batches),
        ("parquet: polars, one table", polars_table),
        ("parquet: pyarrow, one table", pyarrow_table),
        ("parquet: pyarrow, batches", pyarrow_batches),
    ]:
        rates = []
        for _ in range(8):
            start = time.perf_counter()
            rows = read(folder)
            rates.append(rows / (time.perf_counter() - start))
        rates = rates[1:]
        print(f"{name:<28} {statistics.median(rates):>12,.0f} samples/s  ({min(rates):,.0f} to {max(rates):,.0f})")


main()
