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


def fuxictr(output, days):
    """FuxiCTR's FeatureProcessor on Criteo_x4's split; ties in frequency by value."""
    import json

    import pyarrow.parquet as pq

    def value(column, text):
        if column >= 13:
            return text
        v = float(text or 0)
        return int(np.floor(np.log(v) ** 2)) if v > 2 else int(v)

    test, valid, train = criteo_x4(days[0])
    vocabulary = {}
    for column, name in enumerate(DENSE + IDS):
        counts = {}
        for fields in train:
            token = value(column, fields[1 + column])
            counts[token] = counts.get(token, 0) + 1
        na = 0 if column < 13 else ""
        words = [t for t, n in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0])) if n >= 10 and t != na]
        vocabulary[name] = {"__PAD__": 0, **{str(t): i for i, t in enumerate(words, 1)}, "__OOV__": len(words) + 1}
    if json.dumps(vocabulary, indent=4) != (output / "feature_vocab.json").read_text():
        sys.exit("feature_vocab.json differs")
    sizes = [len(words) for words in vocabulary.values()]
    theirs = {
        "dataset_id": "criteo_x4",
        "num_fields": 39,
        "total_features": sum(sizes),
        "input_length": 39,
        "labels": ["Label"],
        "features": [
            {name: {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": size}}
            for name, size in zip(vocabulary, sizes)
        ],
    }
    if json.dumps(theirs, indent=4) != (output / "feature_map.json").read_text():
        sys.exit("feature_map.json differs")
    for name, lines in [("train", train), ("valid", valid), ("test", test)]:
        table = pq.read_table(output / f"{name}.parquet")
        assert [f.name for f in table.schema] == ["Label", *DENSE, *IDS], table.schema
        assert [str(f.type) for f in table.schema] == ["float"] + ["int64"] * 39, table.schema
        rows = []
        for fields in lines:
            ids = [
                words.get(str(value(column, fields[1 + column])), words["__OOV__"])
                for column, words in enumerate(vocabulary.values())
            ]
            rows.append([int(fields[0])] + ids)
        ours = np.column_stack([column.to_numpy().astype(np.int64) for column in table.columns])
        same(name, ours, np.array(rows, dtype=np.int64))


def nvidia(output, days, limit=15, shuffled=True):
    """spark_data_utils.py, parquet to binary and split_dataset.py; ties in frequency by value."""
    import yaml

    models = []
    for column in range(14, 40):
        counts = {}
        for fields in (fields for day in days for fields in day):
            if fields[column]:
                counts[fields[column]] = counts.get(fields[column], 0) + 1
        kept = sorted((-n, text) for text, n in counts.items() if n >= limit)
        models.append({text: i for i, (_, text) in enumerate(kept, 1)})
    types = [next(t for t in (np.int8, np.int16, np.int32) if len(m) + 1 < np.iinfo(t).max) for m in models]
    names = [f"cat_{i}.bin" for i in range(26)]
    numbers = [f"num_{i}" for i in range(13)]
    features = {n: {"dtype": str(np.dtype(t)), "cardinality": len(m) + 1} for n, t, m in zip(names, types, models)}
    features |= {n: {"dtype": "float16"} for n in numbers} | {"label": {"dtype": "bool"}}

    def chunks(split):
        parts = [(numbers, "numerical.bin"), (["label"], "label.bin")] + [([n], n) for n in names]
        return [{"type": "split_binary", "features": f, "files": [f"{split}/{file}"]} for f, file in parts]

    theirs = {
        "channel_spec": {"categorical": names, "numerical": numbers, "label": ["label"]},
        "feature_spec": features,
        "source_spec": {split: chunks(split) for split in ("train", "test")},
        "metadata": {},
    }
    ours = yaml.safe_load((output / "feature_spec.yaml").read_text())
    for spec in (ours, theirs):
        for split in spec["source_spec"].values():
            split.sort(key=lambda chunk: chunk["files"])
    if ours != theirs:
        sys.exit(f"feature_spec.yaml differs: {ours}")
    last = days[-1]
    middle = len(last) // 2
    splits = {"train": [f for day in days[:-1] for f in day], "test": last[:middle], "validation": last[middle:]}
    for split, lines in splits.items():
        folder = output / split
        assert len(list(folder.iterdir())) == 28
        rows = []
        for fields in lines:
            dense = [np.log(np.float64(int(x) + 3)) if x != "" and int(x) > -3 else 0.0 for x in fields[1:14]]
            dense = np.array(dense).astype(np.float32).astype(np.float16)
            rows.append([int(fields[0]), *dense, *(m.get(x, 0) for m, x in zip(models, fields[14:]))])
        theirs = np.array(rows, dtype=np.float64)
        n = len(lines)
        columns = [np.fromfile(folder / "label.bin", dtype=bool).reshape(n, 1)]
        columns.append(np.fromfile(folder / "numerical.bin", dtype=np.float16).reshape(n, 13))
        columns += [np.fromfile(folder / name, dtype=t).reshape(n, 1) for name, t in zip(names, types)]
        ours = np.hstack([c.astype(np.float64) for c in columns])
        if split == "train" and shuffled:
            assert not np.array_equal(ours, theirs)
            ours, theirs = sort(ours), sort(theirs)
        same(split, ours, theirs)


def mlperf_v2(output, days, pareto=False, shuffled=True):
    """torchrec's BinaryCriteoUtils (ids whole all the way), materialize_synthetic_multihot_dataset.py and multi_hot.py."""
    rows = [400, 39, 17, 7, 20, 3, 7, 15, 63, 1000, 300, 4052, 10, 22, 11, 155, 4, 97, 14, 40, 400, 4000, 590, 129, 108, 36]
    hotness = [3, 2, 1, 2, 6, 1, 1, 1, 1, 7, 3, 8, 1, 6, 9, 5, 1, 1, 1, 12, 100, 27, 10, 3, 1, 1]
    np.random.seed(0)
    tables = []
    for n, size in zip(rows, hotness):
        ids = np.arange(n)[:, np.newaxis]
        if pareto:
            with np.errstate(invalid="ignore"):
                synthetic = np.random.pareto(a=0.25, size=(n, size - 1)).astype(np.int32) % n
        else:
            synthetic = np.random.randint(0, n, size=(n, size - 1))
        tables.append(np.concatenate((ids, synthetic), axis=-1).astype(np.int32))
    numbers = [{} for _ in range(26)]
    made = []
    for lines in days:
        day = []
        for fields in lines:
            ids = [int(x or "0", 16) for x in fields[14:]]
            ids = [known.setdefault(x, len(known) + 2) for known, x in zip(numbers, ids)]
            day.append([int(x or "0") for x in fields[:14]] + ids)
        made.append(np.array(day, dtype=np.int64))
    if shuffled:
        train = np.concatenate(made[:-1])
        np.random.seed(0)
        np.random.shuffle(train)
        ends = np.cumsum([len(day) for day in made[:-1]])
        made[:-1] = np.split(train, ends[:-1])
    for d, day in enumerate(made):
        dense = np.load(output / f"day_{d}_dense.npy")
        assert dense.dtype == np.float32 and dense.shape == (len(day), 13)
        # numpy's own logarithm of 32 bits is good to four units.
        np.testing.assert_array_max_ulp(dense, np.log(day[:, 1:14].astype(np.int32) + 3, dtype=np.float32), 4)
        labels = np.load(output / f"day_{d}_labels.npy")
        assert labels.dtype == np.int32
        same(f"labels of day {d}", labels, day[:, :1].astype(np.int32))
        archive = np.load(output / f"day_{d}_sparse_multi_hot.npz")
        assert archive.files == [str(i) for i in range(26)], archive.files
        for i, table in enumerate(tables):
            assert archive[str(i)].dtype == np.int32
            same(f"table {i} of day {d}", archive[str(i)], table[day[:, 14 + i] % rows[i]])


RECIPES = {
    "mlperf-v2": mlperf_v2,
    "mlperf-v2-pareto": lambda output, days: mlperf_v2(output, days, pareto=True, shuffled=False),
    "fuxictr-criteo-x4": fuxictr,
    "nvidia": nvidia,
    "nvidia-all": lambda output, days: nvidia(output, days, limit=0, shuffled=False),
    "oneflow-dlrm": oneflow_dlrm,
    "oneflow-dlrm-next": lambda output, days: oneflow_dlrm(output, days, null_id="next", shuffled=False),
    "oneflow-deepfm": oneflow_deepfm,
    "oneflow-deepfm-none": lambda output, days: oneflow_deepfm(output, days, shuffled=False),
    "deeprec": deeprec,
}

if __name__ == "__main__":
    RECIPES[sys.argv[1]](Path(sys.argv[2]), [read(Path(p)) for p in sys.argv[3:]])
