#!/usr/bin/env python3
"""What scripts/gpu-check.sh found, as a table and as gpu-check.json. Exits with 1 if anything failed."""

import json
import pathlib
import re
import sys

# AUC of a few hundred steps on two devices: sums are cut otherwise, and the runs drift apart slowly.
AUC_APART = 2e-3


def record(out, name):
    found = sorted((out / "results" / name).rglob("run.json"))
    return json.loads(found[-1].read_text()) if found else None


def quality(run):
    return [(e["step"], e["quality"]["auc"], e["quality"]["logloss"]) for e in run["evaluations"]]


def replays(run):
    """How many steps a run repeated as CUDA graphs, and what its record says of it."""
    notes = [n for n in (run.get("data") or {}).get("notes") or [] if n.startswith("CUDA graphs: ")]
    said = notes[-1].removeprefix("CUDA graphs: ") if notes else "the record says nothing of CUDA graphs"
    found = re.match(r"(\d+) steps repeated", said)
    return int(found[1]) if found else 0, said


def main():
    out, device = pathlib.Path(sys.argv[1]), sys.argv[2]
    rows, report = [], {"device": device, "steps": [], "throughput": {}}
    codes = {}
    for line in (out / "steps.tsv").read_text().splitlines():
        name, code, seconds = line.split("\t")
        codes[name] = int(code)
        report["steps"].append({"name": name, "exit": int(code), "seconds": float(seconds)})

    def row(what, passed, said):
        rows.append((what, "ok" if passed else "FAILED", said))

    def why(name):
        lines = (out / f"{name}.err").read_text(errors="replace").strip().splitlines()
        return f"exit {codes[name]}: {lines[-1] if lines else 'nothing said'}"

    if "operations" in codes:
        try:
            operations = json.loads((out / "operations.out").read_text())
        except ValueError:
            row("operations against the CPU", False, why("operations"))
        else:
            report["operations"] = operations
            failed = operations["failed"]
            said = f"{operations['passed']} of {operations['passed'] + len(failed)} pass"
            row("operations against the CPU", not failed and codes["operations"] == 0, said)
            for f in failed[:10]:
                row(f"  {f['operation']}", False, str(f["case"]))
            # Those that the library lacks are done by kernels of ours, at the price of a pass over memory.
            lacking = [e for e in operations["ends"] if not e["there"]]
            row("ends of products", True, f"{len(operations['ends']) - len(lacking)} of {len(operations['ends'])} by cuBLASLt")
            for e in lacking:
                rows.append((f"  {e['product']}", "-", f"{e['end']}: by a kernel of ours"))
    if "tests" in codes:
        counts = re.findall(r"test result: .*", (out / "tests.out").read_text(errors="replace"))
        row("tests", codes["tests"] == 0, counts[-1].removeprefix("test result: ") if counts else why("tests"))

    runs = {name: record(out, name) for name in codes}
    same = [runs.get(name) for name in ("same-1", "same-2", "same-without-graphs")]
    if all(same) and all(quality(r) for r in same):
        for what, other in zip(("the same bits twice", "the same bits without graphs"), same[1:]):
            equal = quality(same[0]) == quality(other)
            row(what, equal, f"AUC {same[0]['evaluations'][-1]['quality']['auc']!r} after 400 steps")
        if device.startswith("cuda"):
            # Else the last two would be two runs without graphs.
            for what, run, right in (("steps as CUDA graphs", same[0], True), ("none of them where they are off", same[2], False)):
                repeated, said = replays(run)
                row(what, (repeated > 0) == right and "could not" not in said, said)
        cpu = runs.get("on-the-cpu")
        if cpu and quality(cpu):
            apart = max(abs(a[1] - b[1]) for a, b in zip(quality(same[0]), quality(cpu), strict=True))
            row("AUC beside the CPU", apart <= AUC_APART, f"{apart:.1e} apart, at most {AUC_APART:.0e} is right")
        elif "on-the-cpu" in codes:
            row("AUC beside the CPU", False, why("on-the-cpu"))
    elif "same-1" in codes:
        row("the same bits twice", False, why("same-1"))
    quickstart = runs.get("quickstart")
    if "quickstart" not in codes:
        pass
    elif quickstart and codes["quickstart"] == 0:
        outcome = quickstart["outcome"]
        row("the quick start's target", outcome["success"], f"{outcome['seconds']:.1f} s, {outcome['samples']:,} samples")
    else:
        row("the quick start's target", False, why("quickstart"))
    # Slices of a batch are the same on any number of ranks, so all that comes of them is.
    one = runs.get("ranks-one")
    for name in ("ranks-host", "ranks-nccl"):
        if name not in codes:
            continue
        many = runs.get(name)
        if one and many and quality(one) and quality(many) and codes[name] == 0:
            said = f"AUC {quality(many)[-1][1]!r} on {len(many['machine'].get('ranks') or [])} ranks"
            row(f"{name}: the bits of one rank", quality(one) == quality(many), said)
        else:
            row(f"{name}: the bits of one rank", False, why(name if codes[name] else "ranks-one"))
    if "ceilings" in codes:
        try:
            ceilings = json.loads((out / "ceilings.out").read_text())["ceilings"]
        except ValueError:
            row("ceilings", False, why("ceilings"))
        else:
            report["ceilings"] = ceilings
            kinds = [(n, ceilings.get(f"flops_{n}")) for n in ("f32", "tf32", "bf16", "f16")]
            products = ", ".join(f"{n} {f / 1e12:,.1f}" for n, f in kinds if f)
            row("ceilings", True, f"{products} TFLOP/s; copying {ceilings['copy'] / 1e9:,.0f} GB/s")

    def throughput(name):
        of = (runs[name] or {}).get("throughput") or {}
        return codes[name] == 0 and ((of.get("steady") or {}).get("mean") or of.get("training"))

    ours = {}
    for name, run in runs.items():
        if not name.startswith(("terabyte-", "deepfm-", "beside-", "ranks-speed-")):
            continue
        rate = throughput(name)
        if not rate:
            row(name, False, why(name))
            continue
        ours[name] = rate
        report["throughput"][name] = {**run["throughput"], "floor_share": run.get("floor_share")}
        said = []
        if run.get("floor_share"):
            said.append(f"{100 * run['floor_share']:.0f}% of the floor")
        phases = {p["phase"]: p["share"] for p in run.get("phases") or []}
        said += [f"{k} {100 * v:.0f}%" for k, v in sorted(phases.items(), key=lambda kv: -kv[1])[:3]]
        row(name, True, f"{rate:,.0f} samples/s" + (f" ({', '.join(said)})" if said else ""))
    for way in ("host", "nccl"):
        if f"ranks-speed-{way}" in ours and "ranks-speed-one" in ours:
            ratio = ours[f"ranks-speed-{way}"] / ours["ranks-speed-one"]
            row(f"ranks by {way} beside one", True, f"{ratio:.2f} times as fast")
    if "beside-candle" in ours and "beside-fused" in ours:
        row("fused beside candle", True, f"{ours['beside-fused'] / ours['beside-candle']:.2f} times as fast")
    for name in codes:
        if not name.startswith("torch-"):
            continue
        # That a peer cannot run here says nothing of us.
        try:
            peer = json.loads((out / f"{name}.out").read_text().splitlines()[-1])
        except (ValueError, IndexError):
            rows.append((name, "-", why(name)))
            continue
        report["throughput"][name] = peer
        beside = ours.get("-".join(name.split("-")[1:3]))
        ratio = f"; ours, data included, {beside / peer['samples_per_second']:.2f} times as fast" if beside else ""
        row(name, True, f"{peer['samples_per_second']:,} samples/s{ratio}")

    report["rows"] = [dict(zip(("what", "result", "said"), r)) for r in rows]
    (out / "gpu-check.json").write_text(json.dumps(report, indent=1) + "\n")
    width = max(len(r[0]) for r in rows)
    for what, result, said in rows:
        print(f"{what:<{width}}  {result:<6}  {said}")
    print(f"all of it: {out}/gpu-check.json")
    return 1 if any(r[1] == "FAILED" for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
