"""Step Jacobians, their products, and products with vectors."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array
from ..bptt.tape import Tape
from ..errors import check_array, check_span, first_array
from .rows import Rows


def jacobians(cell: Any, params: Any, tape: Tape) -> Array:
    """Every step's Jacobian: J_t = ∂state_{t+1}/∂state_t; for the RNN diag(σ′(a_{t+1})) W.

    Parameters
    ----------
    cell : RNN, GRU or LSTM
    params : its Params
    tape : Tape
        From `forward`.

    Returns
    -------
    array (T, B, S, S)
        S = H, for the LSTM 2H over the pair (h, c). Entry t belongs to the step from state t to state t+1. The identity at
        padded steps, 0 at resets.

    Raises
    ------
    TypeError, ValueError
        If the tape or the parameters are not the cell's, or the cell is a stack.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(3, 4, "identity")
    >>> params = cell.init(dtype=np.float64)
    >>> J = fb.jacobians(cell, params, fb.forward(cell, params, np.ones((5, 2, 3))))
    >>> J.shape, np.allclose(J, params.W)
    ((5, 2, 4, 4), True)

    References
    ----------
    R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.
    """
    return _jacobians(Rows(cell, params, tape))


def _jacobians(rows: Rows) -> Array:
    """Row s of all Jacobians at once: the unit error of state component s, one step back."""
    H, kinds = rows.cell.hidden_size, len(rows.cell.state_type._fields)
    dtype = first_array(rows.params).dtype
    out = np.empty((*rows.shape, kinds * H, kinds * H), dtype)
    errors = tuple(np.zeros((*rows.shape, H), dtype) for _ in range(kinds))
    for s in range(kinds * H):
        errors[s // H][..., s % H] = 1
        for k, part in enumerate(rows.back(errors).state):
            out[:, :, s, k * H:(k + 1) * H] = part
        errors[s // H][..., s % H] = 0
    return out


def jacobian_product(cell: Any, params: Any, tape: Tape, start: int, stop: int) -> Array:
    """∂state_stop/∂state_start = J_{stop−1} ⋯ J_start, (B, S, S); the identity for start = stop.

    States are numbered 0 (initial) … T. Raises as `jacobians`, and if not 0 ≤ start ≤ stop ≤ T.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(1, 1, "identity")
    >>> params = cell.init(dtype=np.float64)._replace(W=np.array([[0.5]]))
    >>> tape = fb.forward(cell, params, np.zeros((10, 1, 1)))
    >>> float(fb.jacobian_product(cell, params, tape, 0, 10)[0, 0, 0])
    0.0009765625
    """
    start, stop = check_span(start, stop, tape.batch.x.shape[0])
    dtype = first_array(params).dtype
    S = cell.hidden_size * len(cell.state_type._fields)
    product = np.broadcast_to(np.eye(S, dtype=dtype), (tape.batch.x.shape[1], S, S)).copy()
    for first in range(start, stop, 64):
        for step in _jacobians(Rows(cell, params, tape, first, min(stop, first + 64))):
            product = step @ product
    return np.asarray(product)


def vector_jacobian(cell: Any, params: Any, tape: Tape, v: Any, start: int, stop: int) -> Array:
    """vᵀ ∂state_stop/∂state_start, (B, S), for v (B, S), without any Jacobian: one step back after the other."""
    start, stop = check_span(start, stop, tape.batch.x.shape[0])
    v = _check_vectors(cell, params, tape, v)
    for t in range(stop - 1, start - 1, -1):
        parts = np.split(v[None], len(cell.state_type._fields), axis=2)
        v = np.concatenate(Rows(cell, params, tape, t, t + 1).back(tuple(parts)).state, axis=2)[0]
    return np.asarray(v)


def jacobian_vector(cell: Any, params: Any, tape: Tape, v: Any, start: int, stop: int) -> Array:
    """∂state_stop/∂state_start v, (B, S), for v (B, S); holds the Jacobians of one step at a time."""
    start, stop = check_span(start, stop, tape.batch.x.shape[0])
    v = _check_vectors(cell, params, tape, v)
    for t in range(start, stop):
        v = np.einsum("bij,bj->bi", _jacobians(Rows(cell, params, tape, t, t + 1))[0], v)
    return np.asarray(v)


def _check_vectors(cell: Any, params: Any, tape: Tape, v: Any) -> Array:
    S = cell.hidden_size * len(cell.state_type._fields)
    return check_array("v", v, (tape.batch.x.shape[1], S), first_array(params).dtype, cell)
