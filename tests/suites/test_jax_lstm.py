"""jax.experimental.rnn.lstm_ref: lengths, two layers, two directions; outputs, final states and all gradients."""
from __future__ import annotations

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.interop.torch import from_hidden, from_state_dict, to_hidden, to_state_dict

jax = pytest.importorskip("jax")
pytest.importorskip("jax.experimental.rnn")
jnp = jax.numpy

T, B, I, H = 7, 4, 3, 5     # noqa: E741
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lstm_ref(layers, bidirectional, dtype):
    """lstm_ref knows one gradient that differs: past the lengths its outputs are 0, ours are not read."""
    ways = 1 + bidirectional
    rng = np.random.default_rng(layers)
    cells = [fb.LSTM(I if i == 0 else H * ways, H) for i in range(layers)]
    cell = fb.Stack(cells, bidirectional)
    shapes = {name: shape for name, shape in zip(*shapes_of(cells, ways), strict=True)}
    weights = {name: (rng.normal(size=shape) / 2).astype(dtype) for name, shape in shapes.items()}
    params = from_state_dict(cell, weights)
    x = rng.normal(size=(B, T, I)).astype(dtype)
    hidden = tuple(rng.normal(size=(layers * ways, B, H)).astype(dtype) for _ in range(2))
    lengths = np.array([7, 3, 1, 5], np.int32)
    errors = [rng.normal(size=shape).astype(dtype) for shape in ((B, T, H * ways), hidden[0].shape, hidden[0].shape)]
    errors[0] *= (np.arange(T) < lengths[:, None])[..., None]

    with jax.enable_x64(dtype == "float64"):
        def run(x, h, c, weights):
            by_kind = [{i: weights[name + ending] for i, ending in enumerate(endings(layers, ways))} for name in NAMES]
            return jax.experimental.rnn.lstm_ref(x, h, c, *by_kind, jnp.asarray(lengths), I, H, layers, 0.0, bidirectional)
        wanted, back = jax.vjp(run, x, *hidden, weights)
        dx, dh, dc, dweights = back(tuple(map(jnp.asarray, errors)))

    tape = fb.forward(cell, params, np.ascontiguousarray(np.swapaxes(x, 0, 1)), from_hidden(cell, hidden), lengths)
    dfinal = from_hidden(cell, tuple(errors[1:]))
    grads = fb.backward(cell, params, tape, np.ascontiguousarray(np.swapaxes(errors[0], 0, 1)), dfinal=dfinal)
    valid = (np.arange(T)[:, None] < lengths)[..., None]
    pairs = [(np.where(valid, tape.h, 0).swapaxes(0, 1), wanted[0]), *zip(to_hidden(cell, tape.final), wanted[1:], strict=True),
             (grads.x.swapaxes(0, 1), dx), *zip(to_hidden(cell, grads.state), (dh, dc), strict=True)]
    pairs += [(got, dweights[name]) for name, got in to_state_dict(cell, grads.params).items() if "bias_hh" not in name]
    tolerance = 1e-11 if dtype == "float64" else 2e-5
    for got, want in pairs:
        np.testing.assert_allclose(got, np.asarray(want), rtol=tolerance, atol=tolerance)


def endings(layers, ways):
    return [f"_l{i}{way}" for i in range(layers) for way in ("", "_reverse")[:ways]]


def shapes_of(cells, ways):
    """Names and shapes of the weights, by PyTorch's names."""
    names = [name + ending for ending in endings(len(cells), ways) for name in NAMES]
    shapes = [shape for cell in cells for _ in range(ways)
              for shape in ((4 * H, cell.input_size), (4 * H, H), (4 * H,), (4 * H,))]
    return names, shapes
