"""Lyapunov exponents: the mean growth rates of small changes of the state along a trajectory."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array
from ..bptt.passes import forward
from ..errors import check_one_direction, check_transient, check_up_to
from .joint import Joint, linear_steps

LONGEST = 16        # steps between two orthonormalisations
MOST_SPREAD = 1e8   # between the fastest and the slowest direction of one stretch, else their angle is lost to rounding


def lyapunov_spectrum(cell: Any, params: Any, x: Any, k: int | None = None, *, transient: int = 0, state: Any = None) -> Array:
    """The k leading Lyapunov exponents of every sequence, natural logarithm per step.

    λ_i = mean over steps of log |R_ii| of Q R = J_t Q, by QR along the trajectory. Computed in float64.

    Parameters
    ----------
    cell, params
        As given to `forward`; also a stack of one direction, of whose joint state these are the exponents.
    x : (T, B, I) real, or (T, B) integer ids
        The input that drives the network.
    k : int, optional
        1 … S; all S exponents by default. With k = S their sum is the mean of log |det J_t|.
    transient : int
        First steps, which are not counted; fewer than T.
    state : State, optional
        Zeros by default.

    Returns
    -------
    (B, k)
        Largest first; −inf where the Jacobian is singular: |R_ii| ≤ S ε ‖J_t Q‖_F counts as 0.

    Raises
    ------
    TypeError, ValueError
        As `forward`, and if k or transient is out of range, or a state is not finite.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=1, hidden_size=2, activation="identity")
    >>> params = fb.RNNParams(np.ones((2, 1)), np.diag([1.5, 0.5]), np.zeros(2))
    >>> fb.lyapunov_spectrum(cell, params, np.zeros((20, 1, 1))).round(4)
    array([[ 0.4055, -0.6931]])

    References
    ----------
    G. Benettin et al., Meccanica 15, 1980; R. Engelken, F. Wolf and L. F. Abbott, "Lyapunov spectra of chaotic recurrent neural
    networks", Physical Review Research 5, 2023.
    """
    check_one_direction(cell, "Lyapunov exponents")
    steps = linear_steps(cell, params, forward(cell, params, x, state), np.float64)
    k = steps.size if k is None else check_up_to("k", k, steps.size, "a number of exponents, at most the size of the state")
    transient = check_transient(transient, steps.T)
    Q = np.broadcast_to(np.eye(steps.size)[:k], (1, steps.B, k, steps.size))
    total = np.zeros((steps.B, k))
    t, length = 0, 1
    while t < steps.T:
        # A stretch ends at the transient, so that what is counted begins with a basis.
        stop = min(t + length, transient if t < transient else steps.T)
        moved, logs, spread = _stretch(steps, Q, t, stop)
        if stop - t > 1 and not spread <= MOST_SPREAD:
            length = (stop - t) // 2
            continue
        if t >= transient:
            total += logs
        per_step = np.log(spread) / (stop - t)
        Q, t = moved, stop
        length = int(min(LONGEST, max(1, 0.8 * np.log(MOST_SPREAD) // max(per_step, 1e-3)))) if np.isfinite(per_step) else 1
    return -np.sort(-total / (steps.T - transient), axis=1)


def _stretch(steps: Joint, Q: Array, start: int, stop: int) -> tuple[Array, Array, float]:
    """The basis after some steps, log |R_ii| of every direction, and the largest ratio of two of a sequence."""
    for t in range(start, stop):
        Q = steps.ahead(slice(t, t + 1), Q)
    columns = Q[0].swapaxes(1, 2)
    basis, R = np.linalg.qr(columns)
    size = np.abs(np.einsum("bii->bi", R))
    lost = steps.size * np.finfo(float).eps * np.linalg.norm(columns, axis=(1, 2))[:, None]
    size = np.where(size <= lost, 0.0, size)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = size.max(axis=1) / size.min(axis=1)
        spread = float(np.where(np.isnan(ratios), np.inf, ratios).max())
        return np.ascontiguousarray(basis.swapaxes(1, 2))[None], np.log(size), spread


def growth_along(steps: Joint) -> Array:
    """(T, B): log of the growth of a small change in every step, from random directions at the first state and at resets.

    0 at padded steps and where a reset begins the step.
    """
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1, steps.B, 1, steps.size))
    rows /= np.linalg.norm(rows, axis=3, keepdims=True)
    fresh, logs, crossed = rows.copy(), np.zeros((steps.T, steps.B)), steps.layers[0].crossed
    for t in range(steps.T):
        rows = steps.ahead(slice(t, t + 1), rows)
        size = np.linalg.norm(rows, axis=3)[0, :, 0]
        over = np.zeros(steps.B, bool) if crossed is None else ~crossed[t, :, 0, 0]
        with np.errstate(divide="ignore"):
            logs[t] = np.where(over, 0.0, np.log(size))
        gone = over | (size == 0)
        rows = np.where(gone[:, None, None], fresh, rows / np.where(gone, 1.0, size)[:, None, None])
    return logs
