"""What the original programs make of a log, step by step, for tests/preprocess/recipes.rs.

    python3 originals.py RECIPE OUTPUT RAW...

compares what lies in OUTPUT with it, and says what differs. Shuffled rows are compared in sorted order.
"""

import sys
from pathlib import Path

import numpy as np

DENSE = [f"I{i}" for i in range(1, 14)]
IDS = [f"C{i}" for i in range(1, 27)]


def read(path):
    """Fields of all lines as text."""
    return [line.split("\t") for line in path.read_text().splitlines()]


def same(what, ours, theirs):
    if ours.shape != theirs.shape or not np.array_equal(ours, theirs):
        where = "" if ours.shape != theirs.shape else f", first at {np.argwhere(ours != theirs)[0]}"
        sys.exit(f"{what}: {ours.shape} and {theirs.shape} differ{where}")


def sort(rows):
    return rows[np.lexsort(rows.T[::-1])]


def parquet(folder, types):
    """All files of a folder as one table: names of columns, and rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [pq.read_table(path) for path in sorted(Path(folder).glob("*.parquet"))]
    for table in tables:
        assert [str(f.type) for f in table.schema] == types, table.schema
        assert [f.name for f in table.schema] == ["label", *DENSE, *IDS], table.schema
    return np.column_stack([column.to_numpy() for column in pa.concat_tables(tables).columns])


def oneflow_dlrm(output, days, null_id="own", shuffled=True):
    """criteo1t_parquet.scala, and criteo1t_parquet.py."""
    mod = 40_000_000
    stride = mod + 1 if null_id == "own" else mod

    def rows(lines):
        made = []
        for f in lines:
            dense = [float(np.float32(1 if x == "" else int(x) + 1)) for x in f[1:14]]
            ids = [(mod if x == "" else int(x, 16) % mod) + i * stride for i, x in enumerate(f[14:])]
            made.append([int(f[0]), *dense, *ids])
        return np.array(made, dtype=np.float64)

    train, last = [line for day in days[:-1] for line in day], days[-1]
    middle = (len(last) + 1) // 2
    types = ["float"] * 14 + ["int64"] * 26
    ours = parquet(output / "train", types)
    theirs = rows(train)
    if shuffled:
        assert not np.array_equal(ours, theirs)
        ours, theirs = sort(ours), sort(theirs)
    same("train", ours, theirs)
    same("test", parquet(output / "test", types), rows(last[:middle]))
    same("val", parquet(output / "val", types), rows(last[middle:]))


def xxh64(data, seed):
    """XXH64 of fewer than 32 bytes."""
    mask = (1 << 64) - 1
    p = [0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5]

    def rotate(x, r):
        return ((x << r) | (x >> (64 - r))) & mask

    h = (seed + p[4] + len(data)) & mask
    while len(data) >= 8:
        k = int.from_bytes(data[:8], "little") * p[1] & mask
        h = (rotate(h ^ (rotate(k, 31) * p[0] & mask), 27) * p[0] + p[3]) & mask
        data = data[8:]
    if len(data) >= 4:
        h = (rotate(h ^ (int.from_bytes(data[:4], "little") * p[0] & mask), 23) * p[1] + p[2]) & mask
        data = data[4:]
    for byte in data:
        h = rotate(h ^ (byte * p[4] & mask), 11) * p[0] & mask
    for shift, prime in [(33, p[1]), (29, p[2]), (32, 1)]:
        h = (h ^ (h >> shift)) * prime & mask
    return h


def folds(lines):
    """StratifiedKFold(10, shuffle=True, random_state=2018) of scikit-learn 0.19.1: the fold of each line."""
    labels = np.array([int(f[0]) for f in lines])
    rng = np.random.RandomState(2018)
    test_folds = np.zeros(len(lines), dtype=int)
    per_class = []
    for label in (0, 1):
        n = max(int((labels == label).sum()), 10)
        indices = np.arange(n)
        rng.shuffle(indices)
        sizes = np.full(10, n // 10)
        sizes[: n % 10] += 1
        per_class.append(np.split(indices, np.cumsum(sizes)[:-1]))
    for fold in range(10):
        for label in (0, 1):
            of_class = test_folds[labels == label]
            split = per_class[label][fold]
            of_class[split[split < len(of_class)]] = fold
            test_folds[labels == label] = of_class
    return test_folds


def criteo_x4(lines):
    """Test, validation and training lines of Criteo_x4's split."""
    of = folds(lines)
    parts = [[lines[i] for i in np.flatnonzero(of == fold)] for fold in range(10)]
    return parts[0], parts[1], [line for part in parts[2:] for line in part]


def oneflow_deepfm(output, days, shuffled=True):
    """deepfm_parquet.scala on Criteo_x4's split."""
    seeds = {}
    cache = {}

    def hashed(i, text):
        if (i, text) not in cache:
            seeds.setdefault(i, xxh64(i.to_bytes(4, "little"), 42))
            h = xxh64(text.encode(), seeds[i]) if text else seeds[i]
            cache[i, text] = h - (1 << 64) if h >> 63 else h
        return cache[i, text]

    def rows(lines):
        names = list(range(1, 14)) + list(range(1, 27))
        return np.array([[int(f[0])] + [hashed(i, x) for i, x in zip(names, f[1:])] for f in lines], dtype=np.int64)

    types = ["float"] + ["int64"] * 39
    test, val, train = criteo_x4(days[0])
    ours, theirs = long_rows(output / "train", types), rows(train)
    if shuffled:
        assert not np.array_equal(ours, theirs)
        ours, theirs = sort(ours), sort(theirs)
    same("train", ours, theirs)
    same("test", long_rows(output / "test", types), rows(test))
    same("val", long_rows(output / "val", types), rows(val))


def long_rows(folder, types):
    """As `parquet`, without a way through floating point."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parquet(folder, types)
    table = pa.concat_tables([pq.read_table(path) for path in sorted(Path(folder).glob("*.parquet"))])
    return np.column_stack([column.to_numpy().astype(np.int64) for column in table.columns])


def deeprec(output, days):
    lines = days[0]
    train = len(lines) - len(lines) // 5
    for name, part in [("train.csv", lines[:train]), ("eval.csv", lines[train:])]:
        theirs = "".join(",".join(fields) + "\n" for fields in part)
        if (output / name).read_text() != theirs:
            sys.exit(f"{name} differs")


RECIPES = {
    "oneflow-dlrm": oneflow_dlrm,
    "oneflow-dlrm-next": lambda output, days: oneflow_dlrm(output, days, null_id="next", shuffled=False),
    "oneflow-deepfm": oneflow_deepfm,
    "oneflow-deepfm-none": lambda output, days: oneflow_deepfm(output, days, shuffled=False),
    "deeprec": deeprec,
}

if __name__ == "__main__":
    RECIPES[sys.argv[1]](Path(sys.argv[2]), [read(Path(p)) for p in sys.argv[3:]])
