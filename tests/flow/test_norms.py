"""Norms against SVD, the bound, and Lyapunov exponents against the reference and known spectra."""
from __future__ import annotations

import numpy as np
import pytest

import fastbptt as fb
from fastbptt import reference as ref
from fastbptt.flow.lyapunov import first_directions
from fastbptt.flow.stack import StackSteps

T, B = 12, 2
CELLS = [fb.RNN(3, 12), fb.RNN(3, 12, "sigmoid", leak=0.4), fb.GRU(3, 12), fb.LSTM(3, 6)]


def example(cell, **batch):
    rng = np.random.default_rng(2)
    params = cell.params_type(*[rng.normal(size=shape) * 0.5 for shape in cell.shapes.values()])
    return params, fb.forward(cell, params, rng.normal(size=(T, B, 3)), **batch)


@pytest.mark.parametrize("cell", CELLS, ids=repr)
@pytest.mark.parametrize("lag", [1, 5, T])
def test_norms_against_svd(cell, lag):
    params, tape = example(cell, lengths=[T, T - 4])
    J = ref.jacobian_product
    steps = fb.jacobians(cell, params, tape)
    norms = fb.jacobian_norms(cell, params, tape, lag)
    np.testing.assert_allclose(norms.steps, np.linalg.norm(steps, 2, axis=(2, 3)), rtol=1e-9)
    want = np.stack([np.linalg.norm(J(steps, t, t + lag), 2, axis=(1, 2)) for t in range(T - lag + 1)])
    np.testing.assert_allclose(norms.products, want, rtol=1e-9)
    assert (norms.products <= norms.bound * (1 + 1e-9)).all()
    if isinstance(cell, fb.RNN):
        assert norms.bound[0, 0] == pytest.approx(ref.norm_bound(params.W, cell.activation, lag, cell.leak))
    else:
        np.testing.assert_allclose(norms.bound[0], ref.measured_bound(steps, 0, lag))


def test_norms_of_equal_singular_values_and_of_vanished_products():
    cell = fb.RNN(1, 20, "identity")
    params = cell.init(seed=0, dtype=np.float64)
    x = np.zeros((300, 1, 1))
    tape = fb.forward(cell, params, x)
    np.testing.assert_allclose(fb.jacobian_norms(cell, params, tape, 100).products, 1, rtol=1e-12)
    small = params._replace(W=0.1 * params.W)
    tape = fb.forward(cell, small, x)
    np.testing.assert_allclose(fb.jacobian_norms(cell, small, tape, 150).products, 1e-150, rtol=1e-9)


@pytest.mark.parametrize("cell", CELLS, ids=repr)
@pytest.mark.parametrize("k, transient", [(None, 0), (3, 5)])
def test_lyapunov_against_a_separate_qr(cell, k, transient):
    params, tape = example(cell)
    J = fb.jacobians(cell, params, tape)
    S = J.shape[-1]
    want = ref.lyapunov(J, k, transient, first_directions(k or S, S).T)
    got = fb.lyapunov_spectrum(cell, params, tape.batch.x, k, transient=transient)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
    if k is None:
        determinants = np.linalg.slogdet(fb.jacobians(cell, params, tape))[1]
        np.testing.assert_allclose(got.sum(axis=1), determinants.mean(axis=0), rtol=1e-9)


def test_lyapunov_of_a_long_trajectory_agrees_with_qr_at_every_step():
    cell = fb.RNN(3, 16)
    rng = np.random.default_rng(0)
    params = cell.init(seed=0, dtype=np.float64, gain=1.5)
    x = rng.normal(size=(400, 1, 3))
    state = fb.RNNState(rng.normal(size=(1, 16)))
    J = fb.jacobians(cell, params, fb.forward(cell, params, x, state))
    np.testing.assert_allclose(fb.lyapunov_spectrum(cell, params, x, state=state), ref.lyapunov(J), atol=1e-6)


def test_lyapunov_takes_stretches_of_many_steps_together(monkeypatch):
    """As long as rounding allows, so that a few products do for hundreds of steps."""
    calls = []
    jvp = StackSteps.jvp
    monkeypatch.setattr(StackSteps, "jvp", lambda *args: calls.append(1) or jvp(*args))
    cell = fb.RNN(3, 8)
    params, x = cell.init(seed=0, dtype=np.float64), np.random.default_rng(0).normal(size=(601, 1, 3))
    fb.lyapunov_spectrum(cell, params, x)
    assert len(calls) < 200
    calls.clear()
    _, means = fb.lyapunov_spectrum(cell, params, x, convergence=True)
    assert len(calls) == len(means) == 601


def test_singular_directions_are_minus_infinity():
    cell = fb.RNN(1, 3, "identity")
    params = fb.RNNParams(np.ones((3, 1)), np.diag([2.0, 0.5, 0.0]), np.zeros(3))
    got = fb.lyapunov_spectrum(cell, params, np.zeros((30, 1, 1)))
    np.testing.assert_allclose(got, [[np.log(2), np.log(0.5), -np.inf]])


def test_bad_input_is_one_clear_error():
    cell = fb.RNN(3, 12)
    params, tape = example(cell)
    x = tape.batch.x
    with pytest.raises(ValueError, match="lag: expected an integer in 1 … 12, got 13"):
        fb.jacobian_norms(cell, params, tape, 13)
    with pytest.raises(ValueError, match="k: expected an integer in 1 … 12, got 13"):
        fb.lyapunov_spectrum(cell, params, x, 13)
    with pytest.raises(ValueError, match="transient: expected fewer steps than the T = 12"):
        fb.lyapunov_spectrum(cell, params, x, transient=12)
    both = fb.Stack([cell], bidirectional=True)
    with pytest.raises(ValueError, match="cell: expected one direction for Lyapunov exponents"):
        fb.lyapunov_spectrum(both, both.init(), x)


@pytest.mark.parametrize("k", [2, 8])
def test_lyapunov_after_every_step(k):
    cell = fb.RNN(2, 8)
    params = cell.init(seed=0, dtype=np.float64, gain=1.2)
    x = np.random.default_rng(0).normal(size=(60, 3, 2))
    spectrum, means = fb.lyapunov_spectrum(cell, params, x, k, transient=10, convergence=True)
    assert means.shape == (50, 3, k)
    np.testing.assert_array_equal(means[-1], spectrum)
    np.testing.assert_allclose(spectrum, fb.lyapunov_spectrum(cell, params, x, k, transient=10), atol=1e-9)
    J = fb.jacobians(cell, params, fb.forward(cell, params, x))
    one_step = ref.lyapunov(J[:11], k, 10, first_directions(k, 8).T)
    np.testing.assert_allclose(np.sort(means[0]), np.sort(one_step), atol=1e-9)
    with pytest.raises(TypeError, match="convergence: expected True or False"):
        fb.lyapunov_spectrum(cell, params, x, convergence=1)


def test_few_exponents_are_the_leading_ones_where_units_are_apart():
    cell = fb.RNN(1, 2, "identity")
    params = fb.RNNParams(np.ones((2, 1)), np.diag([0.5, 1.5]), np.zeros(2))
    np.testing.assert_allclose(fb.lyapunov_spectrum(cell, params, np.zeros((60, 1, 1)), 1, transient=20), [[np.log(1.5)]])
