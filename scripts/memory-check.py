#!/usr/bin/env python3
"""Whether `data preprocess` stays within its memory on a log of 5 GB, by what the operating system says of each process.

    cargo build --release
    MEMORY_CHECK_DIR=/tmp/memory-check scripts/memory-check.py [BUDGET_MIB]... [RECIPE]...

Makes a planted log of 20,000,000 lines in that folder (days, and the same in one file; 10 GB, which stay there) unless it is
there, and prepares it by each recipe within each budget (256 and 64 MiB if none is named; all recipes if none is). Takes 30 GB
of disk in all. Ends with 1 if a process took more. DLRM_BENCH names another program.
"""
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

LINES, DAYS = 20_000_000, 4
# mlperf-v2's own tables make it draw 23 GB of ids, whatever the log is.
ROWS = "400000,39060,17295,7424,20265,3,7122,1543,63,400000,306795,405282,10,2209,11938,155,4,976,14,400000,400000,400000,590152,12973,108,36"
RECIPES = [
    ("facebook-kaggle", "train.txt", []),
    ("facebook-terabyte", "days", []),
    ("mlperf-v1", "days", []),
    ("mlperf-v2", "days", ["--table-rows", ROWS]),
    ("oneflow-dlrm", "days", []),
    ("oneflow-deepfm", "train.txt", []),
    ("deeprec", "train.txt", []),
    ("nvidia", "days", []),
    ("fuxictr-criteo-x4", "train.txt", []),
]
program = Path(os.environ.get("DLRM_BENCH", Path(__file__).resolve().parent.parent / "target/release/dlrm-bench"))


def run(words):
    """Seconds, and the most memory that the process had at once, in MiB."""
    start = time.time()
    process = subprocess.Popen([program, "data", *map(str, words)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(map(str, words))}: failed")
    return time.time() - start, usage.ru_maxrss / 1024


def make_log(folder):
    days = folder / "days"
    days.mkdir(parents=True, exist_ok=True)
    n = LINES // DAYS
    for day in range(DAYS):
        path = days / f"day_{day}"
        if not path.exists():
            run(["generate", "criteo_kaggle", "--samples", n, "--start", day * n, "--to", "criteo", "-o", path, "-q"])
    whole = folder / "train.txt"
    if not whole.exists():
        part = folder / "train.txt.part"
        with open(part, "wb") as out:
            for day in range(DAYS):
                with open(days / f"day_{day}", "rb") as text:
                    shutil.copyfileobj(text, out, 1 << 20)
        part.rename(whole)
    print(f"{LINES:,} lines, {whole.stat().st_size:,} bytes", flush=True)


def main():
    folder = os.environ.get("MEMORY_CHECK_DIR")
    if not folder or not program.exists():
        sys.exit(__doc__)
    folder = Path(folder)
    budgets = [int(word) for word in sys.argv[1:] if word.isdigit()] or [256, 64]
    names = [word for word in sys.argv[1:] if not word.isdigit()] or [name for name, _, _ in RECIPES]
    if unknown := set(names) - {name for name, _, _ in RECIPES}:
        sys.exit(f"{', '.join(unknown)}: no such recipe; there are {', '.join(name for name, _, _ in RECIPES)}")
    make_log(folder)
    passed = True
    for budget in budgets:
        for recipe, log, more in (r for r in RECIPES if r[0] in names):
            output = folder / "out"
            shutil.rmtree(output, ignore_errors=True)
            words = ["preprocess", recipe, folder / log, "-o", output, "--memory", f"{budget}MiB", "-q", *more]
            seconds, peak = run(words)
            shutil.rmtree(output)
            verdict = "within" if peak <= budget else "BEYOND"
            passed = passed and peak <= budget
            print(f"{recipe:18} {seconds:6.0f} s  {peak:7.1f} MiB  {verdict} {budget} MiB", flush=True)
    sys.exit(0 if passed else 1)


main()
