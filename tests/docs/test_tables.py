"""Tables are replaced between their marks and nowhere else."""
from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from fastbptt.bench.cases import CELLS, DTYPES, select
from fastbptt.bench.report import CaseResult, Report, Timing

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tables)
TEXT = "a\n<!-- table: t -->\nold\n<!-- end of table: t -->\nb\n<!-- table: u -->\n<!-- end of table: u -->\n"


def test_replaces_what_is_between_the_marks():
    once = tables.rewrite(TEXT, "t", "| new |\n")
    assert once == TEXT.replace("old", "| new |")
    assert tables.rewrite(once, "t", "| new |") == once
    assert tables.rewrite(once, "t", "old") == TEXT


@pytest.mark.parametrize("text", ["", "<!-- table: t -->", TEXT + TEXT, "<!-- end of table: t --><!-- table: t -->"])
def test_marks_must_be_there_once_and_in_order(text):
    with pytest.raises(ValueError, match="expected <!-- table: t --> once"):
        tables.rewrite(text, "t", "x")


def test_command_writes_the_documents(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text(TEXT)
    monkeypatch.setattr(tables, "TABLES", {"t": (page, lambda: "T"), "u": (page, lambda: "U")})
    assert tables.main(["t", "u"]) == 0
    assert page.read_text() == tables.rewrite(TEXT.replace("old", "T"), "u", "U")
    assert tables.main(["v"]) == 2 and "t, u" in capsys.readouterr().err


def test_documents_have_every_table_and_picture():
    for name, (document, _) in tables.TABLES.items():
        text = document.read_text(encoding="utf-8")
        assert tables.rewrite(text, name, "x") != text
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "(docs/demo.png)" in readme and (ROOT / "docs" / "demo.png").stat().st_size > 10_000


def test_bench_shows_a_case_of_each_size_and_folds_the_rest():
    cases = select(dtypes=DTYPES)
    timings = Timing("fastbptt", 1e-3, 1e-3, 1e-3, 5, 1), Timing("jax", 2e-3, 2e-3, 2e-3, 5, 1)
    results = tuple(CaseResult(case, timings) for case in cases)
    report = Report({"cpu": "a CPU", "cores": "2"}, None, {}, dict.fromkeys(DTYPES, 100.0), results)
    shown, folded = tables.bench_markdown(report).split("<details>")
    assert f"fastest in {len(cases)} of {len(cases)} cases" in shown and "a CPU" in shown
    open_rows = [line.split()[1].split("-")[:3] for line in shown.splitlines() if line.startswith("| ") and "-T" in line]
    assert open_rows == [[cell, dtype, size] for cell in CELLS for dtype in DTYPES for size in "SML"]
    assert all(f"| {case.name} |" in folded for case in cases) and folded.endswith("</details>")


def test_readme_has_the_float32_cases_that_are_shown(tmp_path):
    cases = select(dtypes=DTYPES)
    results = tuple(CaseResult(case, (Timing("fastbptt", 1e-3, 1e-3, 1e-3, 5, 1), Timing("jax", 2.5e-3, 2e-3, 3e-3, 5, 1)))
                    for case in cases[:-1]) + (CaseResult(cases[-1], (Timing("fastbptt", 1e-3, 1e-3, 1e-3, 5, 1),)),)
    report = Report({"cpu": "a CPU", "cores": "2", "numba": "0.1"}, None, {}, dict.fromkeys(DTYPES, 100.0), results)
    path = tmp_path / "bench.json"
    path.write_text(report.to_json())
    assert tables.read_report(path) == report
    table = tables.speeds_markdown(tables.read_report(path))
    assert f"fastest in {len(cases) - 1} of" in table and "a CPU, 2 cores, numba 0.1" in table
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith(("| RNN", "| GRU", "| LSTM"))]
    assert [row[0] for row in rows] == [cell.upper() for cell in CELLS for _ in "SML"]
    assert all(row[5:] == ["1.00", "2.50", "2.50"] for row in rows)


def test_readme_is_the_excerpt_of_the_last_run():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert tables.rewrite(text, "speeds", tables.speeds_table()) == text
    page = tables.PERFORMANCE.read_text(encoding="utf-8")
    assert tables.rewrite(page, "bench", tables.bench_markdown(tables.read_report(tables.BENCH))) == page
