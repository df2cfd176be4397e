"""Modified Gram–Schmidt on the rows of small matrices, float64: a third of the time of LAPACK's Householder reflections there."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array
from . import simd
from .jit import kernel, njit
from .panels import copy_row, gather_row, padded
from .primitives import zeros

TOGETHER = 4           # rows from which a direction is taken at a time: their sums do not wait for each other


@njit(forceinline=True)
def _project(rows, q, at, size, count):
    """Takes from `count` rows, the first at `at`, 1 or TOGETHER of them, their parts along the unit row q."""
    n_lanes = simd.lanes(rows)
    zero = simd.splat(0, rows)
    b, c, d = at + size, at + 2 * size, at + 3 * size
    s_a, s_b, s_c, s_d = zero, zero, zero, zero
    for j in range(0, size, n_lanes):
        v = simd.load(rows, q + j)
        s_a = simd.fma(v, simd.load(rows, at + j), s_a)
        if count > 1:
            s_b = simd.fma(v, simd.load(rows, b + j), s_b)
            s_c = simd.fma(v, simd.load(rows, c + j), s_c)
            s_d = simd.fma(v, simd.load(rows, d + j), s_d)
    s_a, s_b = simd.splat(-simd.vsum(s_a), rows), simd.splat(-simd.vsum(s_b), rows)
    s_c, s_d = simd.splat(-simd.vsum(s_c), rows), simd.splat(-simd.vsum(s_d), rows)
    for j in range(0, size, n_lanes):
        v = simd.load(rows, q + j)
        simd.store(rows, at + j, simd.fma(s_a, v, simd.load(rows, at + j)))
        if count > 1:
            simd.store(rows, b + j, simd.fma(s_b, v, simd.load(rows, b + j)))
            simd.store(rows, c + j, simd.fma(s_c, v, simd.load(rows, c + j)))
            simd.store(rows, d + j, simd.fma(s_d, v, simd.load(rows, d + j)))


@njit(forceinline=True)
def _norm(rows, at, size):
    n_lanes = simd.lanes(rows)
    total = simd.splat(0, rows)
    for j in range(at, at + size, n_lanes):
        total = simd.fma(simd.load(rows, j), simd.load(rows, j), total)
    return np.sqrt(simd.vsum(total))


@kernel
def _gram_schmidt(matrices, norms):
    B, k, S = matrices.shape
    size = padded(S, matrices)
    rows, flat = zeros(k * size, matrices.dtype), simd.flat(matrices)
    for b in range(B):
        for i in range(k):
            gather_row(rows, i * size, size, flat, (b * k + i) * S, S)
        # What is not above the rounding of the whole is nothing but rounding.
        lost = S * 2.220446049250313e-16 * _norm(rows, 0, k * size)
        for i in range(k):
            q = i * size
            norm = _norm(rows, q, size)
            norms[b, i] = norm if norm > lost else 0.0
            scale = simd.splat(1 / norm if norm > 0 else 0.0, rows)
            for j in range(q, q + size, simd.lanes(rows)):
                simd.store(rows, j, scale * simd.load(rows, j))
            after = i + 1
            while after + TOGETHER <= k:
                _project(rows, q, after * size, size, TOGETHER)
                after += TOGETHER
            while after < k:
                _project(rows, q, after * size, size, 1)
                after += 1
        for i in range(k):
            copy_row(flat, (b * k + i) * S, rows, i * size, S)


def gram_schmidt(matrices: Any) -> tuple[Array, Array]:
    """For matrices (B, k, S) in float64, k ≤ S: rows of length 1, each orthogonal to those before it, and |R_ii| (B, k).

    A length that is rounding alone, at most S ε ‖matrix‖_F, comes back as 0; its direction is whatever rounding left, made
    orthogonal as the others.
    """
    basis = np.array(matrices, np.float64, order="C")
    norms = np.empty(basis.shape[:2])
    _gram_schmidt(basis, norms)
    return basis, norms
