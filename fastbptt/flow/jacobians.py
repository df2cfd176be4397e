"""Step Jacobians ∂state_t/∂state_{t−1}, their products, and products with vectors that form no Jacobian."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import check_array, check_span
from .stack import linear_steps


def jacobians(cell: Any, params: Any, tape: Any) -> Array:
    """All step Jacobians of a tape: entry t is ∂state_{t+1}/∂state_t, analytic.

    RNN: diag(σ′(a_t)) W, with a leak (1−α) + α diag(σ′(a_t)) W. The identity at padded steps, 0 where a reset begins the step.

    Parameters
    ----------
    cell, params
        As given to `forward`. For a stack in one direction, the Jacobians are those of the joint state, first layer first.
    tape : Tape
        From `forward`.

    Returns
    -------
    (T, B, S, S)
        S = H; 2H over the pair (h, c) for the LSTM; the sum over the layers of a stack.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or dtype, the tape holds NaN or Inf, or the stack has two directions.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=1, hidden_size=1, activation="identity")
    >>> params = fb.RNNParams(np.ones((1, 1)), np.full((1, 1), 0.5), np.zeros(1))
    >>> tape = fb.forward(cell, params, np.zeros((10, 1, 1)))
    >>> fb.jacobians(cell, params, tape)[0, 0]
    array([[0.5]])

    References
    ----------
    R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.
    """
    return linear_steps(cell, params, tape).jacobians()


def jacobian_product(cell: Any, params: Any, tape: Any, start: int, stop: int) -> Array:
    """∂state_stop/∂state_start = J_stop … J_{start+1}, for every sequence.

    Parameters
    ----------
    cell, params, tape
        As for `jacobians`.
    start, stop : int
        States, 0 ≤ start ≤ stop ≤ T; state 0 is the initial one.

    Returns
    -------
    (B, S, S)

    Raises
    ------
    TypeError, ValueError
        As `jacobians`, and if the span is not inside 0 … T.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=1, hidden_size=1, activation="identity")
    >>> params = fb.RNNParams(np.ones((1, 1)), np.full((1, 1), 0.5), np.zeros(1))
    >>> tape = fb.forward(cell, params, np.zeros((10, 1, 1)))
    >>> float(fb.jacobian_product(cell, params, tape, 0, 10)[0, 0, 0])
    0.0009765625
    """
    steps = linear_steps(cell, params, tape)
    start, stop = check_span(start, stop, steps.T)
    rows = np.broadcast_to(np.eye(steps.size, dtype=steps.dtype), (1, steps.B, steps.size, steps.size))
    for t in range(start, stop):
        rows = steps.jvp(slice(t, t + 1), rows)
    return np.ascontiguousarray(rows[0].swapaxes(1, 2))


def jacobian_vector(cell: Any, params: Any, tape: Any, v: Any, start: int, stop: int) -> Array:
    """(∂state_stop/∂state_start) v, without forming a Jacobian.

    Parameters
    ----------
    cell, params, tape
        As for `jacobians`.
    v : (B, S)
        A change of state_start.
    start, stop : int
        States, 0 ≤ start ≤ stop ≤ T.

    Returns
    -------
    (B, S)
        The change of state_stop, to first order.

    Raises
    ------
    TypeError, ValueError
        As `jacobian_product`.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=1, hidden_size=1, activation="identity")
    >>> params = fb.RNNParams(np.ones((1, 1)), np.full((1, 1), 1.5), np.zeros(1))
    >>> tape = fb.forward(cell, params, np.zeros((10, 1, 1)))
    >>> float(fb.jacobian_vector(cell, params, tape, np.ones((1, 1)), 0, 10)[0, 0])
    57.6650390625
    """
    steps = linear_steps(cell, params, tape)
    start, stop = check_span(start, stop, steps.T)
    rows = check_array("v", v, (steps.B, steps.size), steps.dtype)[None, :, None].copy()
    for t in range(start, stop):
        rows = steps.jvp(slice(t, t + 1), rows)
    return np.ascontiguousarray(rows[0, :, 0])


def vector_jacobian(cell: Any, params: Any, tape: Any, v: Any, start: int, stop: int) -> Array:
    """vᵀ (∂state_stop/∂state_start), without forming a Jacobian: v = ∂L/∂state_stop gives ∂L/∂state_start.

    Parameters
    ----------
    cell, params, tape
        As for `jacobians`.
    v : (B, S)
        An error of state_stop.
    start, stop : int
        States, 0 ≤ start ≤ stop ≤ T.

    Returns
    -------
    (B, S)

    Raises
    ------
    TypeError, ValueError
        As `jacobian_product`.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=3, hidden_size=4)
    >>> params = cell.init(seed=0)
    >>> tape = fb.forward(cell, params, np.ones((5, 2, 3), np.float32))
    >>> fb.vector_jacobian(cell, params, tape, np.ones((2, 4), np.float32), 1, 5).shape
    (2, 4)
    """
    steps = linear_steps(cell, params, tape)
    start, stop = check_span(start, stop, steps.T)
    rows = check_array("v", v, (steps.B, steps.size), steps.dtype)[None, :, None].copy()
    for t in range(stop - 1, start - 1, -1):
        rows = steps.vjp(slice(t, t + 1), rows)[1]
    return np.ascontiguousarray(rows[0, :, 0])
