"""Helps scripts/time-to-auc.sh.

usage: whole.py record SYSTEM RESULTS   one of our runs as a line of JSON, as torch_whole.py writes them
       whole.py target LINES            the AUC that the first line was trained to
       whole.py table LINES             a Markdown table of all lines
"""

import json
import pathlib
import statistics
import sys


def record(system, results):
    (path,) = pathlib.Path(results).rglob("run.json")
    run = json.loads(path.read_text())
    outcome, convergence = run["outcome"], run["convergence"]
    print(json.dumps({
        "system": system, "engine": "ours", "seed": run["facts"].get("seed"), "steps": outcome["steps"], "samples": outcome["samples"],
        "reached": convergence["seconds_to_target"] is not None, "auc": [round(e["quality"]["auc"], 5) for e in run["evaluations"]],
        "seconds": round(convergence["seconds_to_target"] or outcome["seconds"], 3),
        "evaluating": round(sum(e["seconds"] for e in run["evaluations"]), 3), "target": run["facts"]["target_auc"],
    }))


def lines(path):
    return [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]


def target(path):
    print(lines(path)[0]["target"])


def spread(values):
    middle = statistics.median(values)
    return f"{middle:.4g} ({min(values):.4g} to {max(values):.4g})" if len(values) > 1 else f"{middle:.4g}"


def table(path):
    runs = lines(path)
    print("| system | who | seconds to the AUC | of these evaluating | steps | reached | theirs / ours |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for system in dict.fromkeys(run["system"] for run in runs):
        ours = [r["seconds"] for r in runs if r["system"] == system and r["engine"] == "ours"]
        for engine in dict.fromkeys(run["engine"] for run in runs if run["system"] == system):
            mine = [r for r in runs if (r["system"], r["engine"]) == (system, engine)]
            of = lambda key: [r[key] for r in mine]
            ratio = "" if engine == "ours" else spread([b / a for a, b in zip(ours, of("seconds"))])
            print(
                f"| {system} | {engine} | {spread(of('seconds'))} | {spread(of('evaluating'))} | {spread(of('steps'))} "
                f"| {sum(of('reached'))} of {len(mine)} | {ratio} |"
            )


if __name__ == "__main__":
    {"record": record, "target": target, "table": table}[sys.argv[1]](*sys.argv[2:])
