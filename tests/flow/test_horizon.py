"""The horizon of several batches: the median, and a range whose confidence is that of order statistics."""
from __future__ import annotations

from math import comb

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.flow.horizon import _order

CELL = fb.RNN(3, 8)
PARAMS = CELL.init(seed=0, gain=0.8, dtype=np.float64)


def batches(n, T=40):
    rng = np.random.default_rng(0)
    for _ in range(n):
        tape = fb.forward(CELL, PARAMS, rng.normal(size=(T, 2, 3)))
        yield tape, rng.normal(size=tape.h.shape)


@pytest.mark.parametrize("n", [1, 2, 4, 5, 8, 10, 21, 60])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_order_statistics_hold_the_median_as_often_as_they_say(n, confidence):
    def held(k):
        return sum(comb(n, i) for i in range(k, n - k + 1)) / 2 ** n
    k, kept = _order(n, confidence)
    assert kept == pytest.approx(held(k)) and (kept >= confidence or k == 1)
    assert 2 * (k + 1) > n or held(k + 1) < confidence


def test_median_and_range_of_the_batches():
    each = [fb.suggest_horizon(CELL, PARAMS, tape, dh, 0.02) for tape, dh in batches(10)]
    found = fb.suggest_horizons(CELL, PARAMS, batches(10), 0.02)
    assert found.each.tolist() == each and found.longest == 40
    assert found.horizon == int(np.ceil(np.median(each)))
    assert (found.low, found.high) == (sorted(each)[1], sorted(each)[-2]) and found.confidence == pytest.approx(0.978515625)
    wide = fb.suggest_horizons(CELL, PARAMS, batches(10), 0.02, confidence=0.999)
    assert (wide.low, wide.high) == (min(each), max(each)) and wide.confidence < 0.999
    assert fb.suggest_horizons(CELL, PARAMS, batches(10), 0.5).horizon < found.horizon


def test_one_sequence_of_a_stack_alone_is_what_it_is_beside_itself():
    stack = fb.Stack([fb.RNN(3, 8), fb.RNN(8, 8)])
    params, rng = stack.init(seed=0, dtype=np.float64, gain=0.5), np.random.default_rng(0)
    x, dh = rng.normal(size=(40, 1, 3)), rng.normal(size=(40, 1, 8))
    found = []
    for n in (1, 2):
        tape, errors = fb.forward(stack, params, np.repeat(x, n, axis=1)), np.repeat(dh, n, axis=1)
        steps = fb.step_gradients(stack, params, tape, errors)
        found.append((fb.suggest_horizon(stack, params, tape, errors), steps.errors[:, :1]))
    assert found[0][0] == found[1][0] < 10
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-12, atol=1e-15)


def test_nothing_shorter_serves():
    found = fb.suggest_horizons(CELL, PARAMS, batches(5, T=4), 0.0)
    assert found.horizon == found.longest == 4


@pytest.mark.parametrize("call, error, message", [
    (lambda: fb.suggest_horizons(CELL, PARAMS, []), ValueError, "batches: expected at least one"),
    (lambda: fb.suggest_horizons(CELL, PARAMS, 3), TypeError, "batches: expected an iterable"),
    (lambda: fb.suggest_horizons(CELL, PARAMS, [1]), TypeError, r"batches\[0\]: expected"),
    (lambda: fb.suggest_horizons(CELL, PARAMS, batches(1), confidence=1.0), ValueError, "confidence: expected a number between"),
    (lambda: fb.suggest_horizons(CELL, PARAMS, batches(1), confidence="a"), TypeError, "confidence: expected a real number"),
])
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
