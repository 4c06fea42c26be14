"""Lets our engine and its peers take turns, round after round, and prints a table of medians and of ratios within rounds.

usage: rounds.py STEP_SPEED TUNED_LIBRARY [--rounds N] [--seconds S] [--systems A,B] [--batch N] [--json FILE] [--other MODE=PYTHON]...
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
# Who specialises, each with a Python of its own (--other): the systems that it has.
OTHERS = {
    "ipex": ["deeprec", "mlperf", "facebook"],
    "fbgemm": ["deeprec", "mlperf", "facebook"],
    "torchrec": ["deeprec", "mlperf", "facebook"],
    "tensorflow": ["deeprec", "mlperf"],
    "tensorflow-xla": ["deeprec", "mlperf"],
}
AS_INSTALLED = {"deeprec": "bags", "mlperf": "bags", "facebook": "bags", "deepfm": "sparse", "deepfm-dense-adam": "plain"}


def multiplies_bf16():
    """Whether a processor of this machine does; where none does, PyTorch takes minutes a step."""
    info = Path("/proc/cpuinfo")
    return info.exists() and not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(info.read_text().split())


def contestants(system, step_speed, library, others):
    """Name, precision, command and environment of everyone who runs this system."""
    tuned = {"LD_PRELOAD": library, "GLIBC_TUNABLES": TUNABLES}
    torch = [sys.executable, str(HERE / "torch_steps.py"), system]
    for precision in ["fp32", "bf16"]:
        bf16 = ["--bf16"] if precision == "bf16" else []
        yield "ours", precision, [step_speed, system, "fused", precision], {}
        if bf16 and not multiplies_bf16():
            continue
        for mode in MODES[system]:
            yield f"torch tuned, {mode}", precision, [*torch, mode, *bf16], tuned
        yield f"torch as installed, {AS_INSTALLED[system]}", precision, [*torch, AS_INSTALLED[system], *bf16], {}
        for mode, python in others.items():
            if system not in OTHERS[mode]:
                continue
            if mode.startswith("tensorflow"):
                xla = ["--xla"] if mode.endswith("xla") else []
                command = [python, str(HERE / "tf_steps.py"), system, *bf16, *xla]
            else:
                command = [python, str(HERE / "torch_steps.py"), system, mode, *bf16]
            yield f"{mode} as installed", precision, command, {}
            yield f"{mode} tuned", precision, command, tuned
    yield "candle", "fp32", [step_speed, system, "candle", "fp32"], {}


def measure(command, environment, seconds, batch):
    """Samples a second, or the last words of a command that failed; batches of the system's own size if `batch` is None."""
    ours = "_steps.py" not in " ".join(command)
    command = [*command, str(seconds)] if ours else [*command, "--seconds", str(seconds)]
    if batch:
        command += [str(batch)] if ours else ["--batch", str(batch)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        print(f"{' '.join(command)} failed: {why}", file=sys.stderr)
        return why
    # Libraries have their say before.
    return round(json.loads(done.stdout.strip().splitlines()[-1])["samples_per_second"])


def table(system, results):
    """Rows of a Markdown table: medians over the rounds, and the median of ours over theirs within a round."""
    for (name, precision), measured in results.items():
        rates = [r for r in measured if isinstance(r, int)]
        if not rates:
            yield f"| {system} | {precision} | {name} | failed: {measured[-1]} | | |"
            continue
        both = zip(results["ours", precision], measured)
        pairs = [o / t for o, t in both if isinstance(o, int) and isinstance(t, int)]
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
    parser.add_argument("--batch", type=int, help="samples of a step, instead of the systems' own")
    parser.add_argument("--json", help="file for all single results; their batch is null where it is the system's own")
    parser.add_argument("--other", action="append", default=[], help="MODE=PYTHON that runs one of " + ", ".join(OTHERS))
    a = parser.parse_args()
    if not multiplies_bf16():
        print("no instructions for bf16 here: in bf16 our engine alone is measured", file=sys.stderr)
    others = dict(other.split("=", 1) for other in a.other)
    everything = {}
    print("| system | precision | who | samples/s (median) | lowest to highest round | ours / theirs |\n|---|---|---|---|---|---|")
    for system in a.systems.split(","):
        results = {}
        for number in range(a.rounds):
            order = list(contestants(system, a.step_speed, a.library, others))
            # Every other round backwards, so that a drift of the machine favours nobody.
            for name, precision, command, environment in order if number % 2 == 0 else reversed(order):
                results.setdefault((name, precision), []).append(measure(command, environment, a.seconds, a.batch))
        ordered = {(n, p): results[n, p] for n, p, _, _ in contestants(system, a.step_speed, a.library, others)}
        named = f"{system}, batch {a.batch:,}" if a.batch else system
        print("\n".join(table(named, ordered)), flush=True)
        everything[system] = [{"who": n, "precision": p, "batch": a.batch, "samples_per_second": r} for (n, p), r in ordered.items()]
    if a.json:
        Path(a.json).write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
