"""Initial values: what each method draws, within the limits that it states."""
from __future__ import annotations

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.cells import init


@pytest.mark.parametrize(("method", "limit"), [("glorot", (6 / (200 + 50)) ** 0.5), ("uniform", 200 ** -0.5)])
def test_inputs_fill_their_interval(method, limit):
    U = fb.RNN(50, 200).init(seed=1, dtype=np.float64, input=method).U
    assert 0.995 * limit < U.max() <= limit and -limit <= U.min() < -0.995 * limit
    assert abs(U.mean()) < 0.02 * limit and abs(U.std() - limit / 3 ** 0.5) < 0.02 * limit


@pytest.mark.parametrize(("method", "limit"), [("glorot", (6 / 400) ** 0.5), ("uniform", 200 ** -0.5)])
def test_recurrent_weights_fill_their_interval(method, limit):
    W = fb.RNN(50, 200).init(seed=1, dtype=np.float64, recurrent=method, gain=3.0).W
    assert 0.995 * limit < np.abs(W).max() / 3 <= limit and abs(W.std() / 3 - limit / 3 ** 0.5) < 0.02 * limit


def test_gates_are_drawn_one_by_one():
    params = fb.GRU(3, 4).init(seed=2, recurrent="identity", gain=0.5)
    assert np.array_equal(params.W.reshape(3, 4, 4), 0.5 * np.stack([np.eye(4, dtype=np.float32)] * 3))
    blocks = params.U.reshape(3, 4, 3)
    assert not any(np.array_equal(blocks[0], other) for other in blocks[1:]) and not params.b_hn.any()
    assert np.abs(params.U).max() <= (6 / 7) ** 0.5


def test_orthogonal_is_uniform_over_the_group():
    """The diagonal of a uniform orthogonal matrix has the mean 0; without the signs of R it leans to one side."""
    rng = np.random.default_rng(0)
    drawn = np.stack([init.orthogonal(rng, 3) for _ in range(2000)])
    np.testing.assert_allclose(drawn @ drawn.transpose(0, 2, 1), np.broadcast_to(np.eye(3), drawn.shape), atol=1e-12)
    assert np.abs(drawn.mean(axis=0)).max() < 0.06


@pytest.mark.parametrize("make_cell", [fb.RNN, fb.GRU, fb.LSTM])
def test_by_default_orthogonal_with_gain_1(make_cell):
    for block in make_cell(3, 8).init(dtype=np.float64).W.reshape(-1, 8, 8):
        np.testing.assert_allclose(block @ block.T, np.eye(8), atol=1e-12)


def test_a_weak_cycle_is_scaled_and_none_is_not():
    lower, cycle = np.tri(3, k=-1), np.array([[0, 1.0], [1e-4, 0]])
    assert np.array_equal(init.with_radius(lower, 2.0), lower)
    assert np.array_equal(init.with_radius(1e-2 * cycle, 2.0), 1e-2 * cycle)
    np.testing.assert_allclose(init.spectral_radius(init.with_radius(cycle, 2.0)), 2.0)


def test_bias_for_dependencies_of_up_to_so_many_steps():
    b = init.memory_bias(np.random.default_rng(0), 4000, 1.0, 100)
    assert np.exp(b).min() >= 1 and 98 < np.exp(b).max() <= 99 and abs(np.exp(b).mean() - 50) < 2
    assert np.array_equal(fb.GRU(3, 9).init(chrono=2).b.reshape(3, 9)[1], np.zeros(9, np.float32))
