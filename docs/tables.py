"""Writes measured tables into the documents: `python docs/tables.py demo suites bench …` from the root of a checkout.

A table lies between two marks, `<!-- table: NAME -->` and `<!-- end of table: NAME -->`; all between them is replaced. To add
one, put its marks into a document, and that and a function that returns Markdown into TABLES.
"""
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastbptt.bench.report import Report

ROOT = Path(__file__).resolve().parents[1]


def rewrite(text: str, name: str, table: str) -> str:
    """`text` with another table between the marks of `name`; ValueError unless each mark stands there once, in this order."""
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
    """How many cases of other libraries' suites give the same numbers here."""
    command = [sys.executable, "-m", "pytest", "-q", "tests/suites", "--table"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stdout)
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith("|"))


# One shape of each size class stands in the open: 18 rows. (T, B, I, H)
SHOWN = {(100, 1, 64, 128), (100, 16, 64, 64), (100, 32, 256, 256)}


def bench_table() -> str:
    """Forward and backward beside NumPy, PyTorch and JAX, both dtypes, all cells: about ten minutes on a quiet machine."""
    from fastbptt.bench.run import run_bench

    report = run_bench(dtypes=("float32", "float64"), seconds_per_case=2.0)
    BENCH.write_text(report.to_json() + "\n", encoding="utf-8")
    return bench_markdown(report)


def bench_markdown(report: Report) -> str:
    """What all cases say in a sentence, one case of each size, and the whole table behind a fold."""
    shown = tuple(r for r in report.results if (r.case.T, r.case.B, r.case.I, r.case.H) in SHOWN)
    fold = f"<details><summary>All {len(report.results)} cases</summary>"
    parts = report.summary(), replace(report, results=shown).markdown(), fold, report.markdown_rows(), "</details>"
    return "\n\n".join(part.strip() for part in parts)


def alone_table() -> str:
    """The RNN with every side on one thread: two minutes."""
    from fastbptt.bench.run import run_bench

    return run_bench(cells=("rnn",), dtypes=("float32", "float64"), threads=1, seconds_per_case=2.0).markdown()


def printed(*command: str, **env: str) -> list[str]:
    """The lines of the table that a module prints."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.PIPE,
                          text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("|") or not line]
    if not any(lines) or done.returncode not in (0, 1):      # 1: a table that shows what its module does not accept
        raise RuntimeError(f"{' '.join(command)}: expected a table, got the exit status {done.returncode}")
    return lines


def claims_table() -> str:
    """Speed beside what one would write without this library: two minutes."""
    rest = printed("benchmarks.claims", "lyapunov", OPENBLAS_NUM_THREADS="1")[2:]
    return "\n".join([*printed("benchmarks.claims", "lengths", "truncation", "flow", "budget"), *rest])


def table_of(*command: str) -> Callable[[], str]:
    """What a module of benchmarks prints."""
    return lambda: "\n".join(printed(*command))


README, PERFORMANCE = ROOT / "README.md", ROOT / "docs" / "performance.md"
BENCH = ROOT / "docs" / "bench.json"     # every figure of the run behind the README's table
TABLES: dict[str, tuple[Path, Callable[[], str]]] = {
    "demo": (README, demo_table), "suites": (README, suites_table), "bench": (README, bench_table),
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
