"""What a call allocates: bounded beyond its inputs and results, and given back."""
from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys

import fastbptt as fb
from fastbptt.bptt.plan import forget_plans
from fastbptt.engine.partition import most_shards

FORMS = {"full": None, "chunks": fb.Truncation.chunks(16), "window": fb.Truncation(16), "mixture": fb.Truncation(16, 4)}


def peak_of(call):
    """Bytes beyond what was there, at the worst moment; tracemalloc sees NumPy's allocations and those of compiled code."""
    forget_plans()      # what is made once is counted
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    result = call()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return peak, result


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("T", "B"), [(20_000, 1), (2000, 16)])
def test_forward_and_backward_hold_two_arrays_of_states(form, T, B):
    """Beyond inputs, results and weights: two arrays (T, B, H), and one part of the parameters for each shard."""
    cell = fb.RNN(8, 48)
    params = cell.init(seed=0)
    x, dh = np.zeros((T, B, 8), np.float32), np.zeros((T, B, 48), np.float32)

    def both():
        return fb.backward(cell, params, fb.forward(cell, params, x), dh, FORMS[form])

    both()
    peak, grads = peak_of(both)
    results = grads.x.nbytes + 2 * sum(a.nbytes for a in params)
    parts = max(4, most_shards(T * B)) * 4 * 48 * (48 + 16) + 4 * sum(a.nbytes for a in params)
    assert peak <= results + parts + 2 * dh.nbytes


@pytest.mark.parametrize("make", [fb.RNN, fb.GRU, fb.LSTM], ids=lambda make: make.__name__)
def test_compiled_code_gives_everything_back(make):
    """An array that was counted once too often or too seldom would show here, or crash."""
    rng = np.random.default_rng(0)
    cell = make(3, 9)
    params, lengths = cell.init(seed=0, dtype=np.float64), rng.integers(1, 41, size=9)

    def all_forms():
        for x in (rng.normal(size=(40, 9, 3)), rng.integers(0, 3, size=(40, 9))):
            for given in (None, lengths):
                tape = fb.forward(cell, params, x, lengths=given, resets=rng.random((40, 9)) < 0.1)
                for truncation in (None, fb.Truncation.chunks(7), fb.Truncation(9, 2)):
                    fb.backward(cell, params, tape, tape.h.copy(), truncation)

    all_forms()
    _nrt_python.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    all_forms()
    after = rtsys.get_allocation_stats()
    _nrt_python.memsys_disable_stats()
    assert after.alloc - before.alloc == after.free - before.free > 0
    assert after.mi_alloc - before.mi_alloc == after.mi_free - before.mi_free
