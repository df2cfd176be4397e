"""Writes measured tables into the documents: `python docs/tables.py demo suites bench …` from the root of a checkout.

A table stands between two marks, `<!-- table: NAME -->` and `<!-- end of table: NAME -->`; everything between them is replaced.
To add a table, put its marks into a document, and add the document and a function that returns Markdown to TABLES.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


# The shape of each size class that is shown unfolded, (T, B, I, H): 18 rows, of which the README has the 9 in float32.
SHOWN = {(100, 1, 64, 128), (100, 16, 64, 64), (100, 32, 256, 256)}


def bench_table() -> str:
    """Forward and backward beside NumPy, PyTorch and JAX, both dtypes, all cells: about ten minutes on a quiet machine."""
    from fastbptt.bench.run import run_bench

    report = run_bench(dtypes=("float32", "float64"), seconds_per_case=2.0)
    BENCH.write_text(report.to_json() + "\n", encoding="utf-8")
    return bench_markdown(report)


def bench_markdown(report: Report) -> str:
    """A sentence about all cases, one case of each size, and the whole table folded."""
    fold = f"<details><summary>All {len(report.results)} cases</summary>"
    parts = report.summary(), shown(report).markdown(), fold, report.markdown_rows(), "</details>"
    return "\n\n".join(part.strip() for part in parts)


def shown(report: Report) -> Report:
    """The report with one case of each size."""
    return replace(report, results=tuple(r for r in report.results if (r.case.T, r.case.B, r.case.I, r.case.H) in SHOWN))


def speeds_table() -> str:
    """The README's excerpt of the last run of `bench`; measures nothing."""
    return speeds_markdown(read_report(BENCH))


def read_report(path: Path) -> Report:
    """The run that `Report.to_json` wrote, without the figures that are derived from the others."""
    from fastbptt.bench.cases import Case
    from fastbptt.bench.report import CaseResult, Report, Timing

    data, measured = json.loads(path.read_text(encoding="utf-8")), [field.name for field in fields(Timing)]
    results = tuple(
        CaseResult(Case(**entry["case"]), tuple(Timing(**{name: t[name] for name in measured}) for t in entry["timings"]))
        for entry in data["results"])
    return Report(data["machine"], data["threads"], data["missing"], data["product_gflops"], results)


def speeds_markdown(report: Report) -> str:
    """One float32 case of each size: milliseconds of every side, and how many times as long as ours the best peer takes."""
    excerpt = replace(report, results=tuple(r for r in shown(report).results if r.case.dtype == "float32"))
    head = ["cell", "T", "B", "I", "H", *(f"{side} ms" for side in excerpt.sides), "best peer / ours"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for result in excerpt.results:
        case, times = result.case, (result.seconds(side) for side in excerpt.sides)
        figures = [case.cell.upper(), *map(str, (case.T, case.B, case.I, case.H))]
        figures += ["–" if seconds is None else f"{1e3 * seconds:#.3g}".rstrip(".") for seconds in times]
        lines.append([*figures, "–" if result.ratio is None else f"{result.ratio:.2f}"])
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    machine = ", ".join(v if k == "cpu" else f"{v} cores" if k == "cores" else f"{k} {v}" for k, v in report.machine.items())
    return f"{report.summary()}\n\n{rows}\n\nForward + backward, float32, medians. {machine}."


def alone_table() -> str:
    """The RNN with every side limited to one thread: two minutes."""
    from fastbptt.bench.run import run_bench

    return run_bench(cells=("rnn",), dtypes=("float32", "float64"), threads=1, seconds_per_case=2.0).markdown()


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


README, PERFORMANCE, CORRECTNESS = ROOT / "README.md", ROOT / "docs" / "performance.md", ROOT / "docs" / "correctness.md"
BENCH = ROOT / "docs" / "bench.json"     # every figure of the last run of `bench`
TABLES: dict[str, tuple[Path, Callable[[], str]]] = {
    "demo": (PERFORMANCE, demo_table), "suites": (CORRECTNESS, suites_table), "bench": (PERFORMANCE, bench_table),
    "speeds": (README, speeds_table),
    "limits": (PERFORMANCE, table_of("benchmarks.limits")), "alone": (PERFORMANCE, alone_table),
    "sizes": (PERFORMANCE, table_of("benchmarks.sizes")), "crossover": (PERFORMANCE, table_of("benchmarks.crossover")),
    "roofline": (PERFORMANCE, table_of("benchmarks.roofline", str(BENCH))), "claims": (PERFORMANCE, claims_table)}


def main(names: Sequence[str]) -> int:
    """Measure and rewrite the tables of these names."""
    if not names or set(names) - set(TABLES):
        print(f"expected names among {', '.join(TABLES)}, got {' '.join(names) or 'none'}", file=sys.stderr)
        return 2
    for name in names:
        document, measure = TABLES[name]
        rewrite(document.read_text(encoding="utf-8"), name, "")      # the marks are there, before minutes are spent
        table = measure()
        document.write_text(rewrite(document.read_text(encoding="utf-8"), name, table), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
