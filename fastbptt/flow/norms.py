"""Norms of step Jacobians and of their products, the bound that they obey, and the spectral radius."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..cells import init
from ..cells.rnn import RNN
from ..engine.activations import NAMES, TABLE
from ..errors import check_lags
from .stack import StackSteps, linear_steps

BLOCK = 4              # vectors that a step of the iteration adds
CLOSE = 1e-13          # relative change of the square of the largest singular value that ends the iteration
MOST_FLOATS = 2**23    # of the bases of the steps treated together
TINY = float(np.finfo(float).tiny)


def largest_singular_values(steps: StackSteps, lag: int) -> Array:
    """(T−lag+1, B): ‖∂state_{t+lag}/∂state_t‖₂ of every t, by block Lanczos iteration on products with vectors."""
    n = steps.T - lag + 1
    together = max(1, MOST_FLOATS // (steps.B * steps.size * min(steps.size, 8 * BLOCK)))
    return np.concatenate([_largest(steps, first, min(together, n - first), lag) for first in range(0, n, together)])


def _largest(steps: StackSteps, first: int, n: int, lag: int) -> Array:
    """Of n products from state `first` on: √ of the largest Ritz value of Jᵀ J in the Krylov space of a few random vectors.

    Unlike power iteration, this keeps all earlier directions: where the largest singular values are close to one another,
    as for orthogonal weights, power iteration needs hundreds of steps. It ends at the latest with all S directions.
    """
    start = np.random.default_rng(0).normal(size=(min(BLOCK, steps.size), steps.size))
    block = _orthonormal(np.broadcast_to(start, (n, steps.B, *start.shape)))
    basis, images = block[:, :, :0], block[:, :, :0]
    square, scale = np.zeros((n, steps.B)), np.zeros(0)
    while True:
        moved = block
        for j in range(first, first + lag):
            moved = steps.jvp(slice(j, j + n), moved)
        if not scale.size:        # so that squares of products that vanish or explode stay in range
            scale = np.maximum(np.abs(moved).max(axis=(2, 3), keepdims=True), TINY)
        moved = moved / scale
        basis, images = np.concatenate([basis, block], axis=2), np.concatenate([images, moved], axis=2)
        before, square = square, np.linalg.eigvalsh(images @ images.swapaxes(2, 3))[..., -1]
        left = steps.size - basis.shape[2]
        if left == 0 or (np.abs(square - before) <= CLOSE * square).all():
            return np.sqrt(np.maximum(square, 0)) * scale[:, :, 0, 0]
        for j in reversed(range(first, first + lag)):
            moved = steps.vjp(slice(j, j + n), moved)[1]
        block = moved[:, :, :left] / np.maximum(np.abs(moved).max(axis=(2, 3), keepdims=True), TINY)
        for _ in range(3):        # the third for directions that are only rounding error, once the space is exhausted
            block = _orthonormal(block - (block @ basis.swapaxes(2, 3)) @ basis)


def _orthonormal(rows: Array) -> Array:
    """An orthonormal basis of the span of m rows, (n, B, m, S)."""
    return np.ascontiguousarray(np.linalg.qr(rows.swapaxes(2, 3))[0].swapaxes(2, 3))


def steepest(cell: Any) -> float:
    """γ = max σ′ of an RNN; of a gated cell that of the candidate's tanh."""
    return TABLE[NAMES.index(getattr(cell, "activation", "tanh"))].steepest


def growth_bound(cell: Any, params: Any) -> float | None:
    """(1−α) + αγ‖W‖₂, which no step of an RNN exceeds; None for cells with gates and for stacks."""
    if not isinstance(cell, RNN):
        return None
    W = np.linalg.norm(cell.apply_mask(params).W.astype(np.float64), 2)
    return float((1 - cell.leak) + cell.leak * steepest(cell) * W)


def spectral_radius(cell: Any, params: Any) -> float | None:
    """ρ(W), the largest modulus of the eigenvalues of an RNN's W; None for cells with gates and for stacks."""
    if not isinstance(cell, RNN):
        return None
    return init.spectral_radius(cell.apply_mask(params).W)


class JacobianNorms(NamedTuple):
    """Spectral norms beside their bound."""

    steps: Array
    """(T, B): ‖∂state_{t+1}/∂state_t‖₂."""
    products: Array
    """(T−lag+1, B): ‖∂state_{t+lag}/∂state_t‖₂."""
    bound: Array
    """(T−lag+1, B): ((1−α) + αγ‖W‖)^lag for an RNN, for other cells the product of the norms of the steps."""


def jacobian_norms(cell: Any, params: Any, tape: Any, lag: int = 1) -> JacobianNorms:
    """The largest singular value of every step Jacobian and of every product over `lag` steps, beside the bound.

    ‖∂h_t/∂h_k‖ ≤ Π_j ‖∂h_j/∂h_{j−1}‖ ≤ ((1−α) + αγ‖W‖)^{t−k}, γ = max σ′. In float64, by block Lanczos iteration on
    products with vectors: no Jacobian is formed.

    Parameters
    ----------
    cell, params, tape
        As for `jacobians`.
    lag : int
        1 … T.

    Returns
    -------
    JacobianNorms

    Raises
    ------
    TypeError, ValueError
        As `jacobians`, and if lag is not an integer in 1 … T.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=1, hidden_size=1, activation="identity")
    >>> params = fb.RNNParams(np.ones((1, 1)), np.full((1, 1), 0.5), np.zeros(1))
    >>> norms = fb.jacobian_norms(cell, params, fb.forward(cell, params, np.ones((4, 1, 1))), lag=2)
    >>> norms.products.ravel(), norms.bound.ravel()
    (array([0.25, 0.25, 0.25]), array([0.25, 0.25, 0.25]))

    References
    ----------
    R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.
    """
    steps = linear_steps(cell, params, tape, np.float64)
    lag = check_lags(lag, steps.T, "lag")
    single = largest_singular_values(steps, 1)
    products = single if lag == 1 else largest_singular_values(steps, lag)
    growth = growth_bound(cell, params)
    if growth is not None:
        # A padded step is the identity, which a contracting W does not bound.
        counted = np.arange(steps.T)[:, None] < tape.batch.lengths
        per_step = np.where(counted, growth, 1.0)
    else:
        per_step = single
    windows = np.lib.stride_tricks.sliding_window_view(per_step, lag, axis=0)
    return JacobianNorms(single, products, windows.prod(axis=-1))
