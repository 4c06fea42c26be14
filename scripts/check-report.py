#!/usr/bin/env python3
"""Opens a page of `dlrm-bench report` in headless Chromium and checks it.

    dlrm-bench report RESULTS -o report.html
    dlrm-bench compare RESULTS --format json > compare.json
    scripts/check-report.py report.html compare.json [--screenshots DIR]

Checked: no error and no word on the console; every table has compare's rows, in its order, with its numbers; every chart has
curves, shows values under the pointer, and hides a row when asked to; the page is as wide as the screen of a phone; screenshots
(desk, phone, dark) are not empty; it prints. Chromium is $CHROMIUM, or what goes by its usual names. Python's own modules suffice.
"""

import argparse, html.parser, json, os, pathlib, re, shutil, subprocess, sys, tempfile, zlib

# Runs in the page: moves a pointer over each chart, presses each button, and leaves what it saw in an attribute.
PROBE = r"""
(() => {
  const seen = { charts: [], overflow: document.documentElement.scrollWidth - window.innerWidth };
  seen.bars = [...document.querySelectorAll('section.group')].map((section) => section.querySelectorAll('.speed').length);
  const wide = [...document.querySelectorAll('.scroll:has(table.compare)')].filter((box) => box.scrollWidth > box.clientWidth + 1);
  seen.wide = wide.length;
  seen.told = wide.filter((box) => /^[0-9]+ more columns?: /.test(box.previousElementSibling.textContent)).length;
  const curves = (figure) => figure.querySelectorAll('path.line:not(.raw)').length;
  document.querySelectorAll('figure.chart').forEach((figure) => {
    const section = figure.closest('section');
    const box = figure.querySelector('svg').getBoundingClientRect();
    const chart = { kind: figure.dataset.kind, group: Number(section.dataset.group), curves: curves(figure), width: box.width };
    figure.dispatchEvent(new PointerEvent('pointermove', { clientX: box.left + box.width * 0.4, clientY: box.top + box.height / 2, bubbles: true }));
    const tip = figure.querySelector('.tip');
    chart.tip = tip.hidden ? '' : tip.textContent;
    figure.dispatchEvent(new PointerEvent('pointerleave'));
    chart.tip_left = !tip.hidden;
    const buttons = [...section.querySelectorAll('.legend button')];
    buttons.forEach((button) => button.click());
    chart.hidden = curves(figure);
    buttons.forEach((button) => button.click());
    chart.back = curves(figure);
    const path = () => figure.querySelector('path.line')?.getAttribute('d');
    const before = path();
    chart.two_axes = !section.querySelector('.axis').hidden;
    section.querySelector('.axis button[data-axis="seconds"]').click();
    chart.by_time = curves(figure);
    chart.differs = before !== path();
    section.querySelector('.axis button[data-axis="samples"]').click();
    seen.charts.push(chart);
  });
  document.documentElement.dataset.probe = JSON.stringify(seen);
})();
"""
CATCH = "addEventListener('error', (e) => { document.documentElement.dataset.error = e.message; });"


class Page(html.parser.HTMLParser):
    """The tables of all groups, and what the probe left."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.attributes, self.cell, self.inside = [], {}, None, False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "html":
            self.attributes = attrs
        elif tag == "table" and attrs.get("class") == "compare":
            self.inside = True
            self.tables.append([])
        elif self.inside and tag == "tr":
            self.tables[-1].append([])
        elif self.inside and tag in ("td", "th"):
            self.cell = ""

    def handle_endtag(self, tag):
        if tag == "table":
            self.inside = False
        elif self.cell is not None and tag in ("td", "th"):
            self.tables[-1][-1].append(self.cell.strip())
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data


def chromium(*args):
    names = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
    program = next((path for name in names if name and (path := shutil.which(name))), None)
    if program is None:
        sys.exit("no Chromium here: install it (Debian: apt-get install chromium) or name it in CHROMIUM")
    with tempfile.TemporaryDirectory() as profile:
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        done = subprocess.run([*command, *args], capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        sys.exit(f"Chromium failed with {done.returncode}: {done.stderr[-2000:]}")
    return done


failures = []


def check(right, what):
    if not right:
        failures.append(what)


def number(text):
    """`13.55M ±0.2%` as 13550000.0, and what half of its last digit is worth."""
    match = re.match(r"(-?[0-9]+(?:\.([0-9]+))?)([kMG%]?)", text)
    if not match:
        return None, None
    unit = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "%": 0.01}[match[3]]
    return float(match[1]) * unit, 0.501 * 10.0 ** -len(match[2] or "") * unit


# How compare's JSON holds what a column shows.
def mean(name):
    return lambda row: row[name] and row[name]["mean"]


COLUMNS = {
    "end to end/s": mean("end_to_end"),
    "steady/s": mean("steady"),
    "training/s": mean("training"),
    "ratio": lambda row: row["ratio"],
    "seconds": lambda row: row["seconds_to_target"],
    "minutes": lambda row: row["seconds_to_target"] and row["seconds_to_target"] / 60,
    "epochs": lambda row: row["epochs_to_target"],
    "AUC": lambda row: row["auc"],
    "accuracy": lambda row: row.get("accuracy"),
    "floor": lambda row: row["floor_share"],
    "cost": lambda row: row["cost"],
    "cost/epoch": lambda row: row.get("cost_an_epoch"),
    "batch": lambda row: row["batch"],
}


def check_tables(tables, groups):
    check(len(tables) == len(groups), f"{len(tables)} tables, but compare has {len(groups)} groups")
    compared = 0
    for i, (table, group) in enumerate(zip(tables, groups), 1):
        heads, rows = table[0], table[1:]
        check([r[0] for r in rows] == [r["label"] for r in group["rows"]], f"table {i}: rows are not compare's")
        known = any(row["end_to_end"] for row in group["rows"])
        check(("end to end/s" in heads) == known, f"table {i}: throughput is {'missing' if known else 'made up'}")
        for shown, row in zip(rows, group["rows"]):
            check(len(shown) == len(heads), f"table {i}, {shown[0]}: {len(shown)} cells below {len(heads)} heads")
            for head, cell in zip(heads, shown):
                if head not in COLUMNS:
                    continue
                value, (found, half) = COLUMNS[head](row), number(cell)
                right = cell == "-" if value is None else found is not None and abs(found - value) <= half
                check(right, f"table {i}, {shown[0]}: {head} is {cell}, but compare says {value}")
                compared += 1
    check(compared > 0, "no number was compared")
    return compared


def check_charts(probe):
    check(probe["charts"], "no chart")
    for chart in probe["charts"]:
        name = f"group {chart['group'] + 1}, {chart['kind']}"
        check(chart["curves"] > 0 and chart["by_time"] > 0, f"{name}: no curves")
        check(re.search(r"[0-9]\.[0-9]{3}", chart["tip"]), f"{name}: no value under the pointer, but {chart['tip']!r}")
        check(not chart["tip_left"], f"{name}: the value stays when the pointer leaves")
        check(chart["hidden"] == 0 and chart["back"] == chart["curves"], f"{name}: the legend does not hide and show rows")
        check(chart["differs"] or not chart["two_axes"], f"{name}: the curves over time are those over samples")


def check_bars(probe, groups):
    for i, (bars, group) in enumerate(zip(probe["bars"], groups), 1):
        known = [row for row in group["rows"] if row["end_to_end"]]
        check(bars in ((len(known),) if len(known) > 1 else (0,)), f"table {i}: {bars} bars, but {len(known)} rows have a throughput")
    check(probe["told"] == probe["wide"], f"{probe['wide'] - probe['told']} tables do not say that they are wider than the screen")


def check_picture(path):
    """A PNG whose pixels differ."""
    data = path.read_bytes() if path.exists() else b""
    check(data.startswith(b"\x89PNG\r\n"), f"{path.name}: no picture")
    pixels, at = b"", 8
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            pixels += data[at + 8 : at + 8 + size]
        at += size + 12
    check(len(set(zlib.decompress(pixels))) > 50 if pixels else False, f"{path.name}: an empty picture")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("page", type=pathlib.Path)
    parser.add_argument("comparison", type=pathlib.Path)
    parser.add_argument("--screenshots", type=pathlib.Path, help="keep them here")
    args = parser.parse_args()
    groups = json.loads(args.comparison.read_text())["groups"]
    text = args.page.read_text()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        probed = work / "probed.html"
        text = text.replace("<head>", f"<head><script>{CATCH}</script>", 1).replace("</body>", f"<script>{PROBE}</script></body>", 1)
        probed.write_text(text)
        for screen, width in [("desk", 1280), ("phone", 390)]:
            seen = chromium("--dump-dom", "--enable-logging=stderr", f"--window-size={width},1000", probed.as_uri())
            said = [line for line in seen.stderr.splitlines() if ":CONSOLE" in line]
            check(not said, f"{screen}: on the console: {' '.join(said)[:500]}")
            page = Page(seen.stdout)
            check("data-error" not in page.attributes, f"{screen}: an error: {page.attributes.get('data-error')}")
            check("data-probe" in page.attributes, f"{screen}: the page's scripts did not come to their end")
            probe = json.loads(page.attributes.get("data-probe", '{"charts": [], "overflow": 0, "bars": [], "wide": 0, "told": 0}'))
            check(probe["overflow"] <= 0, f"{screen}: the page is {probe['overflow']} px wider than the screen")
            compared = check_tables(page.tables, groups)
            check_charts(probe)
            check_bars(probe, groups)
        pictures = args.screenshots or work
        pictures.mkdir(parents=True, exist_ok=True)
        for name, size, more in [("desk", "1280,1600", []), ("phone", "390,1600", []), ("dark", "1280,1600", ["--blink-settings=preferredColorScheme=0"])]:
            path = pictures / f"{name}.png"
            path.unlink(missing_ok=True)
            chromium(f"--screenshot={path}", f"--window-size={size}", *more, args.page.resolve().as_uri())
            check_picture(path)
        light, dark = ((pictures / f"{name}.png").read_bytes() for name in ("desk", "dark"))
        check(light != dark, "dark mode looks like the other")
        printed = pictures / "print.pdf"
        chromium(f"--print-to-pdf={printed}", "--no-pdf-header-footer", args.page.resolve().as_uri())
        check(printed.read_bytes().startswith(b"%PDF-") and printed.stat().st_size > 10_000, "it does not print")
    for failure in dict.fromkeys(failures):
        print(f"error: {failure}", file=sys.stderr)
    if failures:
        sys.exit(1)
    print(f"{len(groups)} tables, {compared} numbers and {len(probe['charts'])} charts are right, on a desk, a phone, in the dark and on paper")


main()
