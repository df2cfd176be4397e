"""The report on networks whose answer is known."""
from __future__ import annotations

import numpy as np
import pytest

import fastbptt as fb


def report(cell, params, T=30, B=2, lengths=None):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(T, B, cell.input_size))
    tape = fb.forward(cell, params, x, lengths=lengths)
    return fb.gradient_flow(cell, params, tape, rng.normal(size=tape.h.shape)), tape


def chain(w):
    cell = fb.RNN(1, 1, "identity")
    return cell, fb.RNNParams(np.ones((1, 1)), np.array([[w]]), np.zeros(1))


def scaled(activation, gain, bias=0.0):
    cell = fb.RNN(3, 16, activation)
    params = cell.init(seed=0, dtype=np.float64, gain=gain)
    return cell, params._replace(b=params.b + bias)


@pytest.mark.parametrize(("network", "verdict"), [
    (chain(0.5), "vanishing"), (chain(1.5), "exploding"), (chain(1.0), "stable"), (scaled("identity", 1.0), "stable"),
    (scaled("tanh", 0.4), "vanishing"), (scaled("relu", 3.0, 0.5), "exploding"),
], ids=["0.5", "1.5", "1", "orthogonal", "contracting", "relu"])
def test_verdicts(network, verdict):
    found, _ = report(*network)
    assert found.verdict == verdict
    assert bool(found.remedies) == (verdict != "stable") and verdict in str(found)


def test_forget_bias_keeps_an_lstm_stable():
    cell = fb.LSTM(3, 8)
    assert report(cell, cell.init(dtype=np.float64, forget_bias=-2.0))[0].verdict == "vanishing"
    assert report(cell, cell.init(dtype=np.float64, forget_bias=8.0))[0].verdict == "stable"


def test_growth_of_a_chain_is_exact_and_bounded():
    found, _ = report(*chain(0.5))
    np.testing.assert_allclose(found.exponents, np.log(0.5), rtol=1e-12)
    assert found.jacobian_norm == found.bound == found.spectral_radius == 0.5
    assert found.by_lag.W.shape == (30,) and found.by_lag.W[-1] == 0 and (found.by_lag.W[:-1] > 0).all()


def test_verdict_has_the_sign_of_the_leading_exponent():
    rng = np.random.default_rng(3)
    for seed in range(100):
        cell = fb.RNN(2, 6, "tanh")
        params = cell.init(seed=seed, dtype=np.float64, recurrent="glorot", gain=float(rng.uniform(0.2, 4.0)))
        found, tape = report(cell, params, T=40, B=1)
        leading = fb.lyapunov_spectrum(cell, params, tape.batch.x, 1)[0, 0]
        if found.verdict != "stable":
            assert (found.verdict == "exploding") == (found.exponents[0] > 0)
            assert abs(found.exponents[0] - leading) < 0.3
        assert found.jacobian_norm <= found.bound + 1e-12


def test_lengths_dead_and_saturated_units():
    cell = fb.RNN(1, 2, "relu")
    params = fb.RNNParams(np.zeros((2, 1)), 0.5 * np.eye(2), np.array([1.0, -1.0]))
    found, _ = report(cell, params, lengths=np.array([30, 4]))
    assert found.dead.tolist() == [False, True] and any("leaky_relu" in text for text in found.remedies)
    cell = fb.RNN(1, 2)
    found, _ = report(cell, fb.RNNParams(np.zeros((2, 1)), np.zeros((2, 2)), np.array([9.0, 0.1])))
    assert found.saturated.tolist() == [True, False]
