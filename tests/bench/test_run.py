"""The run: a wrong gradient is caught before anything is timed, turns are interleaved, figures are what they claim."""

import importlib
import io
import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from fastbptt.bench import machine, run, variants
from fastbptt.bench.cases import Case, select
from fastbptt.bench.host import Host, settle
from fastbptt.bench.numpy_peer import NumpyPeer
from fastbptt.bench.peers import TOLERANCE
from fastbptt.bench.report import CaseResult, Report, Timing


def tiny(cell):
    return Case(cell, T=9, B=2, I=3, H=5, dtype="float32", size_class="S")


def entries(*sides):
    """The sides in this process, one variant each."""
    return [variants.Entry(variants.Variant(side.name, None), Host(side)) for side in sides]


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
        run.measure(tiny("rnn"), entries(NumpyPeer(), side), seconds=0)
    assert side.runs == 2      # when it was set up, and to be checked


def test_a_gradient_within_the_tolerance_is_let_through():
    side = Wrong(lambda g: {**g, "W": g["W"] * np.float32(1 + 0.5 * TOLERANCE["float32"])})
    assert run.measure(tiny("rnn"), entries(side), seconds=0).timings[0].turns == run.MIN_TURNS


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
    result = run.measure(tiny("rnn"), entries(*sides), seconds=0)
    first, second = result.timings
    assert 0.004 < first.seconds < second.seconds and 0.03 < second.seconds
    assert first.low <= first.seconds <= first.high
    assert first.calls > 1 and second.calls == 1
    rounds = [name for k, name in enumerate(log) if k == 0 or log[k - 1] != name]
    assert rounds == ["a", "b"] * (len(rounds) // 2) and len(rounds) >= 2 * run.MIN_TURNS


def test_the_fastest_variant_of_a_side_takes_part():
    log = []
    found = [variants.Entry(variants.Variant("a", threads), Host(Sleeper("a", seconds, log)))
             for threads, seconds in ((1, 0.02), (3, 0.002), (7, 0.01))]
    result = run.measure(tiny("rnn"), found, seconds=0)
    [timing] = result.timings
    assert timing.side == "a" and timing.how == "3 threads" and 0.002 < timing.seconds < 0.01


def test_a_side_says_what_it_tuned():
    class Tuned(NumpyPeer):
        def tune(self):
            self.setting = "unroll 4"

    [timing] = run.measure(tiny("rnn"), entries(Tuned()), seconds=0).timings
    assert timing.how.endswith(", unroll 4")


def test_a_wrong_gradient_of_the_slower_variant_is_caught_too():
    found = entries(NumpyPeer()) + [variants.Entry(variants.Variant("numpy", 1), Host(Wrong(SPOILT["off by"])))]
    with pytest.raises(AssertionError, match="off by"):
        run.measure(tiny("rnn"), found, seconds=0)


def test_settle_waits_for_a_busy_thread_and_not_for_an_idle_process():
    stop = time.perf_counter() + 0.15

    def spin():
        while time.perf_counter() < stop:
            np.sort(np.ones(20_000))

    thread = threading.Thread(target=spin)
    thread.start()
    settle()
    assert time.perf_counter() >= stop
    thread.join()
    start = time.perf_counter()
    settle()
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
    with pytest.raises(ValueError, match="^results: expected a case that a peer took part in, got none"):
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


def test_sides_of_a_package_are_one_in_the_short_table():
    times = {"fastbptt": 3e-4, "torch": 8e-4, "torch-function": 6e-4, "jax": 2e-4, "jax-vjp": 4e-4}
    timings = tuple(Timing(name, s, s, s, 5, 1, f"how {name}") for name, s in times.items())
    found = replace(report(), results=(CaseResult(report().results[0].case, timings),)).by_package()
    assert found.sides == ("fastbptt", "torch", "jax")
    [result] = found.results
    assert result.seconds("torch") == 6e-4 and result.seconds("jax") == 2e-4 and result.ratio == pytest.approx(2 / 3)
    assert [t.how for t in result.timings] == ["how fastbptt", "how torch-function", "how jax"]


def test_captions_say_how_many_threads():
    found = report()
    timings = Timing("torch", 1, 1, 1, 5, 1, "1 thread"),
    best = replace(found, threads=None, results=(CaseResult(found.results[0].case, timings),))
    assert "1 thread(s)" in found.caption() and "all cores" in replace(found, threads=None).caption()
    assert "the better of 1 thread and all cores" in best.caption()


def test_captions_name_cpu_lanes_and_rate():
    found = machine.machine(["fastbptt", "numba", "torch-function"])
    assert found["vectors"].endswith("float32 lanes") and found["numpy"] == np.__version__ and "numba" in found
    text = machine.describe(found, {"float32": 206.4})
    assert text.startswith(found["cpu"]) and found["vectors"] in text and "206 in float32 GFLOP/s" in text


# ---- the whole run, on tiny cases


@pytest.fixture
def small(monkeypatch):
    """Sides in this process, and plain NumPy in place of the package, so that the run itself is under test."""
    def start(variant):
        if variant.side == "torch":
            raise ImportError("No module named 'torch'")
        side = NumpyPeer(variant.threads)
        side.name = variant.side
        return Host(side)

    monkeypatch.setattr(machine, "PRODUCT_SIZE", 64)
    monkeypatch.setattr(variants.Variant, "start", start)
    return [case.tiny() for case in select(["rnn"], ["float64"], ["S"])][:2]


def test_run_measures_every_case_and_reports_progress(small):
    steps = []

    def record(done, total, name):
        steps.append((done, total, name))

    found = run.run_bench(small, ["numpy"], seconds_per_case=0, progress=record)
    assert found.sides == ("fastbptt", "numpy") and set(found.product_gflops) == {"float64"}
    assert [result.case for result in found.results] == small
    assert [step[:2] for step in steps] == [(0, 2), (1, 2), (2, 2)] and steps[0][2] == found.results[0].case.name
    assert all(result.ratio > 0 for result in found.results)


def test_a_peer_that_is_not_installed_is_named_and_left_out(small):
    found = run.run_bench(small, ["torch", "numpy"], seconds_per_case=0)
    assert found.missing == {"torch": "No module named 'torch'"} and found.sides == ("fastbptt", "numpy")


def test_threads_reach_every_side_and_the_large_product(small, monkeypatch):
    threadpoolctl = importlib.import_module("threadpoolctl")
    seen = []

    def rates(dtype):
        seen.extend(pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas")
        return [1.0]

    monkeypatch.setattr(run, "product_rates", rates)
    found = run.run_bench(small, [], threads=1, seconds_per_case=0)
    assert found.threads == 1 and {t.how for r in found.results for t in r.timings} == {"1 thread"}
    assert seen and set(seen) == {1}


def test_variants_are_one_thread_and_all_cores_and_wide_vectors_of_jax(monkeypatch):
    monkeypatch.setattr(variants.os, "cpu_count", lambda: 4)
    monkeypatch.setenv("XLA_FLAGS", "--mine")
    assert variants.thread_choices(None) == (1, None) and variants.thread_choices(3) == (3,)
    for has_wide in (True, False):
        monkeypatch.setattr(variants.simd, "FEATURES", {"avx512f": has_wide})
        assert [v.label() for v in variants.variants_of("torch", (1, None))] == ["1 thread", "4 threads"]
        flags = [v.environment.get("XLA_FLAGS") for v in variants.variants_of("jax-vjp", (1,))]
        assert flags == ([None, f"--mine {variants.WIDE}"] if has_wide else [None])


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"^peers: expected names among numpy, .*, paddle, got theano$"):
        run.run_bench(peers=["theano"])
    with pytest.raises(ValueError, match=r"^threads: expected at least 1, got 0"):
        run.run_bench(threads=0)
