"""Tables are replaced between their marks and nowhere else."""
from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from fastbptt.bench import machine
from fastbptt.bench.busy_report import BusyReport, BusyTiming, Calls
from fastbptt.bench.cases import BUSY_CASES, CELLS, DTYPES, select
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
    monkeypatch.setattr(tables, "TABLES", {name: tables.Table(page, name.upper) for name in "tu"})
    assert tables.main(["t", "u"]) == 0
    assert page.read_text() == tables.rewrite(TEXT.replace("old", "T"), "u", "U")
    assert "u: table 2 of 2" in capsys.readouterr().err
    assert tables.main(["v"]) == 2 and "t, u" in capsys.readouterr().err


def test_quick_and_again(tmp_path, monkeypatch, capsys):
    page, measured = tmp_path / "page.md", []
    page.write_text(TEXT)
    kinds = {"t": tables.Table(page, lambda: "T"), "u": tables.Table(page, lambda: "U", measured.append, short=True, files=True)}
    monkeypatch.setattr(tables, "TABLES", kinds)
    assert tables.main(["all", "--quick"]) == 0 and measured == [True]
    assert page.read_text() == tables.rewrite(TEXT, "u", "U") and "t: has no short form" in capsys.readouterr().err
    assert tables.main(["all", "--again"]) == 0 and measured == [True]
    assert tables.main(["t", "--again"]) == 2 and "got t" in capsys.readouterr().err
    assert tables.main(["all"]) == 0 and measured == [True, False]
    assert page.read_text() == tables.rewrite(TEXT.replace("old", "T"), "u", "U")


def test_a_table_that_does_not_name_the_cpu_gets_a_line_that_does(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "PRODUCT_SIZE", 64)
    text = tables.make(tables.Table(tmp_path / "page.md", lambda: "| a |", bare=True), quick=False, again=False)
    assert text.startswith("| a |\n\n") and machine.vector_name() in text and "in float32" in text and "GFLOP/s" in text
    assert tables.make(tables.Table(tmp_path / "page.md", lambda: "| a |"), quick=False, again=False) == "| a |"


def test_progress_says_how_much_longer(monkeypatch, capsys):
    times = iter([0.0, 120.0])
    monkeypatch.setattr(tables.time, "monotonic", lambda: next(times))
    tables.progress("bench")(2, 8, "rnn")
    assert capsys.readouterr().err == "bench: 2 of 8 after 2 min, about 6 more  rnn\n"


def test_documents_have_every_table_and_picture():
    for name, table in tables.TABLES.items():
        text = table.document.read_text(encoding="utf-8")
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
    assert open_rows == [[cell, dtype, size] for cell in CELLS for dtype in DTYPES for size in ("S", "M", "L", "odd", "odd")]
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
    assert f"fastest in {len(cases) - 1} of" in table and "a CPU, 2 cores; large NumPy product" in table and "numba 0.1" in table
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith(("| RNN", "| GRU", "| LSTM"))]
    assert [row[0].split("-")[0] for row in rows] == [cell.upper() for cell in CELLS for _ in tables.IN_README]
    assert all(row[1:] == ["1.00", "2.50", "2.50"] for row in rows)


def test_cpus_stand_side_by_side():
    cases = select()

    def run(vectors, seconds, chosen):
        results = tuple(CaseResult(c, (Timing("fastbptt", seconds, 0, 1, 5, 1), Timing("jax", 3e-3, 0, 1, 5, 1))) for c in chosen)
        return Report({"cpu": f"{vectors} CPU", "cores": "2", "vectors": f"{vectors}, 8 float32 lanes"}, None, {},
                      {"float32": 100.0}, results)

    table = tables.cpus_markdown([run("AVX-512", 1e-3, cases), run("AVX2", 2e-3, cases[:9])])
    lines = table.splitlines()
    assert lines[0] == ("| case | AVX-512: ms | AVX-512, % of product | AVX-512, best peer / ours "
                        "| AVX2: ms | AVX2, % of product | AVX2, best peer / ours |")
    rows = [line.strip("| ").split(" | ") for line in lines[2:] if line.startswith("| rnn")]
    assert [row[0] for row in rows] == [c.name for c in cases[:9] if (c.T, c.B, c.I, c.H) in tables.SHOWN]
    assert [row[k] for row in rows for k in (1, 3, 4, 6)] == ["1.00", "3.00", "2.00", "1.50"] * len(rows)
    assert "AVX2: AVX2 CPU, 2 cores" in lines[-1] and "100 in float32" in lines[-1]


def test_runs_are_kept_by_the_width_of_their_vectors(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "DOCS", tmp_path)
    for vectors in ("AVX2, 8 float32 lanes", "AVX-512, 16 float32 lanes"):
        report = Report({"vectors": vectors}, None, {}, {"float32": 1.0}, ())
        tables.file_of(report).write_text(report.to_json())
    assert {path.name for path in tmp_path.iterdir()} == {"bench-avx2.json", "bench-avx-512.json"}
    assert [run.machine["vectors"].split(",")[0] for run in tables.runs()] == ["AVX-512", "AVX2"]


def test_busy_figures_are_read_as_they_were_written(tmp_path):
    calls = Calls(1e-3, 2e-3, 5, 5e-3)
    case = BUSY_CASES[0]
    timing = BusyTiming(case.name, "jax", None, "2 threads", *[calls] * 4)
    report = BusyReport({"cpu": "a CPU"}, {}, {"float32": 1.0}, 1.0, (case,), (timing,))
    (tmp_path / "busy.json").write_text(report.to_json())
    assert tables.read_busy(tmp_path / "busy.json") == report


@pytest.mark.parametrize("name", [name for name, table in tables.TABLES.items() if table.files])
def test_tables_are_those_of_the_last_run(name):
    table = tables.TABLES[name]
    text = table.document.read_text(encoding="utf-8")
    assert tables.rewrite(text, name, table.write()) == text


def test_the_short_form_measures_the_cases_that_are_shown(tmp_path, monkeypatch):
    asked = []
    where = {"cpu": "a CPU", "cores": "2", "vectors": "AVX2, 8 float32 lanes"}

    def bench(cases, seconds_per_case, progress):
        asked.append((cases, seconds_per_case))
        return Report(where, None, {}, {"float32": 1.0}, ())

    def busy(cases, seconds, progress):
        asked.append((cases, seconds))
        return BusyReport(where, {}, {"float32": 1.0}, seconds, tuple(cases), ())

    monkeypatch.setattr("fastbptt.bench.run.run_bench", bench)
    monkeypatch.setattr("fastbptt.bench.busy.run_busy", busy)
    monkeypatch.setattr(tables, "DOCS", tmp_path)
    monkeypatch.setattr(tables, "BUSY", tmp_path / "busy.json")
    for quick in (True, False):
        tables.measure_bench(quick)
        tables.measure_busy(quick)
    short, long = asked[:2], asked[2:]
    assert {tables.shape_of(case) for case in short[0][0]} == tables.SHOWN and {case.dtype for case in short[0][0]} == {"float32"}
    assert long[0] == (select(dtypes=DTYPES), 2.0) and long[1] == (BUSY_CASES, 1.0)
    assert short[0][1] < 1 and short[1][1] < 1 and set(short[1][0]) < set(BUSY_CASES)
    assert tables.runs()[0].machine == where and tables.read_busy(tables.BUSY).seconds == 1.0
