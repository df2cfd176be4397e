"""The horizon that truncated gradients need: for one batch, or for many with a confidence interval."""
from __future__ import annotations

from collections.abc import Iterable
from math import comb
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..errors import check_confidence, check_finite_gradient, check_fraction, check_pairs
from ..tree import leaves
from .lags import by_lag, errors_of, full_gradient, norm
from .stack import linear_steps


def suggest_horizon(cell: Any, params: Any, tape: Any, dh: Any, tolerance: float = 0.05) -> int:
    """The smallest horizon h of the sliding window whose gradients are within `tolerance` of the full ones.

    max over parameter arrays of ‖g_h − g‖_F / ‖g‖_F ≤ tolerance, g_h of `Truncation(h, 1)`; T if nothing shorter suffices.

    Parameters
    ----------
    cell, params, tape, dh
        As for `lag_gradients`.
    tolerance : float
        0 ≤ tolerance < 1.

    Returns
    -------
    int
        1 … T.

    Raises
    ------
    TypeError, ValueError
        As `jacobians`, and if the tolerance is out of range or the gradient is not finite.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=1, hidden_size=1, activation="identity")
    >>> params = fb.RNNParams(np.ones((1, 1)), np.full((1, 1), 0.5), np.zeros(1))
    >>> tape = fb.forward(cell, params, np.ones((50, 1, 1)))
    >>> fb.suggest_horizon(cell, params, tape, np.ones_like(tape.h), tolerance=0.01)
    7
    """
    tolerance = check_fraction("tolerance", tolerance)
    steps = linear_steps(cell, params, tape)
    errors = errors_of(cell, steps, dh, tape.batch.lengths)
    full = list(leaves(full_gradient(steps, errors)))
    left = [a.copy() for a in full]
    allowed = [tolerance * norm(a) for a in full]
    check_finite_gradient(allowed)
    for h, part in enumerate(by_lag(steps, errors), start=1):
        for rest, own in zip(left, leaves(part), strict=True):
            rest -= own
        if all(norm(rest) <= most for rest, most in zip(left, allowed, strict=True)):
            return h
    return int(steps.T)


class Horizons(NamedTuple):
    """Horizons of several batches."""

    horizon: int
    """The median, rounded up."""
    low: int
    """Lower end of the confidence interval of the median."""
    high: int
    confidence: float
    """Probability that the interval holds the median of all batches; with few batches, less than was asked for."""
    each: Array
    """(n,): the horizon of every batch."""
    longest: int
    """T of the longest batch, the largest value that a horizon can have."""


def suggest_horizons(cell: Any, params: Any, batches: Iterable[Any], tolerance: float = 0.05,
                     confidence: float = 0.9) -> Horizons:
    """`suggest_horizon` of several batches: the median, and a confidence interval for the median of all such batches.

    The interval is [h₍ₖ₎, h₍ₙ₊₁₋ₖ₎] of the sorted horizons with the largest k for which P(k ≤ X ≤ n−k) ≥ confidence, X ~
    Bin(n, ½), whatever the distribution of the horizons. Fewer than 5 batches cannot reach 0.9: it is then the whole range.

    Parameters
    ----------
    cell, params
        As given to `forward`.
    batches : iterable of (tape, dh)
        Drawn one at a time, so a generator may make them.
    tolerance : float
        As for `suggest_horizon`.
    confidence : float
        Between 0 and 1.

    Returns
    -------
    Horizons

    Raises
    ------
    TypeError, ValueError
        As `suggest_horizon`, and if there is no batch.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=3, hidden_size=8)
    >>> params, rng = cell.init(seed=0, gain=0.7, dtype=np.float64), np.random.default_rng(0)
    >>> tapes = (fb.forward(cell, params, rng.normal(size=(40, 2, 3))) for _ in range(8))
    >>> found = fb.suggest_horizons(cell, params, ((tape, tape.h) for tape in tapes))
    >>> found.low <= found.horizon <= found.high < found.longest, found.confidence >= 0.9
    (True, True)

    References
    ----------
    W. J. Conover, "Practical Nonparametric Statistics", 3rd ed., 1999 (confidence intervals of a quantile).
    """
    confidence = check_confidence(confidence)
    each, longest = [], 0
    for tape, dh in check_pairs("batches", batches, "(tape, dh)"):
        each.append(suggest_horizon(cell, params, tape, dh, tolerance))
        longest = max(longest, tape.batch.x.shape[0])
    found = np.sort(each)
    k, kept = _order(len(found), confidence)
    return Horizons(int(np.ceil(np.median(found))), int(found[k - 1]), int(found[-k]), kept, np.array(each), longest)


def _order(n: int, confidence: float) -> tuple[int, float]:
    """The largest k ≥ 1 with P(k ≤ X ≤ n−k) ≥ confidence, and that probability; k = 1 where none has."""
    inside, k = 1 - 2 * 0.5 ** n, 1
    while 2 * (k + 1) <= n and inside - 2 * comb(n, k) * 0.5 ** n >= confidence:
        inside -= 2 * comb(n, k) * 0.5 ** n
        k += 1
    return k, max(0.0, inside)
