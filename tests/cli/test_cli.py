"""The commands as a user types them."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import fastbptt as fb
from fastbptt import cli
from fastbptt.bench.cases import BUSY_CASES, select
from fastbptt.bench.peers import PEERS
from fastbptt.bptt.kernels import kernels_of
from fastbptt.cells import CELLS
from fastbptt.commands import compile

PARAMS = fb.RNNParams, fb.GRUParams, fb.GRUBeforeParams, fb.LSTMParams, fb.LSTMPeepholeParams


def run(*arguments):
    command = [sys.executable, "-W", "error", "-m", "fastbptt", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("arguments", [(), ("fly",), ("bench", "--threads", "two"), ("bench", "--cells", "cnn"),
                                       ("bench", "--out", "x.txt"), ("bench", "--threads", "0"), ("bench", "--peers", "theano"),
                                       ("bench", "--busy", "--classes", "S"), ("bench", "--busy", "--out", "x.png"),
                                       ("bench", "--busy", "--threads", "0"), ("gradcheck", "--seed", "-1"),
                                       ("compile", "--cells", "CNN"), ("compile", "--dtype", "float16")])
def test_bad_arguments_are_one_line_and_status_2(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_info():
    done = run("info")
    assert done.returncode == 0 and "vector width" in done.stdout and "cache" in done.stdout


def test_gradcheck():
    done = run("gradcheck")
    assert done.returncode == 0 and done.stdout.count("relative difference") == 11


def test_compile_takes_the_cells_and_dtypes_that_it_is_given():
    done = run("compile", "--cells", "RNN", "--dtype", "float32")
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["RNN float32 vectors", "RNN float32 ids"]


def test_compile_without_arguments_takes_everything(monkeypatch, capsys):
    taken = []
    monkeypatch.setattr(compile, "_compile", lambda cell, dtype, ids: taken.append((cell.params_type, dtype.name, ids)))
    assert cli.main(["compile"]) == 0
    assert set(taken) == set(product(PARAMS, ("float32", "float64"), (False, True))) and len(taken) == 20
    assert len(set(capsys.readouterr().out.splitlines())) == 20


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_compile_compiles_serves_truncated_gradients_too(dtype):
    compile._compile(fb.RNN(3, 4), np.dtype(dtype), ids=False)
    kernel = kernels_of(fb.RNN).backward
    compiled = len(kernel.signatures)
    cell = fb.RNN(5, 6)
    params, x = cell.init(dtype=dtype), np.ones((7, 2, 5), dtype)
    tape = fb.forward(cell, params, x, lengths=[7, 3])
    fb.backward(cell, params, tape, tape.h, fb.Truncation(4, 2))
    assert len(kernel.signatures) == compiled


def test_compile_knows_every_form_of_every_cell():
    made = {CELLS[cell](1, 1, **options).params_type for cell, forms in compile.FORMS.items() for options in forms.values()}
    assert made == set(PARAMS) and set(compile.FORMS) == set(CELLS)


def test_bench_measures_what_it_is_asked_for(monkeypatch):
    """Every option reaches the measurement."""
    asked = []

    def measure(*arguments):
        asked.append(arguments[:-1])
        raise ValueError("enough")

    for name in ("run.run_bench", "busy.run_busy"):
        monkeypatch.setattr(f"fastbptt.bench.{name}", measure)
    options = ["--peers", "jax-vjp,paddle", "--threads", "2", "--seconds", "0.5", "--cells", "gru", "--dtype", "float64"]
    assert cli.main(["bench", *options, "--classes", "odd"]) == cli.main(["bench", *options, "--busy"]) == 2
    assert cli.main(["bench"]) == cli.main(["bench", "--busy"]) == 2
    chosen = ["jax-vjp", "paddle"], 2, 0.5
    assert asked[0] == (select(["gru"], ["float64"], ["odd"]), *chosen)
    assert asked[1] == (tuple(replace(c, dtype="float64") for c in BUSY_CASES if c.cell == "gru"), *chosen)
    assert asked[2:] == [(select(), list(PEERS), None, 3.0), (BUSY_CASES, list(PEERS), None, 1.0)]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are listed by Linux alone")
def test_interrupted_busy_benchmark_leaves_no_process(tmp_path):
    """Ctrl-C reaches the command alone or, from a terminal, its whole group."""
    for whole_group in (False, True):
        command = [sys.executable, "-m", "fastbptt", "bench", "--busy", "--peers", "numpy", "--cells", "rnn", "--threads", "1"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)

        def children(pid=process.pid):
            return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

        end, found = time.monotonic() + 200, []
        while len(found) < 3 and time.monotonic() < end:      # the two workers and a busy process
            time.sleep(0.02)
            found = children()
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
        error = process.communicate(timeout=60)[1]
        assert process.returncode == 130 and error.startswith("fastbptt: bench interrupted")
        assert len(found) >= 3

        # A child of which the command did not know yet, as the signal came while it was started, ends by itself a little later.
        end = time.monotonic() + 20
        while (left := [pid for pid in found if Path(f"/proc/{pid}").exists()]) and time.monotonic() < end:
            time.sleep(0.02)
        assert not left


@pytest.mark.slow
def test_busy_benchmark_writes_what_it_measured(tmp_path):
    done = run("bench", "--busy", "--peers", "numpy", "--cells", "gru", "--seconds", "0.1", "--out", tmp_path / "b.json")
    assert done.returncode == 0, done.stderr
    assert "gru-float32-busy" in done.stdout and "two at once" in done.stdout
    found = json.loads((tmp_path / "b.json").read_text())
    assert {(t["side"], t["threads"]) for t in found["timings"]} == {(s, n) for s in ("fastbptt", "numpy") for n in (1, None)}


@pytest.mark.slow
def test_bench_writes_what_it_measured(tmp_path):
    done = run("bench", "--peers", "numpy", "--classes", "S", "--seconds", "0.1", "--out", tmp_path / "b.json")
    assert done.returncode == 0, done.stderr
    assert all(f"{cell}-float32-S" in done.stdout for cell in ("rnn", "gru", "lstm"))
    assert json.loads((tmp_path / "b.json").read_text())
