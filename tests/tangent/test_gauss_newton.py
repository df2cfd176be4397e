"""Gauss–Newton products: those of automatic differentiation, and of Jacobians written out by finite differences."""
from __future__ import annotations

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.tree import leaves, tree_map

LOSSES = ("squared_error", "sigmoid_cross_entropy", "softmax_cross_entropy")
MODES = ("many_to_many", "many_to_one")


def example(cell, loss, mode, T=5, B=3, O=2, lengths=(5, 2, 4)):  # noqa: E741
    rng = np.random.default_rng(0)
    model = fb.SequenceModel(cell, O, loss, mode)
    params, v = (model.init(seed=seed, dtype=np.float64) for seed in (1, 2))
    shape = (T, B) if mode == "many_to_many" else (B,)
    y = rng.integers(0, O, shape) if loss == LOSSES[2] else rng.random((*shape, O))
    weights = rng.random((T, B))
    return model, params, rng.normal(size=(T, B, cell.input_size)), y, v, {"lengths": lengths, "weights": weights}


def flat(tree):
    return np.concatenate([a.ravel() for a in leaves(tree)])


def by_hand(model, params, x, lengths, weights, v):
    """Σ weight · Jᵀ H J v, with J by central differences of the logits and H by those of the softmax, sigmoid or identity."""
    outputs = fb.SequenceModel(model.cell, model.output_size, "squared_error", model.mode)      # its prediction is z
    base, step = flat(params), 1e-6

    def logits(theta):
        parts = iter(np.split(theta, np.cumsum([a.size for a in leaves(params)])[:-1]))
        return outputs.predict(tree_map(lambda a: next(parts).reshape(a.shape), params), x, lengths)
    J = np.stack([(logits(base + step * e) - logits(base - step * e)) / (2 * step) for e in np.eye(base.size)], axis=-1)
    z, total = logits(base), np.zeros_like(base)
    for place in np.ndindex(z.shape[:-1]):
        t, b = place if len(place) == 2 else (lengths[place[0]] - 1, place[0])
        if t < lengths[b]:
            y = np.exp(z[place]) / np.exp(z[place]).sum() if model.loss_name == LOSSES[2] else 1 / (1 + np.exp(-z[place]))
            H = {LOSSES[0]: np.eye(z.shape[-1]), LOSSES[1]: np.diag(y * (1 - y)), LOSSES[2]: np.diag(y) - np.outer(y, y)}
            total += weights[t, b] * J[place].T @ H[model.loss_name] @ J[place] @ flat(v)
    return total


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("mode", MODES)
def test_product_written_out(loss, mode):
    model, params, x, y, v, options = example(fb.RNN(2, 3), loss, mode)
    want = by_hand(model, params, x, v=v, **options)
    np.testing.assert_allclose(flat(model.gauss_newton(params, x, y, v, **options)), want, rtol=1e-7, atol=1e-8)
    mean = flat(model.gauss_newton(params, x, y, v, reduction="mean", **options))
    np.testing.assert_allclose(mean * (11 if mode == MODES[0] else 3), want, rtol=1e-7, atol=1e-8)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")      # torch.func.jvp's own
def test_same_as_torch():
    torch = pytest.importorskip("torch")
    cell = fb.LSTM(3, 6)
    model, params, x, y, v, options = example(cell, LOSSES[2], MODES[0], O=4, lengths=(5, 5, 5))
    module = torch.nn.LSTM(3, 6).double()

    def tensors(p):
        own = {key: torch.tensor(a) for key, a in fb.interop.torch.to_state_dict(cell, p.cell).items()}
        return own, torch.tensor(p.readout.V), torch.tensor(p.readout.c)

    def logits(own, V, c):
        return torch.func.functional_call(module, own, (torch.tensor(x),))[0] @ V.T + c
    z, dz = torch.func.jvp(logits, tensors(params), tensors(v))
    p = torch.softmax(z, dim=-1)
    errors = torch.tensor(options["weights"])[..., None] * p * (dz - (p * dz).sum(dim=-1, keepdim=True))
    own, V, c = torch.func.vjp(logits, *tensors(params))[1](errors)
    got = model.gauss_newton(params, x, y, v, **options)
    np.testing.assert_allclose(got.cell.W, own["weight_hh_l0"].numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got.cell.b, own["bias_ih_l0"].numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got.readout.V, V.numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got.readout.c, c.numpy(), rtol=1e-9, atol=1e-12)


def test_symmetric_and_positive_for_a_stack_with_dropout_and_ids():
    stack = fb.Stack([fb.RNN(5, 4), fb.RNN(4, 3)], dropout=0.4)
    model = fb.SequenceModel(stack, 4)
    params, v, w = (model.init(seed=seed, dtype=np.float64) for seed in range(3))
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (6, 3)), rng.integers(0, 4, (6, 3))
    Gv, Gw = (flat(model.gauss_newton(params, x, y, d, seed=7)) for d in (v, w))
    assert flat(w) @ Gv == pytest.approx(flat(v) @ Gw, rel=1e-12)
    assert flat(v) @ Gv > 0
    assert not np.allclose(Gv, flat(model.gauss_newton(params, x, y, v, seed=8)))


@pytest.mark.parametrize(("changes", "message"), [
    ({"v": None}, "v: expected ModelParams"),
    ({"v": fb.SequenceModel(fb.RNN(2, 4), 2).init(dtype=np.float64)}, "v.cell.U: expected"),
    ({"v": fb.SequenceModel(fb.RNN(2, 3), 2).init()}, "v: expected float64 like the parameters, got float32"),
    ({"v": fb.SequenceModel(fb.RNN(2, 3), 5).init(dtype=np.float64)}, "v.readout.V: expected"),
    ({"y": None}, "y: "), ({"x": None}, "x: "), ({"params": None}, "params: expected ModelParams"),
    ({"reduction": "max"}, "reduction: expected one of"), ({"seed": 3}, "seed: expected None"),
])
def test_refused(changes, message):
    model, params, x, y, v, options = example(fb.RNN(2, 3), LOSSES[0], MODES[0])
    with pytest.raises((TypeError, ValueError), match=message):
        model.gauss_newton(**{"params": params, "x": x, "y": y, "v": v, **options, **changes})
