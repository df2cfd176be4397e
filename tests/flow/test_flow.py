"""Jacobians, lags, steps and exponents of every cell against the plain oracle, PyTorch and their own sums."""
from __future__ import annotations

import numpy as np
import pytest

import fastbptt as fb
from fastbptt import reference as ref

CELLS = {"rnn": fb.RNN(3, 7, "sigmoid", leak=0.4), "gru_after": fb.GRU(3, 7), "gru_before": fb.GRU(3, 7, "before"),
         "lstm": fb.LSTM(3, 7), "lstm_peephole": fb.LSTM(3, 7, peephole=True)}


def make(name, T=9, B=4, ragged=True, seed=0):
    cell, rng = CELLS[name], np.random.default_rng(seed)
    params = cell.params_type(*[rng.normal(size=s) / s[-1] ** 0.5 for s in cell.shapes.values()])
    state = cell.state_type(*[rng.normal(size=(B, 7)) for _ in cell.state_type._fields])
    x, dh = rng.normal(size=(T, B, 3)), rng.normal(size=(T, B, 7))
    lengths, resets = (np.array([9, 4, 1, 7]), rng.random((T, B)) < 0.15) if ragged else (None, None)
    options = {"activation": "sigmoid", "leak": 0.4} if name == "rnn" else {}
    tape = fb.forward(cell, params, x, state, lengths, resets=resets)
    return cell, params, tape, dh, ref.forward(name, params, x, state, lengths, resets, **options)


@pytest.mark.parametrize("name", CELLS)
def test_jacobians_and_their_products(name):
    cell, params, tape, _, want = make(name)
    J, wanted = fb.jacobians(cell, params, tape), ref.jacobians(want)
    np.testing.assert_allclose(J, wanted, rtol=1e-10, atol=1e-12)
    product = ref.jacobian_product(wanted, 2, 8)
    np.testing.assert_allclose(fb.jacobian_product(cell, params, tape, 2, 8), product, rtol=1e-9, atol=1e-12)
    v = np.random.default_rng(1).normal(size=(4, J.shape[-1]))
    right, left = fb.jacobian_vector(cell, params, tape, v, 2, 8), fb.vector_jacobian(cell, params, tape, v, 2, 8)
    np.testing.assert_allclose(right, np.einsum("bij,bj->bi", product, v), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(left, np.einsum("bi,bij->bj", v, product), rtol=1e-9, atol=1e-12)
    assert np.array_equal(fb.jacobian_product(cell, params, tape, 3, 3)[0], np.eye(J.shape[-1]))


@pytest.mark.parametrize("name", CELLS)
def test_lags_add_up_and_equal_the_oracle(name):
    cell, params, tape, dh, want = make(name)
    lags, wanted = fb.lag_gradients(cell, params, tape, dh, 9), ref.lag_gradients(want, dh, 9)[0]
    full, window = fb.backward(cell, params, tape, dh).params, fb.backward(cell, params, tape, dh, fb.Truncation(3)).params
    norms = fb.lag_norms(cell, params, tape, dh, 9)
    for field in params._fields:
        got = getattr(lags, field)
        np.testing.assert_allclose(got, wanted[field], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(got.sum(axis=0), getattr(full, field), rtol=1e-10, atol=1e-11)
        np.testing.assert_allclose(got[:3].sum(axis=0), getattr(window, field), rtol=1e-10, atol=1e-11)
        np.testing.assert_allclose(getattr(norms, field), np.sqrt((got**2).reshape(9, -1).sum(axis=1)), rtol=1e-12)


@pytest.mark.parametrize("name", CELLS)
def test_step_gradients(name):
    cell, params, tape, dh, want = make(name)
    found, (errors, parts) = fb.step_gradients(cell, params, tape, dh), ref.step_gradients(want, dh)
    valid = np.arange(9)[:, None] < tape.batch.lengths
    got = np.concatenate(found.states, axis=2)
    np.testing.assert_allclose(got, np.where(valid[..., None], errors, 0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.norms, np.linalg.norm(parts[0]["W"].sum(axis=1), axis=(1, 2)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CELLS)
def test_exponents(name):
    cell, params, tape, _, want = make(name, T=60, ragged=False)
    x, state = tape.batch.x, tape.initial
    J = ref.jacobians(want)
    found = fb.lyapunov_spectrum(cell, params, x, state=state)
    np.testing.assert_allclose(found, ref.lyapunov(J), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.sum(axis=1), np.linalg.slogdet(J)[1].mean(axis=0), rtol=1e-8)
    np.testing.assert_allclose(fb.lyapunov_spectrum(cell, params, x, 2, transient=20, state=state), ref.lyapunov(J, 2, 20),
                               rtol=1e-6, atol=1e-9)


def test_jacobians_equal_autograd():
    torch = pytest.importorskip("torch")
    cell, params, tape, *_ = make("lstm", ragged=False)
    J = fb.jacobians(cell, params, tape)
    module = torch.nn.LSTM(3, 7, dtype=torch.float64)
    module.load_state_dict({k: torch.tensor(v) for k, v in fb.interop.torch.to_state_dict(cell, params).items()})
    x, before = torch.tensor(tape.batch.x[4:5, 1:2]), torch.tensor(np.concatenate([tape.h[3, 1], tape.c[3, 1]]))

    def step(state):
        _, (h, c) = module(x, (state[:7].reshape(1, 1, 7), state[7:].reshape(1, 1, 7)))
        return torch.cat([h.ravel(), c.ravel()])

    np.testing.assert_allclose(J[4, 1], torch.autograd.functional.jacobian(step, before).numpy(), rtol=1e-9, atol=1e-12)


def test_singular_directions_have_minus_infinity():
    cell = fb.RNN(1, 3, "relu")
    params = fb.RNNParams(np.zeros((3, 1)), np.eye(3), np.array([1.0, -1.0, 1.0]))
    found = fb.lyapunov_spectrum(cell, params, np.zeros((5, 1, 1)))
    np.testing.assert_allclose(found, [[0, 0, -np.inf]])


def test_suggested_horizon_is_the_smallest():
    cell, params, tape, dh, _ = make("gru_after", T=9, ragged=False)
    full = fb.backward(cell, params, tape, dh).params

    def error(h):
        found = fb.backward(cell, params, tape, dh, fb.Truncation(h)).params
        return max(np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(found, full, strict=True))

    for tolerance in (0.5, 0.1, 0.01, 1e-14):
        h = fb.suggest_horizon(cell, params, tape, dh, tolerance)
        assert h == 9 or error(h) <= tolerance
        assert all(error(shorter) > tolerance for shorter in range(1, h))


def test_ids_and_nan_in_the_padding():
    cell = fb.GRU(5, 6)
    params = cell.init(dtype=np.float64)
    ids, lengths = np.random.default_rng(0).integers(0, 5, size=(7, 2)), np.array([7, 3])
    tape = fb.forward(cell, params, ids, lengths=lengths)
    dh = np.ones((7, 2, 6))
    dh[3:, 1] = np.nan
    lags = fb.lag_gradients(cell, params, tape, dh, 7)
    np.testing.assert_allclose(lags.U.sum(axis=0), fb.backward(cell, params, tape, dh).params.U, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("call", "message"), [
    (lambda c, p, t, d: fb.lag_gradients(c, p, t, d, 10), "max_lag: expected 1 … 9, the steps of the tape, got 10"),
    (lambda c, p, t, d: fb.lag_gradients(c, p, t, d, 0), "max_lag: expected an integer of at least 1"),
    (lambda c, p, t, d: fb.jacobian_product(c, p, t, 3, 10), "stop: expected 3 … 9, got 10"),
    (lambda c, p, t, d: fb.jacobian_product(c, p, t, -1, 2), "start: expected an integer of at least 0"),
    (lambda c, p, t, d: fb.lyapunov_spectrum(c, p, t.batch.x, 8), "k: expected 1 … 7"),
    (lambda c, p, t, d: fb.lyapunov_spectrum(c, p, t.batch.x, transient=9), "transient: expected 0 … 8"),
    (lambda c, p, t, d: fb.suggest_horizon(c, p, t, d, 1.5), "tolerance"),
    (lambda c, p, t, d: fb.vector_jacobian(c, p, t, np.ones((4, 6)), 0, 1), "v: expected"),
    (lambda c, p, t, d: fb.jacobians(fb.Stack([c]), (p,), fb.forward(fb.Stack([c]), (p,), t.batch.x)), "cell: expected a single"),
])
def test_refused(call, message):
    cell, params, tape, dh, _ = make("gru_after")
    with pytest.raises((TypeError, ValueError), match=message):
        call(cell, params, tape, dh)
