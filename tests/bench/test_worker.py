"""A side in a process of its own gives what it gives here, says what is wrong, and leaves nothing running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fastbptt.bench.cases import Case
from fastbptt.bench.numpy_peer import gradients
from fastbptt.bench.worker import Worker, _plain

CASE = Case("gru", T=9, B=2, I=3, H=5, dtype="float32", size_class="S")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def worker():
    made = Worker("numpy", 1)
    yield made
    made.close()


def test_it_computes_and_times_what_a_side_does_here(worker):
    assert worker.call("supports", CASE)
    worker.call("setup", CASE)
    assert worker.call("tune") == ""
    found, wanted = worker.call("gradients"), gradients(CASE, CASE.arrays())
    assert found.keys() == wanted.keys() and all(np.array_equal(found[name], wanted[name]) for name in wanted)
    assert 0 < worker.call("turn", 3, True) < 1
    begin = time.time() + 0.2
    taken = worker.call("window", begin, 0.1)
    assert time.time() >= begin + 0.1 and len(taken) >= 3 and 0.1 <= sum(taken) < 1


def test_threads_and_environment_reach_the_process(monkeypatch):
    monkeypatch.setenv("FASTBPTT_SIMD_BITS", "nonsense")      # refused when the package is imported
    with pytest.raises(RuntimeError, match="numpy: its process ended with status 1"):
        Worker("numpy")
    Worker("numpy", 1, {"FASTBPTT_SIMD_BITS": "128"}).close()


def test_errors_come_back_and_the_process_goes_on(worker):
    with pytest.raises(RuntimeError, match="AttributeError"):
        worker.call("fly")
    assert worker.call("supports", CASE)
    assert isinstance(_plain(ModuleNotFoundError("No module named 'x'")), ImportError)
    assert str(_plain(KeyError("k"))) == "KeyError: 'k'"


def test_a_library_that_is_missing_is_an_import_error(monkeypatch, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['paddle'] = None")      # as if it were not installed
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH")))))
    with pytest.raises(ImportError, match="paddle"):
        Worker("paddle")


def test_a_process_that_dies_is_named(worker):
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="numpy: its process ended"):
        worker.call("setup", CASE)


def test_close_ends_it_at_once_even_at_work(worker, alive):
    worker.call("setup", CASE)
    worker.begin("window", 0.0, 60.0)
    start = time.perf_counter()
    worker.close()
    assert not alive(worker.pid) and time.perf_counter() - start < 5


def test_it_ends_when_the_process_that_started_it_is_killed(wait_for_end):
    code = ("import sys, time\nfrom fastbptt.bench.worker import Worker\nw = Worker('numpy')\nprint(w.pid, flush=True)\n"
            "time.sleep(60)")
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert not wait_for_end([pid])
