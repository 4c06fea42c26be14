#!/usr/bin/env python3
"""Tables larger than memory, at the Terabyte log's full cardinalities: speed beside tables that fit, and what a long run takes.

    cargo build --release
    scripts/large-tables.py FOLDER [--minutes 30] [--cache 8GiB] [--disk 12GiB] [--dim 128] [--zipf 1.05] [--resident-rows 2000000]
    scripts/large-tables.py FOLDER --rows 4000000 --small-layers --dim 16 --cache 256MiB --disk 3GiB --resident-rows 0   # the file is cleaned all the time
    scripts/large-tables.py FOLDER --curve --steps 4000 --dim 16 --disk 12GiB   # hits by cache and law of ids

Trains (SGD, batches of 2,048) with tables of 187.8 million rows of which `--cache` are in memory, for so many minutes, between two
runs of 200 steps with tables of at most `--resident-rows` rows that are all in memory. Asks the system every second what the process
has in memory (without pages of files) and what the row file takes. Prints speeds by quarter of the run beside the resident ones, the
hits that were expected and found, and memory and file beside what was planned. Ends with 1 if memory or file grew beyond their plan
or memory still grew in the second half. With `--curve` it trains so many steps with layers that cost nothing instead, for caches of 64 MiB
to 1 GiB and ids by Zipf's law of 0.9, 1.05 and 1.2, and prints hits as they were found and expected. FOLDER gets the row file and the results. Have nothing else running for the speeds.
DLRM_BENCH names another program.
"""
import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet

# MLPerf's DLRM-DCNv2, as facebookresearch/dlrm has them.
ROWS = [39884406, 39043, 17289, 7420, 20263, 3, 7120, 1543, 63, 38532951, 2953546, 403346, 10, 2208, 11938, 155, 4, 976, 14, 39979771, 25641295,
        39664984, 585935, 12972, 108, 36]
WORKLOAD = """[workload]
name = "large-tables"
[data]
source = "planted"
preset = "custom"
tables = {tables}
exponents = {exponents}
train_samples = 2000000000
eval_samples = 1000
[model]
kind = "dlrm"
dim = {dim}
bottom = [{layers}{dim}]
top = [{layers}1]
[train]
batch_size = 2048
[optimizer]
kind = "sgd"
learning_rate = 0.1
[eval]
every = "never"
batch_size = 2048
"""
UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
root = Path(__file__).resolve().parent.parent
program = Path(os.environ.get("DLRM_BENCH", root / "target/release/dlrm-bench"))


def memory(pid):
    """Bytes of its own that the process has in memory, and blocks of the row file in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    own = int(re.search(r"RssAnon:\s+(\d+)", status)[1]) * 1024
    files = 0
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if "/rows/" in os.readlink(fd):
                files += os.stat(fd).st_blocks * 512
        except OSError:
            pass
    return own, files


def words(folder, workload, settings):
    file = folder / "large-tables.toml"
    file.write_text(workload)
    return [str(program), "run", str(file), "--results", str(folder / "results"), "--no-plots", "--no-ceilings",
            *(w for s in settings for w in ("--set", s))]


def planned(command):
    """Bytes that the plan has for the file."""
    said = subprocess.run([*command, "--explain"], capture_output=True, text=True, check=True).stdout
    size = re.search(r"takes at most ([\d.]+) (\w+)", said)
    return float(size[1]) * UNITS[size[2]]


def speeds(folder, parts):
    """Samples a second of equal parts of the newest run, by its steps, and its record."""
    run = max(folder.glob("results/*/*/*"), key=lambda p: p.stat().st_mtime)
    table = pyarrow.parquet.read_table(run / "metrics.parquet").to_pydict()
    seconds = table["seconds"]
    cut = len(seconds) // parts
    return [2048 / statistics.fmean(seconds[k * cut:(k + 1) * cut]) for k in range(parts)], json.loads((run / "run.json").read_text())


def workload(args, most):
    rows = [min(r, most) for r in ROWS]
    return WORKLOAD.format(tables=rows, exponents=[args.zipf] * len(ROWS), dim=args.dim, layers="" if args.small_layers else "512, 256, ")


def resident(folder, args):
    subprocess.run([*words(folder, workload(args, args.resident_rows), []), "--steps", "200", "--quiet"], check=True)
    return speeds(folder, 2)[0][1]


def hits(record):
    """Shares of ids whose row was in memory, of tables that are not there whole: found and expected."""
    tables, expected = record["outcome"]["tables"], record.get("expected_hits", [])
    found = sum(t["hits"] for t in tables) / sum(t["hits"] + t["misses"] for t in tables)
    return found, 1 - sum(e["misses"] for e in expected) / sum(e["ids"] for e in expected)


def curve(args):
    args.small_layers = True
    print("| cache | " + " | ".join(f"Zipf {zipf}: found, expected" for zipf in (0.9, 1.05, 1.2)) + " |\n|---|---|---|---|")
    for cache in ("64MiB", "128MiB", "256MiB", "512MiB", "1GiB"):
        cells = []
        for args.zipf in (0.9, 1.05, 1.2):
            settings = ["embedding.store=cached", f"embedding.cache={cache}", f"embedding.disk={args.disk}", f"embedding.path={args.folder}/rows"]
            command = words(args.folder, workload(args, args.rows), settings)
            subprocess.run([*command, "--steps", str(args.steps), "--quiet"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            cells.append("{:.2%}, {:.2%}".format(*hits(speeds(args.folder, 1)[1])))
        print(f"| {cache} | " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--steps", type=int, default=4000, help="of each run of the curve")
    parser.add_argument("--cache", default="8GiB")
    parser.add_argument("--disk", default="12GiB")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--zipf", type=float, default=1.05)
    parser.add_argument("--rows", type=int, default=1 << 31, help="no table has more rows")
    parser.add_argument("--small-layers", action="store_true", help="layers that cost nothing, so that rows are most of a step")
    parser.add_argument("--resident-rows", type=int, default=2_000_000)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if not program.exists():
        sys.exit(__doc__)
    if args.curve:
        return curve(args)
    before = resident(args.folder, args) if args.resident_rows else None
    settings = ["embedding.store=cached", f"embedding.cache={args.cache}", f"embedding.disk={args.disk}", f"embedding.path={args.folder}/rows"]
    command = words(args.folder, workload(args, args.rows), settings)
    file_plan = planned(command)
    process = subprocess.Popen([*command, "--quiet"])
    began, samples = time.monotonic(), []
    while process.poll() is None:
        passed = time.monotonic() - began
        try:
            samples.append((passed, *memory(process.pid)))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            pass
        if passed > args.minutes * 60:
            process.send_signal(signal.SIGTERM)
            process.wait(120)
        time.sleep(1)
    last = samples[-1][0]
    half = lambda k, of: max((s[of] for s in samples if k * last / 2 <= s[0] <= (k + 1) * last / 2), default=0)
    quarters, record = speeds(args.folder, 4)
    after = resident(args.folder, args) if args.resident_rows else None
    print(f"{record['outcome']['reason']} after {last:.0f} s and {record['outcome']['steps']:,} steps")
    if before:
        base = (before + after) / 2
        print(f"resident (at most {args.resident_rows:,} rows a table): {before:,.0f} before, {after:,.0f} samples/s after")
        print("cached by quarter: " + ", ".join(f"{q:,.0f} ({q / base:.1%})" for q in quarters))
    else:
        print("cached by quarter: " + ", ".join(f"{q:,.0f}" for q in quarters))
    sums = {k: sum(t[k] for t in record["outcome"]["tables"]) for k in ("hits", "misses", "reads", "bytes_read", "bytes_written")}
    print("found {:.2%} of ids in memory, expected {:.2%}, of tables that are not there whole;".format(*hits(record)), sums)
    plan = sum(item["bytes"] for item in record["memory_plan"])
    print(f"memory: planned {plan / 1e9:.2f} GB, most {half(0, 1) / 1e9:.2f} GB in the first half, {half(1, 1) / 1e9:.2f} GB in the second")
    print(f"file: at most {file_plan / 1e9:.2f} GB, most {half(0, 2) / 1e9:.2f} and {half(1, 2) / 1e9:.2f} GB")
    grew = half(1, 1) > 1.01 * half(0, 1)
    sys.exit(1 if grew or half(1, 1) > 1.05 * plan or half(1, 2) > file_plan else 0)


if __name__ == "__main__":
    main()
