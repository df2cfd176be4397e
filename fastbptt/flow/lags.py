"""Gradients by lag and by step: the contributions of errors injected j steps later, j = 0, 1, …, and of step t.

All steps go back together: the errors of lag j at step t are those of lag j−1 at step t+1, taken back one step, so a lag is
one product over T·B rows and no forward pass is repeated.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..errors import check_array, check_lags
from ..tree import leaves, tree_map
from .stack import StackSteps, linear_steps


def norm(array: Array) -> float:
    """The Frobenius norm, in float64: squares of float32 overflow from 1e19 on and are 0 below 1e-23."""
    return float(np.linalg.norm(array.astype(np.float64, copy=False)))


def errors_of(cell: Any, steps: StackSteps, dh: Any, lengths: Array) -> Array:
    """dh checked, as errors of the joint state; 0 at padded steps, which are not read."""
    dh = check_array("dh", dh, (steps.T, steps.B, cell.hidden_size), steps.dtype, cell)
    if lengths.min() < steps.T:
        dh = np.where(np.arange(steps.T)[:, None, None] < lengths[:, None], dh, steps.dtype.type(0))
    return steps.injected(dh)


def by_lag(steps: StackSteps, errors: Array) -> Iterator[Any]:
    """The gradients of the parameters by lag, for lags 0 … T−1."""
    for lag in range(steps.T):
        at = slice(0, steps.T - lag)
        deltas, before = steps.vjp(at, errors)
        yield steps.gradients(at, deltas)
        errors = before[1:]


def lag_gradients(cell: Any, params: Any, tape: Any, dh: Any, max_lag: int) -> Any:
    """The gradients of the parameters, separated by the distance of the error: entry j is from errors injected j steps later.

    ∂L/∂W = Σ_j Σ_k (∂L_{k+j}/∂h_{k+j}) (∂h_{k+j}/∂h_k) (∂⁺h_k/∂W). Entries 0 … h−1 add up to `Truncation(h, 1)`, all T of them
    to the full gradient.

    Parameters
    ----------
    cell, params, tape
        As for `jacobians`.
    dh : (T, B, H)
        ∂L/∂h_t injected at every step; not read at padded steps.
    max_lag : int
        Number of lags, 1 … T.

    Returns
    -------
    Params
        Each array with a leading axis of max_lag.

    Raises
    ------
    TypeError, ValueError
        As `jacobians`, and if max_lag is not an integer in 1 … T.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=3, hidden_size=4)
    >>> params = cell.init(seed=0)
    >>> tape = fb.forward(cell, params, np.ones((5, 2, 3), np.float32))
    >>> fb.lag_gradients(cell, params, tape, np.ones_like(tape.h), max_lag=3).W.shape
    (3, 4, 4)
    """
    steps = linear_steps(cell, params, tape)
    max_lag = check_lags(max_lag, steps.T)
    errors = errors_of(cell, steps, dh, tape.batch.lengths)
    parts = by_lag(steps, errors)
    first = next(parts)
    result = tree_map(lambda a: np.empty((max_lag, *a.shape), a.dtype), first)
    for lag in range(max_lag):
        for out, part in zip(leaves(result), leaves(first if lag == 0 else next(parts)), strict=True):
            out[lag] = part
    return result


class LagNorms(NamedTuple):
    """Sizes and directions of the gradients by lag, each in a tuple like Params."""

    norms: Any
    """(max_lag,) Frobenius norms."""
    cosines: Any
    """(max_lag,) cosines of the angles with the sum over these lags; 0 where a norm is 0."""


def lag_norms(cell: Any, params: Any, tape: Any, dh: Any, max_lag: int) -> LagNorms:
    """Frobenius norm of each lag's gradient, and its cosine with the sum of all max_lag, in the memory of two gradients.

    Parameters
    ----------
    cell, params, tape, dh, max_lag
        As for `lag_gradients`; every lag is computed twice.

    Returns
    -------
    LagNorms

    Raises
    ------
    TypeError, ValueError
        As `lag_gradients`.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=1, hidden_size=1, activation="identity")
    >>> params = fb.RNNParams(np.ones((1, 1)), np.full((1, 1), 0.5), np.zeros(1))
    >>> x, dh = np.zeros((4, 1, 1)), np.zeros((4, 1, 1))
    >>> x[0], dh[-1] = 1, 1
    >>> fb.lag_norms(cell, params, fb.forward(cell, params, x), dh, max_lag=4).norms.U
    array([0.   , 0.   , 0.   , 0.125])
    """
    steps = linear_steps(cell, params, tape)
    max_lag = check_lags(max_lag, steps.T)
    errors = errors_of(cell, steps, dh, tape.batch.lengths)
    total: Any = None
    for _, part in zip(range(max_lag), by_lag(steps, errors), strict=False):
        total = part if total is None else tree_map(np.add, total, part)
    sizes: list[list[float]] = []
    shares: list[list[float]] = []
    whole = [norm(a) for a in leaves(total)]
    for _, part in zip(range(max_lag), by_lag(steps, errors), strict=False):
        norms = [norm(a) for a in leaves(part)]
        sizes.append(norms)
        shares.append([float(np.vdot(a.astype(np.float64), s.astype(np.float64))) / (n * w) if n * w > 0 else 0.0
                       for a, s, n, w in zip(leaves(part), leaves(total), norms, whole, strict=True)])
    return LagNorms(*[_like(total, np.array(table).T) for table in (sizes, shares)])


def _like(tree: Any, rows: Array) -> Any:
    """The rows of a table in the place of the arrays of a tuple."""
    entries = iter(rows)
    return tree_map(lambda _: next(entries), tree)


class StepGradients(NamedTuple):
    """The error of every step, and the step's contribution to ∂L/∂W."""

    errors: Array
    """(T, B, S): ∂L/∂state_t of steps 1 … T, including all later errors; 0 at padded steps."""
    norms: Array
    """(T, B): ‖δ_t h_{t−1}ᵀ‖_F of every sequence, the part of ∂L/∂W from the use of W at step t; in a stack, the last layer's."""
    summed: Array
    """(T,): the same of the sum over the sequences."""


def step_gradients(cell: Any, params: Any, tape: Any, dh: Any) -> StepGradients:
    """∂L/∂state_t and ‖δ_t h_{t−1}ᵀ‖_F of every step, δ_t = ∂L/∂a_t.

    Parameters
    ----------
    cell, params, tape, dh
        As for `lag_gradients`.

    Returns
    -------
    StepGradients

    Raises
    ------
    TypeError, ValueError
        As `jacobians`.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=1, hidden_size=1, activation="identity")
    >>> params = fb.RNNParams(np.ones((1, 1)), np.full((1, 1), 0.5), np.zeros(1))
    >>> dh = np.zeros((4, 1, 1))
    >>> dh[-1] = 1
    >>> fb.step_gradients(cell, params, fb.forward(cell, params, np.ones((4, 1, 1))), dh).errors.ravel()
    array([0.125, 0.25 , 0.5  , 1.   ])
    """
    steps = linear_steps(cell, params, tape)
    errors = errors_of(cell, steps, dh, tape.batch.lengths)
    errors = carried(steps, errors)
    deltas = steps.vjp(slice(None), errors)[0][-1]
    alone, together = np.zeros((steps.T, steps.B)), np.zeros(steps.T)
    for parts in steps.layers[-1].recurrent_parts(deltas):
        delta, entered = (part[:, :, 0].astype(np.float64, copy=False) for part in parts)      # their squares need its range
        inner = _inner_products(delta, entered, cell_mask(cell))
        alone += np.einsum("tbb->tb", inner)
        together += inner.sum(axis=(1, 2))
    return StepGradients(errors[:, :, 0], np.sqrt(alone), np.sqrt(np.maximum(together, 0)))


def cell_mask(cell: Any) -> Array | None:
    """The mask of the last layer."""
    mask: Array | None = cell.layers[-1].mask
    return mask


def _inner_products(d: Array, h: Array, mask: Array | None) -> Array:
    """⟨d_b h_bᵀ, d_c h_cᵀ⟩_F = (d_b · d_c) (h_b · h_c) for every pair of sequences, (T, B, B); only where a mask is 1."""
    if mask is None:
        return np.asarray((d @ d.swapaxes(1, 2)) * (h @ h.swapaxes(1, 2)))
    pairs = (d[:, :, None] * d[:, None], h[:, :, None] * h[:, None])
    return np.asarray((pairs[0] * (pairs[1] @ mask.T.astype(h.dtype))).sum(axis=-1))


def carried(steps: StackSteps, errors: Array) -> Array:
    """∂L/∂state of every step, including all later errors, from the errors injected at each."""
    errors = errors.copy()
    for t in range(steps.T - 1, 0, -1):
        errors[t - 1] += steps.vjp(slice(t, t + 1), errors[t:t + 1])[1][0]
    return errors


def full_gradient(steps: StackSteps, errors: Array) -> Any:
    """The gradient over all lags: the errors of every state step by step, then all products at once."""
    return steps.gradients(slice(None), steps.vjp(slice(None), carried(steps, errors))[0])
