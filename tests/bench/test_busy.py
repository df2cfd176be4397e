"""The benchmark for a busy machine: it keeps cores busy while it should and no longer, and counts what it says it counts."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastbptt.bench import busy, machine, variants
from fastbptt.bench.busy_report import BusyReport, BusyTiming, Calls
from fastbptt.bench.cases import BUSY_CASES, CELLS, Case
from fastbptt.bench.numpy_peer import gradients

CASE = Case("rnn", T=9, B=2, I=3, H=5, dtype="float32", size_class="busy")
ROOT = Path(__file__).resolve().parents[2]


def seconds_of_work(pid):
    """Processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_busy_processes_work_and_end(alive):
    with busy.busy_processes(2) as pids:
        assert len(set(pids)) == 2 and all(map(alive, pids))
        if Path("/proc/self/stat").exists():
            end = time.perf_counter() + 20
            while min(map(seconds_of_work, pids)) < 0.1 and time.perf_counter() < end:
                time.sleep(0.02)
            assert min(map(seconds_of_work, pids)) >= 0.1
    assert not any(map(alive, pids))


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError])
def test_nothing_is_left_after_an_interruption(interruption, alive):
    with pytest.raises(interruption), busy.busy_processes(3) as pids:
        raise interruption
    assert len(pids) == 3 and not any(map(alive, pids))


def test_both_processes_of_a_pair_end_after_an_interruption(alive):
    with pytest.raises(KeyboardInterrupt), busy.pair_of(variants.Variant("numpy", 1)) as pair:
        pair[1].call("setup", CASE)
        pair[1].begin("window", 0.0, 60.0)
        raise KeyboardInterrupt
    assert not any(alive(runner.pid) for runner in pair)


def test_busy_processes_end_when_the_one_that_started_them_is_killed(wait_for_end):
    code = ("import time\nfrom fastbptt.bench.busy import busy_processes\n"
            "with busy_processes(2) as pids:\n    print(*pids, flush=True)\n    time.sleep(60)")
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    pids = [int(word) for word in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert len(pids) == 2 and not wait_for_end(pids)


class Recorder:
    """Stands in for a process: every call takes a second, and what is busy meanwhile is written down."""

    name = "numpy"

    def __init__(self, log, count):
        self.log, self.count = log, count

    def begin(self, method, start, seconds):
        self.log.append((method, "begin", seconds))

    def result(self):
        return [1.0] * self.count

    def call(self, method, start, seconds):
        self.log.append((method, len(self.busy), seconds))
        return [1.0 + len(self.busy)] * 4


def test_situations_are_what_they_are_called(monkeypatch):
    log = []
    pair = Recorder(log, 3), Recorder(log, 5)

    class Busy:
        def __init__(self, count):
            self.count = count

        def __enter__(self):
            pair[0].busy = [None] * self.count

        def __exit__(self, *error):
            pair[0].busy = []

    monkeypatch.setattr(busy, "busy_processes", Busy)
    found = busy.measure_busy(pair, CASE, 2.0)
    once = [("window", 0, 1.0), ("window", 1, 1.0), ("window", 3, 1.0), ("window", "begin", 1.0), ("window", "begin", 1.0)]
    assert log == once * busy.ROUNDS
    assert {name: calls.median for name, calls in found.items()} == {"alone": 1, "one": 2, "three": 4, "two": 1}
    assert [found[name].count for name in found] == [8, 8, 8, 16]


def test_two_at_once_counts_the_work_of_both():
    def calls(median, count, total):
        return Calls(median, 2 * median, count, total)

    timing = BusyTiming("c", "numpy", 1, "1 thread", calls(1e-3, 1000, 1.0), calls(2e-3, 500, 1.0), calls(4e-3, 250, 1.0),
                        calls(2e-3, 750, 2.0))
    assert timing.together == pytest.approx(2 * 375 / 1000)
    assert timing.figures() == ["numpy, 1 thread", "1.00", "2.00 (4.0)", "4.00 (8.0)", "0.75"]


def test_a_wrong_gradient_stops_it():
    with busy.pair_of(variants.Variant("numpy", 1)) as pair:
        wanted = gradients(CASE, CASE.arrays().astype("float64"))
        busy.set_up(pair, CASE, wanted)
        with pytest.raises(AssertionError, match="off by"):
            busy.set_up(pair, CASE, {**wanted, "W": 2 * wanted["W"]})


def test_run_takes_every_side_with_one_thread_and_all_cores(monkeypatch):
    monkeypatch.setattr(machine, "PRODUCT_SIZE", 64)
    monkeypatch.setattr(busy, "OURS", "numpy-buffers")      # starts at once
    monkeypatch.setattr(variants.os, "cpu_count", lambda: 2)
    steps = []
    found = busy.run_busy([CASE], ["numpy"], seconds=0.02, progress=lambda *step: steps.append(step))
    assert [(t.side, t.threads) for t in found.timings] == [(s, n) for s in ("numpy-buffers", "numpy") for n in (1, None)]
    assert [step[:2] for step in steps] == [(k, 4) for k in range(4)] and CASE.name in steps[0][2]
    assert all(calls.count >= 3 and calls.worst >= calls.median > 0 for t in found.timings for calls in (t.one, t.three, t.two))
    one = busy.run_busy([CASE], [], threads=1, seconds=0.02)
    assert [t.threads for t in one.timings] == [1] and one.seconds == 0.02


def test_a_missing_peer_is_named(monkeypatch):
    def all_cases(variant, *others):
        if variant.side == "jax":
            raise ImportError("No module named 'jax'")
        return []

    monkeypatch.setattr(busy, "_all_cases", all_cases)
    assert busy.run_busy([], ["jax"]).missing == {"jax": "No module named 'jax'"}


def test_of_several_variants_the_fastest_alone_is_shown():
    def timing(threads, how, seconds):
        calls = Calls(seconds, seconds, 1, seconds)
        return BusyTiming("c", "jax", threads, how, calls, calls, calls, calls)

    given = [timing(1, "a", 3.0), timing(1, "b", 2.0), timing(None, "c", 1.0), timing(None, "d", 5.0)]
    assert [t.how for t in busy._fastest(given)] == ["b", "c"]


def report():
    calls = Calls(1e-3, 3e-3, 10, 1e-2)
    timings = tuple(BusyTiming(CASE.name, side, 1, "1 thread", calls, calls, calls, calls) for side in ("fastbptt", "torch"))
    where = {"cpu": "a CPU", "cores": "2", "vectors": "AVX2, 8 float32 lanes"}
    return BusyReport(where, {"jax": "no"}, {"float32": 100.0}, 0.5, (CASE,), timings)


def test_report_as_markdown_json_and_table():
    lines = report().markdown().splitlines()
    assert lines[0] == f"| {CASE.name} | alone ms | beside one | beside three | two at once |"
    assert lines[2] == "| fastbptt, 1 thread | 1.00 | 1.00 (3.0) | 1.00 (3.0) | 2.00 |"
    assert "0.5 s for each" in lines[-1] and "a CPU, 2 cores, AVX2, 8 float32 lanes" in lines[-1] and "jax left out" in lines[-1]
    assert json.loads(report().to_json())["timings"][0]["together"] == pytest.approx(2)
    console = pytest.importorskip("rich.console").Console(width=80, record=True, file=io.StringIO())
    console.print(report().table())
    assert "1.00 (3.0)" in console.export_text()


def test_the_cases_are_those_of_every_cell_and_a_long_one():
    assert {case.cell for case in BUSY_CASES} == set(CELLS) and max(case.T for case in BUSY_CASES) == 16_384
