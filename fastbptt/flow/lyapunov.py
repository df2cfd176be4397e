"""Lyapunov exponents: the mean growth rates of small changes of the state along a trajectory."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..arrays import Array
from ..bptt.api import forward
from ..engine.orthogonal import gram_schmidt
from ..errors import check_flag, check_one_direction, check_transient, check_up_to
from .stack import StackSteps, linear_steps

LONGEST = 16        # most steps between two orthonormalisations
MOST_SPREAD = np.log(1e10)  # of the growth of directions in one interval, else their angle is lost to rounding
MOST_GROWTH = 600.0    # of a direction in one interval, as a logarithm: float64 ends at 709
MOST_FLOATS = 2**18    # of the products of Jacobians that are formed together


def lyapunov_spectrum(cell: Any, params: Any, x: Any, k: int | None = None, *, transient: int = 0, state: Any = None,
                      convergence: bool = False) -> Any:
    """The k leading Lyapunov exponents of every sequence, natural logarithm per step.

    λ_i = mean over steps of log |R_ii| of Q R = J_t Q, by QR along the trajectory. Computed in float64.

    Parameters
    ----------
    cell, params
        As given to `forward`; for a stack in one direction, the exponents are those of the joint state.
    x : (T, B, I) real, or (T, B) integer ids
        The input that drives the network.
    k : int, optional
        1 … S; all S exponents by default. With k = S their sum is the mean of log |det J_t|.
    transient : int
        Number of first steps that are not counted, less than T.
    state : State, optional
        Zeros by default.
    convergence : bool
        Also return the running means after every step; Q is then orthonormalised at each.

    Returns
    -------
    (B, k), or with `convergence` a tuple of it and of the running means (T − transient, B, k)
        Largest first; −inf where the Jacobian is singular: |R_ii| ≤ S ε ‖J_t Q‖_F |(1, x)| counts as 0, where x are the
        coefficients of the row in those before it. A direction lost in this way is arbitrary from then on, and is
        orthonormalised last, so that it does not affect the others.

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
    logs = [found for _, found in _growth(steps, k, transient, 1 if check_flag("convergence", convergence) else LONGEST)]
    means = np.cumsum(logs, axis=0)
    final = means[-1] / (steps.T - transient)
    order = np.argsort(-final, axis=1, kind="stable")
    spectrum = np.take_along_axis(final, order, axis=1)
    if not convergence:
        return spectrum
    means /= np.arange(1, len(means) + 1)[:, None, None]
    return spectrum, np.take_along_axis(means, order[None], axis=2)


def first_directions(k: int, S: int) -> Array:
    """k orthonormal rows to begin with; random with a fixed seed if k < S, as unit vectors may span an invariant subspace."""
    if k == S:
        return np.eye(S)
    return np.ascontiguousarray(np.linalg.qr(np.random.default_rng(0).normal(size=(S, k)))[0].T)


def _growth(steps: StackSteps, k: int, transient: int, longest: int) -> Iterator[tuple[int, Array]]:
    """After every interval that counts: its last step, and log |R_ii| (B, k).

    The Jacobians of many intervals are multiplied first, all intervals at once, in products of many rows; unless k is so
    much smaller than S that carrying k vectors through the steps is less work.
    """
    S = steps.size
    Q, order = np.broadcast_to(first_directions(k, S), (steps.B, k, S)), np.tile(np.arange(k), (steps.B, 1))
    most = MOST_FLOATS // (steps.B * S * S) if S <= max(64, 4 * k) else 1
    t, length = 0, 1
    while t < steps.T:
        # An interval ends with the transient, so that what is counted begins with an orthonormal basis.
        end = transient if t < transient else steps.T
        length = min(length, end - t)
        count = max(1, min(most, (end - t) // length)) if length > 1 else 1
        rows = np.broadcast_to(np.eye(S), (count, steps.B, S, S)) if count > 1 else Q[None]
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):      # overflow shows that it is too long
            for i in range(length):
                rows = steps.jvp(slice(t + i, t + count * length, length), rows)
        used = 0.0
        for images in rows:
            basis, logs, now, share = _orthonormal(images if count == 1 else _product(Q, images), order)
            used = max(used, share)
            if length > 1 and used > 1:
                break
            Q, order, t = basis, now, t + length
            if t > transient:
                yield t, logs
        length = max(1, length // 2) if used > 1 else int(min(longest, max(1.0, 0.8 * length / max(used, 1e-3))))


def _product(Q: Array, images: Array) -> Array:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.asarray(Q @ images)


def _orthonormal(rows: Array, order: Array) -> tuple[Array, Array, Array, float]:
    """For rows (B, k, S), taken in this order: an orthonormal basis, log |R_ii| of every direction, the order for the next time.

    And the share of its limits that the interval of these rows uses: above 1 it is too long.
    """
    now = order.copy()
    basis, sizes = gram_schmidt(rows, now)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs: Array = np.log(sizes)
        used = np.maximum(np.ptp(logs, axis=1) / MOST_SPREAD, np.abs(logs).max(axis=1) / MOST_GROWTH).max()
    return basis, logs, now, float("inf") if np.isnan(used) else float(used)


def growth_along(steps: StackSteps) -> Array:
    """(T, B): log of the growth of a small change in every step, from random directions at the first state and at resets.

    0 at padded steps and where a reset begins the step.
    """
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1, steps.B, 1, steps.size))
    rows /= np.linalg.norm(rows, axis=3, keepdims=True)
    fresh, logs, crossed = rows.copy(), np.zeros((steps.T, steps.B)), steps.layers[0].crossed
    for t in range(steps.T):
        rows = steps.jvp(slice(t, t + 1), rows)
        largest = np.abs(rows).max(axis=3, keepdims=True)
        rows = rows / np.where(largest == 0, 1.0, largest)          # scaled first: no square leaves the range
        size = np.linalg.norm(rows, axis=3)[0, :, 0]
        over = np.zeros(steps.B, bool) if crossed is None else ~crossed[t, :, 0, 0]
        with np.errstate(divide="ignore"):
            logs[t] = np.where(over, 0.0, np.log(size) + np.log(largest[0, :, 0, 0]))
        gone = over | (size == 0)
        rows = np.where(gone[:, None, None], fresh, rows / np.where(gone, 1.0, size)[:, None, None])
    return logs
