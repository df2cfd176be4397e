"""Calls large enough to be shared among threads: that they are shared, and that every number of threads gives the same bits.

The calls are made by a process of its own with three threads, on however many cores. In it is noted for how many threads
a call asks the pool, and whether it then had a job of more than one piece.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.engine import pool, products
from fastbptt.engine.compat import PLAIN
from fastbptt.tree import leaves

pytestmark = pytest.mark.skipif(PLAIN, reason="there the calling thread does all work")
MOST = 3


def draw(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def through_time(cell, T=60, B=19, dtype=np.float32, truncation=None, ids=False, **options):
    """Everything that forward and backward return."""
    params = cell.init(seed=1, dtype=dtype)
    x = np.random.default_rng(2).integers(0, cell.input_size, (T, B)) if ids else draw(T, B, cell.input_size, dtype=dtype)
    tape = fb.forward(cell, params, x, **options)
    grads = fb.backward(cell, params, tape, draw(T, B, cell.hidden_size, seed=3, dtype=dtype), truncation)
    return tape.final, grads, () if "memory_budget" in options else tape.h


def of_tape(call, T=60, B=8):
    """What a function of gradient flow returns."""
    cell = fb.RNN(24, 40)
    params = cell.init(seed=1)
    tape = fb.forward(cell, params, draw(T, B, 24))
    return call(cell, params, tape, draw(T, B, 40, seed=3))


STACK = [fb.RNN(24, 40), fb.RNN(40, 40)]
BOTH = [fb.RNN(24, 40), fb.RNN(80, 40)]
CALLS = {
    "rnn": partial(through_time, fb.RNN(24, 40)),
    "rnn, float64": partial(through_time, fb.RNN(24, 40), dtype=np.float64),
    "ids": partial(through_time, fb.GRU(24, 40), ids=True),
    "gru_after": partial(through_time, fb.GRU(24, 40)),
    "gru_before": partial(through_time, fb.GRU(24, 40, reset="before")),
    "lstm": partial(through_time, fb.LSTM(24, 40)),
    "lstm_peephole": partial(through_time, fb.LSTM(24, 40, peephole=True)),
    "lengths": partial(through_time, fb.RNN(24, 40), lengths=np.arange(42, 61)),
    "chunks": partial(through_time, fb.RNN(24, 40), truncation=fb.Truncation.chunks(9)),
    "window": partial(through_time, fb.LSTM(24, 40), truncation=fb.Truncation(7)),
    "mixture": partial(through_time, fb.GRU(24, 40), truncation=fb.Truncation(9, 2)),
    "stack": partial(through_time, fb.Stack(STACK)),
    "truncated stack": partial(through_time, fb.Stack(STACK), truncation=fb.Truncation(9, 2)),
    "two directions": partial(through_time, fb.Stack(BOTH, bidirectional=True)),
    "checkpoints": partial(through_time, fb.RNN(24, 40), T=600, memory_budget="1 MiB"),
    "steps of one sequence": partial(through_time, fb.RNN(24, 400), B=1),
    "steps of one sequence, gru_before": partial(through_time, fb.GRU(24, 200, reset="before"), B=1),
    "steps of one sequence, lstm_peephole, ids": partial(through_time, fb.LSTM(24, 200, peephole=True), B=1, ids=True),
    "steps of two shards": partial(through_time, fb.LSTM(24, 200), T=12, B=5),
    "chunks of one sequence": partial(through_time, fb.RNN(24, 40), T=1300, B=1, truncation=fb.Truncation.chunks(20)),
    "window of one sequence": partial(through_time, fb.RNN(24, 40), T=1300, B=1, truncation=fb.Truncation(20)),
    "jacobians": partial(of_tape, lambda cell, params, tape, dh: fb.jacobians(cell, params, tape)),
    "jacobian_product": partial(of_tape, lambda cell, params, tape, dh: fb.jacobian_product(cell, params, tape, 0, 50)),
    "lag_gradients": partial(of_tape, lambda cell, params, tape, dh: fb.lag_gradients(cell, params, tape, dh, 6), T=200),
    "lag_norms": partial(of_tape, lambda cell, params, tape, dh: fb.lag_norms(cell, params, tape, dh, 20), T=200),
    "step_gradients": partial(of_tape, fb.step_gradients, T=200),
    "A @ B": lambda: products.times(draw(30_000, 64), draw(64, 40, seed=1)),
    "A.T @ B": lambda: products.over_rows(draw(30_000, 64), draw(30_000, 40, seed=1)),
}


@pytest.fixture(scope="module")
def found():
    done = subprocess.run([sys.executable, str(Path(__file__).resolve())], capture_output=True, text=True, timeout=600,
                          env={**os.environ, "NUMBA_NUM_THREADS": str(MOST), "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CALLS)
def test_threads_share_the_work_and_do_not_change_a_bit(found, name):
    limits, same = found[name]
    assert limits["1"] == []
    for n in range(2, MOST + 1):
        assert set(limits[str(n)]) == {n}
    assert same


def test_a_small_call_stays_on_its_thread(found):
    assert found["small"][0][str(MOST)] == []


def measure():
    """For every call the numbers of threads of the jobs that the pool did, by the number allowed; whether the bits agree."""
    ask, noted, calls = pool.address, [], {**CALLS, "small": partial(through_time, fb.RNN(24, 40), T=9, B=9)}

    def address(threads):
        at = ask(threads)
        pool._pool.set(pool.CLAIMS, 0)
        noted.append(threads)
        return at

    def made(call, n):
        fb.set_num_threads(n)
        noted.clear()
        found = [a.tobytes() for a in leaves((call(),))]
        shared = not noted or pool._pool.get(pool.CLAIMS) % pool.PIECES > 1
        return found, list(noted) if shared else ["asked for, and not used"]

    pool.address = address
    results = {name: [made(call, n) for n in range(1, MOST + 1)] for name, call in calls.items()}
    print(json.dumps({name: ({n: limits for n, (_, limits) in enumerate(r, 1)}, all(bits == r[0][0] for bits, _ in r))
                      for name, r in results.items()}))


if __name__ == "__main__":
    measure()
