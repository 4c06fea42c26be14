"""Lets our engine and its peers take turns, round after round, and prints a table of medians and of ratios within rounds.

usage: rounds.py STEP_SPEED TUNED_LIBRARY [--rounds N] [--seconds S] [--systems A,B] [--json FILE]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# glibc then keeps the memory of activations instead of giving it back at every step, and puts it on huge pages.
TUNABLES = "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184:glibc.malloc.hugetlb=1"
MODES = {
    "deeprec": ["inplace", "joined"],
    "mlperf": ["inplace", "joined"],
    "facebook": ["joined", "bags"],
    "deepfm": ["sparse"],
    "deepfm-dense-adam": ["fused"],
}
AS_INSTALLED = {"deeprec": "bags", "mlperf": "bags", "facebook": "bags", "deepfm": "sparse", "deepfm-dense-adam": "plain"}


def contestants(system, step_speed, library):
    """Name, precision, command and environment of everyone who runs this system."""
    tuned = {"LD_PRELOAD": library, "GLIBC_TUNABLES": TUNABLES}
    torch = [sys.executable, str(HERE / "torch_steps.py"), system]
    for precision in ["fp32", "bf16"]:
        bf16 = ["--bf16"] if precision == "bf16" else []
        yield "ours", precision, [step_speed, system, "fused", precision], {}
        for mode in MODES[system]:
            yield f"torch tuned, {mode}", precision, [*torch, mode, *bf16], tuned
        yield f"torch as installed, {AS_INSTALLED[system]}", precision, [*torch, AS_INSTALLED[system], *bf16], {}
    yield "candle", "fp32", [step_speed, system, "candle", "fp32"], {}


def measure(command, environment, seconds):
    ours = "torch_steps.py" not in " ".join(command)
    command = [*command, str(seconds)] if ours else [*command, "--seconds", str(seconds)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        print(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return round(json.loads(done.stdout)["samples_per_second"])


def table(system, results):
    """Rows of a Markdown table: medians over the rounds, and the median of ours over theirs within a round."""
    for (name, precision), rates in results.items():
        rates = [r for r in rates if r]
        if not rates:
            yield f"| {system} | {precision} | {name} | failed | | |"
            continue
        pairs = [o / t for o, t in zip(results["ours", precision], results[name, precision]) if o and t]
        ratio = "" if name == "ours" else f"{statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})"
        spread = f"{min(rates):,} to {max(rates):,}"
        yield f"| {system} | {precision} | {name} | {statistics.median(rates):,.0f} | {spread} | {ratio} |"


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("step_speed")
    parser.add_argument("library")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--systems", default=",".join(MODES))
    parser.add_argument("--json", help="file for all single results")
    a = parser.parse_args()
    everything = {}
    print("| system | precision | who | samples/s (median) | lowest to highest round | ours / theirs |\n|---|---|---|---|---|---|")
    for system in a.systems.split(","):
        results = {}
        for number in range(a.rounds):
            order = list(contestants(system, a.step_speed, a.library))
            # Every other round backwards, so that a drift of the machine favours nobody.
            for name, precision, command, environment in order if number % 2 == 0 else reversed(order):
                results.setdefault((name, precision), []).append(measure(command, environment, a.seconds))
        ordered = {(n, p): results[n, p] for n, p, _, _ in contestants(system, a.step_speed, a.library)}
        print("\n".join(table(system, ordered)), flush=True)
        everything[system] = [{"who": n, "precision": p, "samples_per_second": r} for (n, p), r in ordered.items()]
    if a.json:
        Path(a.json).write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
