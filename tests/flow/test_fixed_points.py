"""Fixed points: a step from them leads back to them, and those that can be worked out by hand are found."""
from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.tree import leaves

CELLS = {
    "rnn": fb.RNN, "leaky": lambda inputs, H: fb.RNN(inputs, H, "sigmoid", leak=0.3, mask=1 - np.eye(H)),
    "gru_after": fb.GRU, "gru_before": partial(fb.GRU, reset="before"), "lstm": fb.LSTM,
    "lstm_peephole": partial(fb.LSTM, peephole=True),
    "stack": lambda inputs, H: fb.Stack([fb.GRU(inputs, H), fb.LSTM(H, 4)]),
}


def problem(name, gain=0.7, starts=40, dtype=np.float64):
    rng = np.random.default_rng(4)
    cell = CELLS[name](3, 6)
    params = cell.params_of({key: (gain * rng.normal(size=shape) / (shape[-1] if len(shape) > 1 else 60) ** 0.5).astype(dtype)
                             for key, shape in cell.shapes.items()})
    states = cell.per_layer(own.state_type(*[0.5 * rng.normal(size=(starts, own.hidden_size)).astype(dtype)
                                             for _ in own.state_type._fields]) for own in cell.scans)
    return cell, params, rng.normal(size=3).astype(dtype), states


@pytest.mark.parametrize("name", CELLS)
def test_a_step_from_a_fixed_point_leads_back(name):
    cell, params, x, states = problem(name)
    found = fb.fixed_points(cell, params, x, states)
    n, S = found.eigenvalues.shape
    assert n >= 1 and found.fixed.any() and found.counts.sum() <= 40 and (np.diff(found.speeds) >= 0).all()
    tape = fb.forward(cell, params, np.broadcast_to(x, (1, n, 3)), found.states)
    before, after = (np.concatenate(list(leaves(s)), axis=1) for s in (found.states, tape.final))
    assert np.abs(after - before)[found.fixed].max() <= 1e-9
    np.testing.assert_allclose(0.5 * ((after - before) ** 2).sum(axis=1), found.speeds, rtol=1e-6, atol=1e-24)
    assert np.array_equal(found.fixed, found.speeds <= 1e-20)
    J = fb.jacobians(cell, params, tape)[0]
    np.testing.assert_allclose(found.jacobians, J, rtol=1e-12, atol=1e-14)
    moduli = np.abs(found.eigenvalues)
    assert (np.diff(moduli, axis=1) <= 1e-12).all() and np.array_equal(found.stable, moduli[:, 0] < 1)
    np.testing.assert_allclose(found.eigenvalues.prod(axis=1), np.linalg.det(J), rtol=1e-6, atol=1e-12)
    distances = np.linalg.norm(before[:, None] - before[None], axis=2) + np.eye(n)
    assert distances.min() > 1e-4


def scalar(w, b=0.0, **options):
    return fb.RNN(1, 1, **options), fb.RNNParams(np.ones((1, 1)), np.full((1, 1), w), np.full(1, b))


def state(*h):
    return fb.RNNState(np.array(h)[:, None])


def test_where_they_are_on_paper():
    # h = tanh(2 h) has three solutions; at 0 the slope is 2, at the others 2 (1 - h²).
    found = fb.fixed_points(*scalar(2.0), np.zeros(1), state(-2.0, -1.5, -0.1, 0.1, 2.0))
    assert found.fixed.all() and sorted(found.counts.tolist()) == [1, 2, 2]
    h = found.states.h[:, 0]
    np.testing.assert_allclose(np.sort(h), [-0.9575040240772687, 0, 0.9575040240772687], atol=1e-10)
    np.testing.assert_allclose(found.eigenvalues[:, 0].real, 2 * (1 - h**2), atol=1e-9)
    assert np.array_equal(found.stable, np.abs(h) > 0.5)


def test_the_input_moves_them():
    cell, params = scalar(0.5, activation="identity")
    assert fb.fixed_points(cell, params, np.ones(1), state(0.0)).states.h[0, 0] == pytest.approx(2)
    assert fb.fixed_points(cell, params, 0, state(0.0)).states.h[0, 0] == pytest.approx(2)      # an id: its column of U


def test_a_slow_point_is_a_minimum_of_the_speed():
    # tanh(2 h + 0.6) - h has a minimum without a zero near h = -0.65: where the slope of the step is 1.
    found = fb.fixed_points(*scalar(2.0, 0.6), np.zeros(1), state(-0.8, -0.7, -0.6))
    assert found.fixed.sum() <= 1 and (~found.fixed).sum() == 1
    slow = np.flatnonzero(~found.fixed)[0]
    h = found.states.h[slow, 0]
    assert found.jacobians[slow, 0, 0] == pytest.approx(1, abs=1e-3)
    assert h == pytest.approx(-0.3 - np.arctanh(0.5**0.5) / 2, abs=1e-3)
    assert found.speeds[slow] == pytest.approx(0.5 * (np.tanh(2 * h + 0.6) - h) ** 2)


def test_a_line_of_fixed_points_is_kept_apart_by_distance():
    cell, params = scalar(1.0, activation="identity")      # every state is one
    starts = state(*np.arange(5.0))
    assert len(fb.fixed_points(cell, params, np.zeros(1), starts).speeds) == 5
    few = fb.fixed_points(cell, params, np.zeros(1), starts, distance=0.8)
    assert len(few.speeds) < 5 and few.counts.sum() == 5


def test_float32_parameters_are_searched_in_float64():
    cell, params, x, states = problem("rnn", dtype=np.float32)
    found = fb.fixed_points(cell, params, x, states)
    assert found.states.h.dtype == np.float64 and found.fixed.any()


def test_a_start_that_comes_to_no_point_is_left_out():
    cell, params = scalar(1.0, 1.0, activation="identity")      # h + 1: no minimum of the speed is isolated, all are slow
    assert fb.fixed_points(cell, params, np.zeros(1), state(0.0)).fixed.sum() == 0
    cell, params, x, states = problem("rnn")
    assert fb.fixed_points(cell, params, x, states, steps=1).counts.sum() < 40


CELL = fb.RNN(3, 4)
PARAMS, STATES, ONE = CELL.init(dtype=np.float64), fb.RNNState(np.zeros((5, 4))), np.zeros(3)


@pytest.mark.parametrize(("changes", "message"), [
    ({"x": np.zeros((5, 3))}, r"x: expected \(3,\) for RNN"), ({"x": ONE.astype(np.float32)}, "x: expected float64"),
    ({"x": None}, r"x: expected \(3,\) for RNN.* or an integer id, got None"), ({"x": 3}, "x: expected an id in 0 … 2"),
    ({"x": -1}, "x: expected an id in 0 … 2"), ({"x": ONE > 0}, "x: .*bool"), ({"x": 1.5}, r"x: expected \(3,\)"),
    ({"states": None}, "states: expected a State"), ({"states": np.zeros((5, 4))}, "states: expected RNNState"),
    ({"states": fb.RNNState(np.zeros((5, 3)))}, r"states.h: expected \(5, 4\)"),
    ({"states": fb.RNNState(np.zeros((0, 4)))}, "states.h"),
    ({"states": fb.RNNState(np.full((5, 4), np.nan))}, "states: expected finite numbers"),
    ({"states": fb.RNNState(None)}, "states.h"),
    ({"tol": 0}, "tol: expected a number above 0"), ({"tol": "small"}, "tol: "), ({"distance": -1}, "distance: "),
    ({"steps": 0}, "steps: expected an integer of at least 1"), ({"steps": 1.5}, "steps: "),
    ({"params": tuple(PARAMS)}, "params: expected RNNParams"),
])
def test_refused(changes, message):
    arguments = {"cell": CELL, "params": PARAMS, "x": ONE, "states": STATES, **changes}
    with pytest.raises((TypeError, ValueError), match=message):
        fb.fixed_points(**arguments)


def test_two_directions_are_refused():
    stack = fb.Stack([CELL], bidirectional=True)
    with pytest.raises(ValueError, match="cell: expected one direction for fixed points"):
        fb.fixed_points(stack, stack.init(dtype=np.float64), ONE, (fb.Directions(STATES, STATES),))
