"""Weights of Keras layers: gates and biases where they belong, bit for bit there and back. Keras is not needed."""
from __future__ import annotations

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.interop.keras import from_weights, to_weights
from fastbptt.training.tree import leaves

I, H = 3, 4     # noqa: E741
CELLS = {"rnn": fb.RNN(I, H), "stack": fb.Stack([fb.RNN(I, H), fb.RNN(H, H)]),
         "both": fb.Stack([fb.RNN(I, H), fb.RNN(2 * H, H)], True)}


def drawn(cell, seed=0, dtype=np.float32):
    """Parameters all of whose numbers are different."""
    rng = np.random.default_rng(seed)
    arrays = {name: rng.normal(size=shape).astype(dtype) for name, shape in cell.shapes.items()}
    return cell.params_of(arrays) if isinstance(cell, fb.Stack) else cell.params_type(**arrays)


@pytest.mark.parametrize("name", CELLS)
def test_round_trip_keeps_every_bit(name):
    cell = CELLS[name]
    params = drawn(cell)
    weights = to_weights(cell, params)
    for a, b in zip(leaves(from_weights(cell, weights)), leaves(params), strict=True):
        assert a.dtype == b.dtype and a.flags.c_contiguous
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("use_bias", [True, False])
def test_a_layer_computes_what_keras_writes(use_bias):
    """One step by the formula in Keras' source."""
    rng = np.random.default_rng(1)
    kernel, recurrent, bias = rng.normal(size=(I, H)), rng.normal(size=(H, H)), rng.normal(size=H) * use_bias
    x, h = rng.normal(size=(2, I)), rng.normal(size=(2, H))
    params = from_weights(CELLS["rnn"], [kernel, recurrent, bias] if use_bias else [kernel, recurrent])
    want = np.tanh(x @ kernel + h @ recurrent + bias)
    np.testing.assert_allclose(fb.step(CELLS["rnn"], params, x, fb.RNNState(h)).h, want, rtol=1e-11)


@pytest.mark.parametrize(("make", "message"), [
    (lambda w: w[:1], "^weights: expected 2 kernels, or 3 arrays with the biases, for RNN.*, got 1"),
    (lambda w: None, "^weights: .*got NoneType"),
    (lambda w: [w[0].T, *w[1:]], r"^weights\[0\]: expected \(3, 4\) for RNN"),
    (lambda w: [w[0], w[1].astype(float), w[2]], r"^weights\[1\]: expected float32"),
    (lambda w: [*w[:2], np.zeros((2, 4), np.float32)], r"^weights\[2\]: expected \(4,\)"),
])
def test_refused(make, message):
    cell = CELLS["rnn"]
    with pytest.raises((TypeError, ValueError), match=message):
        from_weights(cell, make(to_weights(cell, drawn(cell))))
