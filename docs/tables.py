"""Writes measured tables into the documents: `python docs/tables.py demo suites bench …` from the root of a checkout.

`all` stands for every table of times. `--quick` measures fewer cases for a shorter time, and leaves out tables without a short
form; `--again` writes tables anew from the files of figures (docs/*.json) and measures nothing.

A table stands between two marks, `<!-- table: NAME -->` and `<!-- end of table: NAME -->`; everything between them is replaced.
To add a table, put its marks into a document, and add it to TABLES.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fastbptt.bench.busy_report import BusyReport
    from fastbptt.bench.cases import Case
    from fastbptt.bench.report import Report

ROOT = Path(__file__).resolve().parents[1]


def rewrite(text: str, name: str, table: str) -> str:
    """`text` with a new table between the marks of `name`; ValueError unless each mark occurs once, in this order."""
    marks = f"<!-- table: {name} -->", f"<!-- end of table: {name} -->"
    if [text.count(mark) for mark in marks] != [1, 1] or text.index(marks[0]) > text.index(marks[1]):
        raise ValueError(f"text: expected {marks[0]} once and {marks[1]} once after it; put the marks where the table belongs")
    before, rest = text.split(marks[0])
    after = rest.split(marks[1])[1]
    return f"{before}{marks[0]}\n{table.strip()}\n{marks[1]}{after}"


def demo_table() -> str:
    """Full versus truncated on the default text of the demo; draws docs/demo.png from the same run."""
    from fastbptt.demo import default_text, run_demo

    report = run_demo(default_text(), 45.0, lambda what, spent: None)
    report.plot(ROOT / "docs" / "demo.png")
    return report.markdown()


def suites_table() -> str:
    """How many cases of other libraries' test suites give the same numbers here."""
    command = [sys.executable, "-m", "pytest", "-q", "tests/suites", "--table"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stdout)
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith("|"))


def progress(name: str) -> Callable[[int, int, str], None]:
    """Says on standard error what is measured, how far it is, and how much longer it may take."""
    start = time.monotonic()

    def tell(done: int, total: int, what: str) -> None:
        spent = (time.monotonic() - start) / 60
        left = f", about {spent * (total - done) / done:.0f} more" if done else ""
        print(f"{name}: {done} of {total} after {spent:.0f} min{left}  {what}", file=sys.stderr, flush=True)

    return tell


# The shapes that are shown unfolded, (T, B, I, H), and those of them that the README has, in float32.
SHOWN = {(100, 1, 64, 128), (100, 16, 64, 64), (100, 32, 256, 256), (100, 12, 100, 100), (40, 40, 300, 640)}
IN_README = {(100, 1, 64, 128), (100, 16, 64, 64), (40, 40, 300, 640)}


def measure_bench(quick: bool) -> None:
    """Every case beside every peer, both dtypes: three quarters of an hour on a quiet machine; quick: those that are shown."""
    from fastbptt.bench.cases import select
    from fastbptt.bench.run import run_bench

    cases = select(dtypes=("float32",) if quick else ("float32", "float64"))
    if quick:
        cases = tuple(case for case in cases if shape_of(case) in SHOWN)
    report = run_bench(cases, seconds_per_case=0.3 if quick else 2.0, progress=progress("bench"))
    file_of(report).write_text(report.to_json() + "\n", encoding="utf-8")


def file_of(report: Report) -> Path:
    """Of the figures of a run: one for each kind of vectors, docs/bench-avx2.json and so on."""
    return DOCS / f"bench-{report.machine['vectors'].split(',')[0].lower()}.json"


def runs() -> list[Report]:
    """The last run on each kind of CPU, the widest vectors first."""
    found = [read_report(path) for path in DOCS.glob("bench-*.json")]
    return sorted(found, key=lambda report: -int(report.machine["vectors"].split()[1]))


def bench_markdown(report: Report) -> str:
    """A sentence about all cases, one case of each size by library, and the whole table folded, with every side."""
    fold = f"<details><summary>All {len(report.results)} cases, and every side</summary>"
    parts = report.summary(), shown(report).by_package().markdown(), fold, report.markdown_rows(), "</details>"
    return "\n\n".join(part.strip() for part in parts)


def shape_of(case: Case) -> tuple[int, ...]:
    """(T, B, I, H)."""
    return case.T, case.B, case.I, case.H


def shown(report: Report) -> Report:
    """The report with one case of each size, two of the odd ones."""
    return replace(report, results=tuple(r for r in report.results if shape_of(r.case) in SHOWN))


def cpus_markdown(reports: Sequence[Report]) -> str:
    """Ours on every CPU, in the cases that are shown and that all of them ran."""
    from fastbptt.bench.machine import describe

    by_case = [{result.case: (report, result) for result in shown(report).results} for report in reports]
    names = [report.machine["vectors"].split(",")[0] for report in reports]
    head = ["case", *(f"{name}{what}" for name in names for what in (": ms", ", % of product", ", best peer / ours"))]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for case in by_case[0]:
        if all(case in found for found in by_case):
            pairs = [found[case] for found in by_case]
            figures = ((1e3 * result.seconds("fastbptt"), report.percent(result, "fastbptt"), result.ratio)
                       for report, result in pairs)
            lines.append([case.name, *("–" if f is None else f"{f:#.3g}".rstrip(".") for row in figures for f in row)])
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    where = (f"{name}: {describe(report.machine, report.product_gflops)}; peers: {', '.join(report.sides[1:])}."
             for name, report in zip(names, reports, strict=True))
    return f"{rows}\n\n" + "\n\n".join(where)


def measure_busy(quick: bool) -> None:
    """Every side beside busy processes and in two processes at once: a quarter of an hour; quick: two cases."""
    from fastbptt.bench.busy import run_busy
    from fastbptt.bench.cases import BUSY_CASES

    report = run_busy(BUSY_CASES[1:5:2] if quick else BUSY_CASES, seconds=0.3 if quick else 1.0, progress=progress("busy"))
    BUSY.write_text(report.to_json() + "\n", encoding="utf-8")


def read_busy(path: Path) -> BusyReport:
    """The run that `BusyReport.to_json` wrote, without the figures that are derived from the others."""
    from fastbptt.bench.busy_report import BusyReport, BusyTiming, Calls
    from fastbptt.bench.cases import Case

    data = json.loads(path.read_text(encoding="utf-8"))
    situations = ("alone", "one", "three", "two")
    timings = tuple(BusyTiming(t["case"], t["side"], t["threads"], t["how"], *(Calls(**t[s]) for s in situations))
                    for t in data["timings"])
    cases = tuple(Case(**c) for c in data["cases"])
    return BusyReport(data["machine"], data["missing"], data["product_gflops"], data["seconds"], cases, timings)


def read_report(path: Path) -> Report:
    """The run that `Report.to_json` wrote, without the figures that are derived from the others."""
    from fastbptt.bench.cases import Case
    from fastbptt.bench.report import CaseResult, Report, Timing

    data, names = json.loads(path.read_text(encoding="utf-8")), [field.name for field in fields(Timing)]
    results = tuple(
        CaseResult(Case(**entry["case"]), tuple(Timing(**{n: t[n] for n in names if n in t}) for t in entry["timings"]))
        for entry in data["results"])
    return Report(data["machine"], data["threads"], data["missing"], data["product_gflops"], results)


def speeds_markdown(report: Report) -> str:
    """Float32 cases: milliseconds of every library, and how many times as long as ours the best takes."""
    results = tuple(r for r in report.results if r.case.dtype == "float32" and shape_of(r.case) in IN_README)
    excerpt = replace(report, results=results).by_package()
    head = ["case", *(f"{side} ms" for side in excerpt.sides), "best peer / ours"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for result in excerpt.results:
        times = [result.seconds(side) for side in excerpt.sides]
        figures = ["–" if seconds is None else f"{1e3 * seconds:#.3g}".rstrip(".") for seconds in times]
        case = "-".join((result.case.cell.upper(), *map("{}{}".format, "TBIH", shape_of(result.case))))
        lines.append([case, *figures, "–" if result.ratio is None else f"{result.ratio:.2f}"])
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{report.summary()}\n\n{rows}\n\n{report.caption()}"


def alone_table() -> str:
    """The RNN with every side limited to one thread: five minutes."""
    from fastbptt.bench.cases import select
    from fastbptt.bench.run import run_bench

    cases = select(("rnn",), ("float32", "float64"), ("S", "M", "L"))
    return run_bench(cases, threads=1, seconds_per_case=2.0, progress=progress("alone")).by_package().markdown()


def printed(*command: str, **env: str) -> list[str]:
    """The lines of the tables that a module prints."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.PIPE,
                          text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("|") or not line]
    if not any(lines) or done.returncode not in (0, 1):      # 1: a table that shows what its module does not accept
        raise RuntimeError(f"{' '.join(command)}: expected a table, got the exit status {done.returncode}")
    return lines


def claims_table() -> str:
    """Speed compared with what one would write without this library: two minutes."""
    rest = printed("benchmarks.claims", "lyapunov", OPENBLAS_NUM_THREADS="1")[2:]
    return "\n".join([*printed("benchmarks.claims", "lengths", "truncation", "flow", "budget"), *rest])


def table_of(*command: str) -> Callable[[], str]:
    """What a module of benchmarks prints."""
    return lambda: "\n".join(printed(*command))


def roofline_table() -> str:
    """The limits of the cases of the last run of `bench`, which is to be of this machine."""
    return "\n".join(printed("benchmarks.roofline", str(file_of(runs()[0]))))


class Table(NamedTuple):
    """Where a table stands, and what writes it; ``measure`` comes first and writes a file, from which it is written."""

    document: Path
    write: Callable[[], str]
    measure: Callable[[bool], None] | None = None
    short: bool = False
    """Whether it has a short form, or takes little time."""
    bare: bool = False
    """Whether it does not say itself which CPU it comes from."""
    files: bool = False
    """Whether it can be written from files, without measuring."""


DOCS = ROOT / "docs"
README, PERFORMANCE, CORRECTNESS = ROOT / "README.md", DOCS / "performance.md", DOCS / "correctness.md"
BUSY = DOCS / "busy.json"
TABLES = {
    "limits": Table(PERFORMANCE, table_of("benchmarks.limits"), short=True, bare=True),
    "alone": Table(PERFORMANCE, alone_table),
    "sizes": Table(PERFORMANCE, table_of("benchmarks.sizes"), bare=True),
    "crossover": Table(PERFORMANCE, table_of("benchmarks.crossover"), bare=True),
    "claims": Table(PERFORMANCE, claims_table, bare=True),
    "bench": Table(PERFORMANCE, lambda: bench_markdown(runs()[0]), measure_bench, short=True, files=True),
    "speeds": Table(README, lambda: speeds_markdown(runs()[0]), short=True, files=True),
    "cpus": Table(PERFORMANCE, lambda: cpus_markdown(runs()), short=True, files=True),
    "roofline": Table(PERFORMANCE, roofline_table, short=True, bare=True),
    "cores": Table(PERFORMANCE, table_of("benchmarks.cores"), short=True, bare=True),
    "busy": Table(PERFORMANCE, lambda: read_busy(BUSY).markdown(), measure_busy, short=True, files=True),
    "demo": Table(PERFORMANCE, demo_table, bare=True),
    "suites": Table(CORRECTNESS, suites_table),
}


def make(table: Table, quick: bool, again: bool) -> str:
    """The Markdown of a table, measured unless `again`."""
    from fastbptt.bench.machine import describe_now

    if table.measure is not None and not again:
        table.measure(quick)
    text = table.write()
    return f"{text.strip()}\n\n{describe_now()}." if table.bare else text


def main(arguments: Sequence[str]) -> int:
    """Measure and rewrite the tables of these names."""
    quick, again = ("--quick" in arguments), ("--again" in arguments)
    names = [name for name in arguments if name not in ("--quick", "--again")]
    if names == ["all"]:
        names = [name for name, table in TABLES.items() if name != "suites" and (table.files or not again)]
    unfit = [name for name in names if name not in TABLES or (again and not TABLES[name].files)]
    if not names or unfit:
        known = [name for name, table in TABLES.items() if table.files or not again]
        print(f"expected all, or names among {', '.join(known)}, got {' '.join(unfit) or 'none'}", file=sys.stderr)
        return 2
    start = time.monotonic()
    for number, name in enumerate(names):
        table = TABLES[name]
        if quick and not table.short:
            print(f"{name}: has no short form, left as it is", file=sys.stderr)
            continue
        spent = (time.monotonic() - start) / 60
        print(f"{name}: table {number + 1} of {len(names)}, after {spent:.0f} min", file=sys.stderr, flush=True)
        rewrite(table.document.read_text(encoding="utf-8"), name, "")      # the marks are there, before minutes are spent
        text = make(table, quick, again)
        table.document.write_text(rewrite(table.document.read_text(encoding="utf-8"), name, text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
