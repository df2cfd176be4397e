"""Weights of Keras layers: gates and biases where they belong, bit for bit there and back. Keras is not needed."""
from __future__ import annotations

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.interop.keras import from_weights, to_weights
from fastbptt.tree import leaves

I, H = 3, 4     # noqa: E741
CELLS = {"rnn": fb.RNN(I, H), "gru after": fb.GRU(I, H), "gru before": fb.GRU(I, H, "before"), "lstm": fb.LSTM(I, H),
         "stack": fb.Stack([fb.LSTM(I, H), fb.LSTM(H, H)]), "both": fb.Stack([fb.GRU(I, H), fb.GRU(2 * H, H)], True)}


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


def sig(v):
    return 1 / (1 + np.exp(-v))


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("name", ["rnn", "gru after", "gru before", "lstm"])
def test_layers_compute_what_keras_writes(name, use_bias):
    """One step by the formulas in Keras' source; gates z r h and i f c o."""
    cell, rng = CELLS[name], np.random.default_rng(1)
    width = cell.gates * H
    kernel, recurrent = rng.normal(size=(I, width)), rng.normal(size=(H, width))
    bias = rng.normal(size=(2, width) if name == "gru after" else width) * use_bias
    x, h, c = rng.normal(size=(2, I)), rng.normal(size=(2, H)), rng.normal(size=(2, H))
    state = fb.LSTMState(h, c) if name == "lstm" else cell.state_type(h)
    if name == "rnn":
        want = np.tanh(x @ kernel + h @ recurrent + bias)
    elif name == "lstm":
        i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4, axis=1)
        want = sig(o) * np.tanh(sig(f) * c + sig(i) * np.tanh(g))
    else:
        on_input, on_state = bias if name == "gru after" else (bias, 0 * bias)
        xz, xr, xh = np.split(x @ kernel + on_input, 3, axis=1)
        hz, hr, hh = np.split(h @ recurrent + on_state, 3, axis=1)
        z, r = sig(xz + hz), sig(xr + hr)
        n = np.tanh(xh + (r * hh if name == "gru after" else (r * h) @ recurrent[:, 2 * H:]))
        want = z * h + (1 - z) * n
    params = from_weights(cell, [kernel, recurrent, bias] if use_bias else [kernel, recurrent])
    np.testing.assert_allclose(fb.step(cell, params, x, state).h, want, rtol=1e-11)


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


def test_parameters_without_a_place_in_keras_are_named():
    cell = fb.LSTM(I, H, peephole=True)
    with pytest.raises(ValueError, match="^cell: expected parameters among U, W, b, b_hn, got P in LSTM"):
        from_weights(cell, [])


@pytest.mark.parametrize("options", [{"leak": 0.5}, {"mask": np.eye(H)}, {"signs": np.ones(H)}, {"activation": "leaky_relu"}],
                         ids=lambda options: next(iter(options)))
def test_cells_that_no_layer_computes_are_refused_both_ways(options):
    """Keras' leaky_relu has the slope 0.2."""
    cell = fb.RNN(I, H, **options)
    for part in (cell, fb.Stack([fb.RNN(I, I), cell])):
        for call in (lambda c: to_weights(c, drawn(c)), lambda c: from_weights(c, [])):
            with pytest.raises(ValueError, match=f"^cell: expected {next(iter(options))}=.*Keras has no layer that computes it"):
                call(part)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "identity"])
def test_activations_that_a_layer_has(activation):
    cell = fb.RNN(I, H, activation)
    assert len(to_weights(cell, drawn(cell))) == 3
