"""Lyapunov exponents: how fast nearby states part, or meet, along a trajectory."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array
from ..bptt.passes import forward
from ..errors import check_exponents, first_array
from .jacobians import _jacobians
from .rows import Rows

BLOCK = 64      # steps whose Jacobians are held at a time


def lyapunov_spectrum(cell: Any, params: Any, x: Any, k: int | None = None, *, transient: int = 0, state: Any = None) -> Array:
    """The k largest Lyapunov exponents of the network driven by x.

        J_t Q_{t−1} = Q_t R_t,    λ_i = mean over steps of log |(R_t)_{ii}|

    Parameters
    ----------
    cell, params, x, state
        As for `forward`; all sequences have T steps.
    k : int, optional
        1 … S; all S by default. With k = S the exponents add up to the mean log |det J|.
    transient : int
        Steps at the beginning that only turn Q towards the leading directions.

    Returns
    -------
    array (B, k)
        Natural logarithm per step, largest first; −inf where the Jacobians are singular.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape, dtype or range; the message names it.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(1, 2, "identity")
    >>> params = cell.init(dtype=np.float64)._replace(W=np.diag([2.0, 0.5]))
    >>> fb.lyapunov_spectrum(cell, params, np.zeros((50, 1, 1))) / np.log(2)
    array([[ 1., -1.]])

    References
    ----------
    G. Benettin, L. Galgani, A. Giorgilli and J.-M. Strelcyn, Meccanica 15, 1980; R. Engelken, F. Wolf and L. F. Abbott,
    "Lyapunov spectra of chaotic recurrent neural networks", Physical Review Research 5, 2023.
    """
    tape = forward(cell, params, x, state)
    T, B = tape.batch.x.shape[:2]
    S = cell.hidden_size * len(cell.state_type._fields)
    k, transient = check_exponents(k, S, transient, T)
    Q = np.broadcast_to(np.eye(S, k), (B, S, k)).copy()
    total = np.zeros((B, k))
    with np.errstate(divide="ignore"):
        for start in range(0, T, BLOCK):
            stop = min(T, start + BLOCK)
            for t, J in enumerate(_jacobians(Rows(cell, params, tape, start, stop)).astype(np.float64), start):
                M = J @ Q
                Q, R = np.linalg.qr(M)
                if t >= transient:
                    stretch = np.abs(np.diagonal(R, axis1=1, axis2=2))
                    lost = S * np.finfo(np.float64).eps * np.linalg.norm(M, axis=(1, 2))      # rounding alone
                    total += np.log(np.where(stretch <= lost[:, None], 0.0, stretch))
    exponents = np.sort(total / (T - transient), axis=1)[:, ::-1]
    return np.ascontiguousarray(exponents, first_array(params).dtype)
