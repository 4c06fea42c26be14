"""facebookresearch/dlrm's preparation with --memory-map and its binary files, step by step with numpy, for tests/preprocess/original.rs.

    python3 transcription.py kaggle_8000.txt

cuts the sample into four days of 2,000 lines, and prints SHA-256 of train, test and val for each line of SETTINGS.
"""

import hashlib
import sys

import numpy as np

# max_ind_range, sub_sample_rate, randomize, seed
SETTINGS = [(40_000_000, 0.0, "total", 123), (10_000_000, 0.0, "none", 123), (1000, 0.4, "total", 7), (-1, 0.2, "day", 123)]


def read(lines, max_ind_range, sub_sample_rate):
    """`process_one_file`: label, integers and raw ids of a day."""
    rows = []
    rand_u = 1.0 if sub_sample_rate == 0.0 else np.random.uniform(low=0.0, high=1.0, size=len(lines))
    for k, line in enumerate(lines):
        fields = [f if f else "0" for f in line.split("\t")]
        u = rand_u if sub_sample_rate == 0.0 else rand_u[k]
        if int(fields[0]) == 0 and u < sub_sample_rate:
            continue
        ids = [int(f, 16) for f in fields[14:]]
        ids = [i % max_ind_range for i in ids] if max_ind_range > 0 else ids
        rows.append([int(f) for f in fields[:14]] + ids)
    return rows


def prepare(lines, max_ind_range, sub_sample_rate, randomize, seed):
    np.random.seed(seed)
    days = [read(lines[d * 2000 : (d + 1) * 2000], max_ind_range, sub_sample_rate) for d in range(4)]
    numbers = [{} for _ in range(26)]
    for row in (row for day in days for row in day):
        for j in range(26):
            row[14 + j] = numbers[j].setdefault(row[14 + j], len(numbers[j]))
        row[1:14] = [max(x, 0) for x in row[1:14]]
    sizes = [len(day) for day in days]
    # First pass of the shuffle: to a random training day that is not full.
    buckets = [[] for _ in days]
    for i, day in enumerate(days):
        if randomize != "total":
            buckets[i] = day
            continue
        rand_u = np.random.randint(low=0, high=3, size=len(day))
        for row, p in zip(day, rand_u):
            if i == 3:
                p = i
            else:
                while len(buckets[p]) >= sizes[p]:
                    p = np.random.randint(low=0, high=3)
            buckets[p].append(row)
    # Second pass: each training day.
    for j in range(3):
        if randomize != "none":
            indices = np.random.permutation(range(sizes[j]))
            buckets[j] = [buckets[j][i] for i in indices]
    last = buckets[3]
    middle = int(np.ceil(len(last) / 2.0))
    return [buckets[0] + buckets[1] + buckets[2], last[:middle], last[middle:]]


def main():
    with open(sys.argv[1]) as log:
        lines = log.read().splitlines()
    for settings in SETTINGS:
        parts = prepare(lines, *settings)
        for part in parts:
            print(hashlib.sha256(np.array(part, dtype="<i8").astype("<i4").tobytes()).hexdigest(), len(part), *settings)


main()
