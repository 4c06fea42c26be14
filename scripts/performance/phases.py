"""A line of the table of phases from a line of example step_speed on standard input."""

import json
import sys

d = json.load(sys.stdin)
phases = ", ".join(f"{name} {1e3 * seconds:.2f}" for name, seconds in d["phases"].items() if seconds > 0)
print(f"| {d['system']} | {d['precision']} | {d['samples_per_second']:,} | {phases} |")
