"""The run: a wrong gradient is caught before anything is timed, turns are interleaved, figures are what they claim."""

import importlib
import io
import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from fastbptt.bench import run
from fastbptt.bench.cases import Case, select
from fastbptt.bench.numpy_peer import NumpyPeer
from fastbptt.bench.peers import PEERS, TOLERANCE
from fastbptt.bench.report import CaseResult, Report, Timing


def tiny(cell):
    return Case(cell, T=9, B=2, I=3, H=5, dtype="float32", size_class="S")


# ---- the check before the clock


class Wrong(NumpyPeer):
    """Plain NumPy whose gradients are spoilt by ``spoil``."""

    name = "wrong"

    def __init__(self, spoil):
        super().__init__()
        self.spoil, self.runs = spoil, 0

    def run(self):
        self.runs += 1
        return self.spoil(super().run())


SPOILT = {
    "off by": lambda g: {**g, "W": g["W"] * np.float32(1 + 2 * TOLERANCE["float32"])},
    "off by nan": lambda g: {**g, "x": g["x"] * np.float32("nan")},
    "expected .* float32, got .* float64": lambda g: {**g, "U": g["U"].astype(np.float64)},
    "gives gradients of": lambda g: {name: a for name, a in g.items() if name != "h0"},
}


@pytest.mark.parametrize("message", SPOILT)
def test_a_wrong_gradient_stops_the_case_before_it_is_timed(message):
    side = Wrong(SPOILT[message])
    with pytest.raises(AssertionError, match=message):
        run.measure(tiny("rnn"), [NumpyPeer(), side], seconds=0)
    assert side.runs == 1


def test_a_gradient_within_the_tolerance_is_let_through():
    side = Wrong(lambda g: {**g, "W": g["W"] * np.float32(1 + 0.5 * TOLERANCE["float32"])})
    assert run.measure(tiny("rnn"), [side], seconds=0).timings[0].turns == run.MIN_TURNS


# ---- the clock


class Sleeper(NumpyPeer):
    """A side that is right, and takes a known time."""

    def __init__(self, name, seconds, log):
        super().__init__()
        self.name, self.seconds, self.log = name, seconds, log

    def run(self):
        self.log.append(self.name)
        time.sleep(self.seconds)
        return super().run()


def test_turns_are_interleaved_and_times_are_per_call():
    log = []
    sides = [Sleeper("a", 0.004, log), Sleeper("b", 0.03, log)]
    result = run.measure(tiny("rnn"), sides, seconds=0)
    first, second = result.timings
    assert 0.004 < first.seconds < second.seconds and 0.03 < second.seconds
    assert first.low <= first.seconds <= first.high
    assert first.calls > 1 and second.calls == 1
    rounds = [name for k, name in enumerate(log) if k == 0 or log[k - 1] != name]
    assert rounds == ["a", "b"] * (len(rounds) // 2)


def test_settle_waits_for_a_busy_thread_and_not_for_an_idle_process():
    stop = time.perf_counter() + 0.15

    def spin():
        while time.perf_counter() < stop:
            np.sort(np.ones(20_000))

    thread = threading.Thread(target=spin)
    thread.start()
    run.settle()
    assert time.perf_counter() >= stop
    thread.join()
    start = time.perf_counter()
    run.settle()
    assert time.perf_counter() - start < 0.5


# ---- the report


def report():
    case = Case("rnn", T=100, B=1, I=32, H=32, dtype="float32", size_class="S")
    chunks = Case("rnn", T=64, B=1, I=16, H=64, dtype="float32", size_class="long", truncation=(32, 32))
    timing = {name: Timing(name, s, s, s, 5, 1) for name, s in {"fastbptt": 1e-4, "torch": 8e-4, "jax": 5e-4}.items()}
    results = (CaseResult(case, tuple(timing.values())), CaseResult(chunks, (timing["fastbptt"], timing["torch"])))
    return Report({"cpu": "a CPU", "cores": "2", "python": "3.x"}, 1, {"numpy": "No module"}, {"float32": 200.0}, results)


def test_figures_of_the_report():
    found = report()
    full, chunks = found.results
    assert full.ratio == pytest.approx(5) and chunks.ratio == pytest.approx(8)
    assert full.gflops("fastbptt") == pytest.approx(3 * 2 * 100 * 32 * 64 / 1e-4 / 1e9)
    assert found.percent(full, "fastbptt") == pytest.approx(100 * full.gflops("fastbptt") / 200)
    assert chunks.seconds("jax") is None and chunks.gflops("jax") is None


def test_markdown_has_a_row_per_case_and_names_what_is_missing():
    lines = report().markdown().splitlines()
    header, _, first, second, _, caption = lines
    assert header == "| case | fastbptt ms | torch ms | jax ms | GFLOP/s | % of product | best peer / ours |"
    assert first == "| rnn-float32-S-T100-B1-I32-H32 | 0.10 | 0.80 | 0.50 | 12.3 | 6.14 | 5.00 |"
    assert second.split(" | ")[3] == "–"
    assert "numpy left out" in caption and "1 thread" in caption and "200 in float32" in caption


def test_summary_counts_the_cases_that_are_won():
    found = report()
    assert found.summary() == ("fastbptt is the fastest in 2 of 2 cases: the best peer takes 5.00 to 8.00 times as long, "
                               "6.50 times in the median.")
    lost = CaseResult(found.results[0].case, (Timing("fastbptt", 4e-4, 0, 1, 5, 1), Timing("torch", 3e-4, 0, 1, 5, 1)))
    alone = CaseResult(found.results[0].case, found.results[0].timings[:1])
    longer = replace(found, results=(*found.results, lost, alone))
    assert "fastest in 2 of 3 cases: the best peer takes 0.75 to 8.00" in longer.summary()
    with pytest.raises(ValueError, match="^results: expected a case that a rival took part in, got none"):
        replace(found, results=(alone,)).summary()


def test_json_carries_the_derived_figures():
    data = json.loads(report().to_json())
    assert data["results"][0]["ratio"] == pytest.approx(5)
    assert data["results"][1]["case"]["truncation"] == [32, 32]
    assert data["results"][0]["timings"][0]["percent"] == pytest.approx(6.144)
    assert data["missing"] == {"numpy": "No module"}


def test_plot_writes_a_png(tmp_path):
    pytest.importorskip("matplotlib")
    report().plot(tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_table_shows_every_figure_on_a_narrow_terminal():
    console = pytest.importorskip("rich.console").Console(width=80, record=True, file=io.StringIO())
    console.print(report().table())
    text = console.export_text()
    assert all(figure in text for figure in ("0.10", "0.80", "0.50", "12.3", "6.14", "5.00", "8.00"))


# ---- the whole run, on tiny cases


class Ours(NumpyPeer):
    """Stands in for the package, so that the run itself is under test."""

    name = "fastbptt"


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(run, "PRODUCT_SIZE", 64)
    monkeypatch.setattr(run, "OursSide", Ours)
    monkeypatch.setattr(run, "select", lambda *names: [case.tiny() for case in select(*names)][:2])


def test_run_measures_every_case_and_reports_progress(small):
    steps = []

    def record(done, total, name):
        steps.append((done, total, name))

    found = run.run_bench(["numpy"], ["rnn"], ["float64"], size_classes=["S"], seconds_per_case=0, progress=record)
    assert found.sides == ("fastbptt", "numpy") and set(found.product_gflops) == {"float64"}
    assert [result.case.cell for result in found.results] == ["rnn"] * len(found.results)
    assert [step[:2] for step in steps] == [(0, 2), (1, 2), (2, 2)] and steps[0][2] == found.results[0].case.name
    assert all(result.ratio > 0 for result in found.results)


def test_a_rival_that_is_not_installed_is_named_and_left_out(small, monkeypatch):
    def absent(threads):
        raise ModuleNotFoundError("No module named 'torch'")

    monkeypatch.setitem(PEERS, "torch", absent)
    found = run.run_bench(["torch", "numpy"], seconds_per_case=0)
    assert found.missing == {"torch": "No module named 'torch'"} and found.sides == ("fastbptt", "numpy")


def test_threads_reach_every_side_and_the_large_product(small, monkeypatch):
    threadpoolctl = importlib.import_module("threadpoolctl")
    seen = []

    def rates(dtype):
        seen.extend(pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas")
        return [1.0]

    monkeypatch.setattr(run, "product_rates", rates)
    assert run.run_bench([], threads=1, seconds_per_case=0).threads == 1
    assert seen and set(seen) == {1}


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"^peers: expected names among numpy, torch, jax, got theano$"):
        run.run_bench(["theano"])
    with pytest.raises(ValueError, match=r"^threads: expected at least 1, got 0"):
        run.run_bench(threads=0)
