"""Sweeps one property of data, model or machine at a time, and prints samples a second with the floor of a step beside it.

usage: growth.py PROGRAM FOLDER ROUNDS
"""

import csv
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

# Four tables, and layers so small that rows count: what differs between lines is what a sweep sets.
BASE = """[workload]
name = "growth"
[data]
source = "planted"
preset = "custom"
tables = [1000000, 1000000, 1000000, 1000000]
exponents = [1.05, 1.05, 1.05, 1.05]
train_samples = 4000000000
eval_samples = 1000
[model]
kind = "dlrm"
dim = 32
bottom = [64, 32]
top = [64, 1]
[train]
batch_size = 2048
[optimizer]
kind = "sgd"
learning_rate = 0.01
[eval]
every = "never"
"""


def four(values):
    return [f"[{v}, {v}, {v}, {v}]" for v in values]


PROCESSORS = len(os.sched_getaffinity(0))
# Name, key, values, steps of a run, other settings.
AXES = [
    ("threads", "engine.threads", [t for t in (1, 2, 4, 8, 16, 32, 64) if t <= PROCESSORS], 400, []),
    ("batch", "train.batch_size", [128, 512, 2048, 8192, 32768, 65536], None, []),
    ("rows", "data.tables", four([10_000, 100_000, 1_000_000, 10_000_000, 20_000_000]), 400, []),
    ("hotness", "data.hotness", four([1, 3, 10, 30, 100]), 60, ["train.batch_size=1024"]),
    ("dimension", "model.dim", [16, 32, 64, 128], 400, []),
    ("law of ids (Zipf)", "data.exponents", four(["0.0", 0.5, 0.8, 1.05, 1.25]), 400, []),
]


def sweep(program, folder, name, key, values, steps, settings, rounds):
    """Rates and shares of the floor, by value."""
    results = folder / "results"
    shutil.rmtree(results, ignore_errors=True)
    found = {}
    # A step of a large batch takes longer: as many samples a run, whatever the batch.
    groups = [(values, steps)] if steps else [([v], max(20, 2048 * 400 // v)) for v in values]
    for some, number in groups:
        command = [program, "run", str(folder / "growth.toml"), "--steps", str(number), "--runs", str(rounds), "--quiet", "--results", str(results)]
        for setting in settings:
            command += ["--set", setting]
        command += ["--sweep", f"{key}={','.join(map(str, some))}"] if len(some) > 1 else ["--set", f"{key}={some[0]}"]
        if key == "model.dim":
            # The last layer of the bottom MLP has the dimension of the vectors.
            for dim in some:
                one = [*command[:-2], "--set", f"model.dim={dim}", "--set", f"model.bottom=[64, {dim}]"]
                run(one)
        else:
            run(command)
    for path in results.rglob("run.json"):
        record = json.loads(path.read_text())
        workload = (path.parent / "workload.toml").read_text()
        found.setdefault(value_of(workload, key), []).append(record)
    return found


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed: {done.stderr}")


def value_of(workload, key):
    section, name = key.split(".")
    inside = ""
    for line in workload.splitlines():
        if line.startswith("["):
            inside = line.strip("[]")
        elif inside == section and line.split("=")[0].strip() == name:
            return line.split("=", 1)[1].split("#")[0].strip()
    return "default"


def number(text):
    return float(text.strip("[]").split(",")[0])


def shown(value):
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def picture(axes):
    """An SVG with a panel for each axis: samples a second (line and dots) below the floor's (dashed), both on one logarithmic scale."""
    width, height, left, top, gap = 250, 150, 52, 34, 40
    columns = 3
    lows, highs = [], []
    for _, points in axes:
        lows += [rate for _, rate, _ in points]
        highs += [floor for _, _, floor in points]
    low, high = math.floor(math.log10(min(lows))), math.ceil(math.log10(max(highs)))
    rows = -(-len(axes) // columns)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * (width + left + 12)} {rows * (height + top + gap)}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for k, (name, points) in enumerate(axes):
        x0, y0 = (k % columns) * (width + left + 12) + left, (k // columns) * (height + top + gap) + top
        y = lambda value: y0 + height * (1 - (math.log10(value) - low) / (high - low))
        # Values stand side by side, as far apart as one another.
        x = lambda at: x0 + (width - 24) * (at / max(1, len(points) - 1)) + 12
        out.append(f'<text x="{x0}" y="{y0 - 14}" font-weight="bold">{name}</text>')
        for power in range(low, high + 1):
            unit = f"{10**power:,}" if power < 6 else f"{10 ** (power - 6):,} M"
            out.append(f'<path d="M{x0} {y(10**power):.1f}h{width}" stroke="#ddd"/>')
            out.append(f'<text x="{x0 - 4}" y="{y(10**power) + 4:.1f}" text-anchor="end" fill="#555">{unit}</text>')
        for at, (value, _, _) in enumerate(points):
            out.append(f'<text x="{x(at):.1f}" y="{y0 + height + 15}" text-anchor="middle" fill="#555">{short(value)}</text>')
        for of, style in [(2, 'stroke="#999" stroke-dasharray="5 4"'), (1, 'stroke="#1f6fb4" stroke-width="2"')]:
            line = " ".join(f"{x(at):.1f},{y(point[of]):.1f}" for at, point in enumerate(points))
            out.append(f'<polyline points="{line}" fill="none" {style}/>')
        for at, point in enumerate(points):
            out.append(f'<circle cx="{x(at):.1f}" cy="{y(point[1]):.1f}" r="3" fill="#1f6fb4"/>')
    out.append("</svg>")
    return "\n".join(out) + "\n"


def short(value):
    for size, unit in [(1e6, "M"), (1e3, "k")]:
        if value >= size and value % (size / 10) == 0:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


def main():
    program, folder, rounds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "growth.toml").write_text(BASE)
    print("| what grows | value | samples/s | ids/s (millions) | floor's share | most of the time |")
    print("|---|---:|---:|---:|---:|---|")
    with open(folder / "growth.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["axis", "value", "samples_per_second", "floor_samples_per_second"])
        axes = []
        for name, key, values, steps, settings in AXES:
            points = []
            found = sweep(program, folder, name, key, values, steps, settings, rounds)
            for text, records in sorted(found.items(), key=lambda item: number(item[0])):
                rates = [r["throughput"]["training"] if not r["throughput"].get("steady") else r["throughput"]["steady"]["mean"] for r in records]
                # A machine that others use for a moment has lower ceilings, never higher ones.
                rate, floor = statistics.median(rates), max(r["floor"]["samples_per_second"] for r in records)
                phases = sorted((p for p in records[0]["phases"]), key=lambda p: -p["share"])[:2]
                most = ", ".join(f"{p['phase']} {p['share']:.0%}" for p in phases)
                hot = number(text) if key == "data.hotness" else 1
                out.writerow([name, number(text), round(rate), round(floor)])
                points.append((number(text), rate, floor))
                print(f"| {name} | {shown(number(text))} | {rate:,.0f} | {4 * hot * rate / 1e6:.1f} | {rate / floor:.0%} | {most} |", flush=True)
            axes.append((name, points))
    (folder / "growth.svg").write_text(picture(axes))


if __name__ == "__main__":
    main()
