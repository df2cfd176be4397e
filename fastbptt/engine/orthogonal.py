"""Modified Gram–Schmidt on the rows of small float64 matrices, in a third of the time of LAPACK's Householder reflections."""
from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..arrays import Array
from . import simd
from .jit import kernel, njit
from .panels import copy_row, gather_row, padded
from .primitives import empty, zeros

TOGETHER = 4           # rows projected at a time, with independent sums
EPSILON = 2.0**-52
SURE = 4.0             # times the rounding error: the length of a longer row needs no closer look
SAFE = 400             # powers of two within which squares and their sums stay in the range


@njit(forceinline=True)
def _project(rows, q, at, size, count):
    """Subtract from `count` rows (1 or TOGETHER, the first at `at`) their projections onto the unit row q."""
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


@njit(forceinline=True)
def _dot(a, i, b, j, size):
    total = simd.splat(0, a)
    for s in range(0, size, simd.lanes(a)):
        total = simd.fma(simd.load(a, i + s), simd.load(b, j + s), total)
    return simd.vsum(total)


@njit(forceinline=True)
def _add(out, o, factor, src, i, size):
    """out[o:] += factor * src[i:]."""
    times = simd.splat(factor, out)
    for s in range(0, size, simd.lanes(out)):
        simd.store(out, o + s, simd.fma(times, simd.load(src, i + s), simd.load(out, o + s)))


@njit(forceinline=True)
def _normalise(rows, at, norm, size):
    scale = simd.splat(1 / norm, rows)
    for j in range(at, at + size, simd.lanes(rows)):
        simd.store(rows, j, scale * simd.load(rows, j))


@njit
def _remainder(rows, given, lengths, i, k, size, error, smallest):
    """The length of row i after its projections; 0 where it may be nothing but rounding error.

    Row i is Σ x_j row_j plus a remainder. If every row is exact to within `error`, the remainder is to within error |(1, x)|.
    |x| is at most about the length of the row divided by `smallest`, the smallest remainder so far.
    """
    q, work = i * size, k * size
    norm = _norm(rows, q, size)
    if norm > SURE * error and norm * smallest > SURE * error * _norm(given, q, size):
        return norm
    copy_row(given, work, given, q, size)
    squares = 1.0
    for back in range(i):
        j = i - 1 - back
        if lengths[j] > 0:
            x = _dot(given, work, rows, j * size, size) / lengths[j]
            squares += x * x
            _add(given, work, -x, given, j * size, size)
    return 0.0 if norm <= error * np.sqrt(squares) else norm


@njit
def _fill(rows, lengths, spare, k, size, S):
    """Give lost rows any direction orthogonal to all others; projected thrice, since little of a spare row may remain."""
    for i in range(k):
        if lengths[i] == 0:
            q = i * size
            gather_row(rows, q, size, spare, i * S, S)
            for _ in range(3):
                for j in range(k):
                    if j < i or lengths[j] > 0:
                        _project(rows, j * size, q, size, 1)
                _normalise(rows, q, _norm(rows, q, size), size)


@njit
def _lost_last(order, lengths, b, k, work):
    """Move the lost rows after all others; keep the order otherwise."""
    n = 0
    for lost in range(2):
        for i in range(k):
            if (lengths[i] == 0) == (lost == 1):
                work[n] = order[b, i]
                n += 1
    for i in range(k):
        order[b, i] = work[i]


@kernel
def _gram_schmidt(matrices, norms, order, spare):
    B, k, S = matrices.shape
    size = padded(S, matrices)
    given, rows = zeros((k + 1) * size, matrices.dtype), zeros(k * size, matrices.dtype)
    lengths, work, flat = empty(k, matrices.dtype), empty(k, order.dtype), simd.flat(matrices)
    for b in range(B):
        for i in range(k):
            gather_row(given, i * size, size, flat, (b * k + order[b, i]) * S, S)
            copy_row(rows, i * size, given, i * size, size)
        smallest = _norm(given, 0, k * size)
        error = S * EPSILON * smallest
        for i in range(k):
            q = i * size
            lengths[i] = _remainder(rows, given, lengths, i, k, size, error, smallest)
            if lengths[i] == 0:
                continue
            if lengths[i] < smallest:
                smallest = lengths[i]
            _normalise(rows, q, lengths[i], size)
            after = i + 1
            while after + TOGETHER <= k:
                _project(rows, q, after * size, size, TOGETHER)
                after += TOGETHER
            while after < k:
                _project(rows, q, after * size, size, 1)
                after += 1
        _fill(rows, lengths, simd.flat(spare), k, size, S)
        for i in range(k):
            copy_row(flat, (b * k + order[b, i]) * S, rows, i * size, S)
            norms[b, order[b, i]] = lengths[i]
        _lost_last(order, lengths, b, k, work)


@lru_cache(maxsize=16)
def _spare(k: int, S: int) -> Array:
    """Random, with a fixed seed: unit vectors may span an invariant subspace."""
    return np.random.default_rng(0).normal(size=(k, S))


def gram_schmidt(matrices: Any, order: Array | None = None) -> tuple[Array, Array]:
    """For matrices (B, k, S) in float64, k ≤ S: rows of length 1, each orthogonal to those before it, and |R_ii| (B, k).

    A length that may be rounding error alone is returned as 0: at most S ε ‖matrix‖_F |(1, x)|, where x are the coefficients
    of the row in those before it, which carry over their rounding errors. Such a row is lost: it gets any direction orthogonal
    to all others, once they have theirs. Matrices of extreme scale are scaled first, so that no square leaves the range.

    `order` (B, k): the order in which the rows are taken, that of the matrix by default. It is changed in place: lost rows
    move to its end, ready for the next call.
    """
    basis = np.array(matrices, np.float64, order="C")
    B, k, S = basis.shape
    order = np.tile(np.arange(k), (B, 1)) if order is None else order
    exponents = np.frexp(np.abs(basis).max(axis=(1, 2)))[1]
    scaled = bool((np.abs(exponents) > SAFE).any())
    if scaled:
        basis = np.ldexp(basis, -exponents[:, None, None])
    norms = np.empty((B, k))
    _gram_schmidt(basis, norms, order, _spare(k, S))
    return basis, np.ldexp(norms, exponents[:, None]) if scaled else norms
