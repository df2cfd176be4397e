"""Gradients by lag and by step, and the horizon that they suggest."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..bptt.passes import backward
from ..bptt.tape import Tape
from ..errors import check_array, check_fraction, check_lag, first_array
from .rows import Rows


def _lags(cell: Any, params: Any, tape: Tape, dh: Any) -> Iterator[Any]:
    """The Params of lag 0, 1, …: errors of all steps go back together, one step for each lag."""
    rows = Rows(cell, params, tape)
    dh = check_array("dh", dh, (*rows.shape, cell.hidden_size), first_array(params).dtype, cell)
    valid = np.arange(rows.shape[0])[:, None] < tape.batch.lengths
    errors = [np.zeros_like(dh) for _ in cell.state_type._fields]
    errors[0][valid] = dh[valid]
    while True:
        grads = rows.back(tuple(errors))
        yield grads.params
        for error, before in zip(errors, grads.state, strict=True):
            error[:-1], error[-1] = before[1:], 0


def lag_gradients(cell: Any, params: Any, tape: Tape, dh: Any, max_lag: int) -> Any:
    """The part of every parameter's gradient that comes from errors j steps later, for j < max_lag.

        entry j of dW = Σ_t δ_t^(j) h_{t−1}ᵀ,   δ_t^(j) = ∂a_t-error of dh_{t+j}

    Entries 0 … h−1 add up to the gradient of Truncation(h, 1), all T of them to the full gradient.

    Parameters
    ----------
    cell, params, tape, dh
        As for `backward`.
    max_lag : int
        1 … T.

    Returns
    -------
    Params
        Every array with a leading axis of max_lag lags.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape, dtype or range; the message names it.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(3, 4)
    >>> params = cell.init(dtype=np.float64)
    >>> tape = fb.forward(cell, params, np.ones((6, 2, 3)))
    >>> lags = fb.lag_gradients(cell, params, tape, np.ones((6, 2, 4)), max_lag=6)
    >>> np.allclose(lags.W.sum(axis=0), fb.backward(cell, params, tape, np.ones((6, 2, 4))).params.W)
    True
    """
    max_lag = check_lag(max_lag, tape.batch.x.shape[0])
    parts = [grads for _, grads in zip(range(max_lag), _lags(cell, params, tape, dh), strict=False)]
    return type(parts[0])(*[np.stack(arrays) for arrays in zip(*parts, strict=True)])


def lag_norms(cell: Any, params: Any, tape: Tape, dh: Any, max_lag: int) -> Any:
    """‖entry j of `lag_gradients`‖_F for every parameter and j < max_lag, (max_lag,) each; holds one lag at a time."""
    max_lag = check_lag(max_lag, tape.batch.x.shape[0])
    parts = [[np.linalg.norm(a) for a in grads] for _, grads in zip(range(max_lag), _lags(cell, params, tape, dh), strict=False)]
    return cell.params_type(*np.array(parts).T)


def suggest_horizon(cell: Any, params: Any, tape: Tape, dh: Any, tolerance: float = 0.05) -> int:
    """The smallest h in 1 … T for which Truncation(h, 1) is near the full gradient g.

        max over parameter arrays of ‖g_h − g‖_F / ‖g‖_F ≤ tolerance

    T says that nothing shorter serves. Raises as `backward`, and if not 0 ≤ tolerance < 1.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(3, 4)
    >>> params = cell.init(dtype=np.float64, gain=0.5)
    >>> tape = fb.forward(cell, params, np.ones((100, 2, 3)))
    >>> fb.suggest_horizon(cell, params, tape, np.ones((100, 2, 4))) < 10
    True
    """
    tolerance = check_fraction("tolerance", tolerance)
    T = int(tape.batch.x.shape[0])
    full = backward(cell, params, tape, dh).params
    scale = [max(float(np.linalg.norm(g)), np.finfo(float).tiny) for g in full]
    sums = [np.zeros_like(g) for g in full]
    for h, lag in zip(range(1, T), _lags(cell, params, tape, dh), strict=False):
        for total, part in zip(sums, lag, strict=True):
            total += part
        if max(float(np.linalg.norm(s - g)) / n for s, g, n in zip(sums, full, scale, strict=True)) <= tolerance:
            return h
    return T


class StepGradients(NamedTuple):
    """What `step_gradients` returns."""

    states: Any
    """State of (T, B, H): ∂L/∂state_t through all later steps, t = 1 … T; 0 at padded steps."""
    norms: Array
    """(T,) ‖δ_t h_{t−1}ᵀ‖_F, of the part of ∂L/∂W that comes from the use of W at step t."""


def step_gradients(cell: Any, params: Any, tape: Tape, dh: Any) -> StepGradients:
    """∂L/∂state_t for every step, and the norm of what each step adds to ∂L/∂W. Raises as `backward`.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(3, 4)
    >>> params = cell.init(dtype=np.float64)
    >>> tape = fb.forward(cell, params, np.ones((6, 2, 3)))
    >>> found = fb.step_gradients(cell, params, tape, np.ones((6, 2, 4)))
    >>> found.states.h.shape, found.norms.shape
    ((6, 2, 4), (6,))
    """
    T, B = tape.batch.x.shape[:2]
    dh = check_array("dh", dh, (T, B, cell.hidden_size), first_array(params).dtype, cell)
    carry = [np.zeros(dh.shape[1:], dh.dtype) for _ in cell.state_type._fields]
    states = [np.zeros_like(dh) for _ in carry]
    norms = np.zeros(T)
    for t in range(T - 1, -1, -1):
        valid = t < tape.batch.lengths
        carry[0][valid] += dh[t, valid]
        for kept, error in zip(states, carry, strict=True):
            kept[t, valid] = error[valid]
        grads = Rows(cell, params, tape, t, t + 1).back(tuple(error[None] for error in carry))
        norms[t] = np.linalg.norm(grads.params.W)
        carry = [before[0] for before in grads.state]
    return StepGradients(cell.state_type(*states), norms)

