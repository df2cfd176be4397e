"""Whole matrix products on the tiles of `gemm.py`, for what is computed outside the scans.

NumPy's own product divides its sums by the number of threads of its BLAS; these are divided by the shapes alone, so the
results have the same bits for any number of threads.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arrays import Array, canonical
from . import simd
from .gemm import columns_times_panels, rows_times_panels
from .jit import kernel, njit
from .panels import pack_rows, padded, vectors_in
from .partition import MAX_SHARDS, power_of_two
from .pool import run_pieces
from .primitives import empty, minimum
from .threads import pool_for

BLOCK = 256        # rows of a block: of C in a product of rows, of the sum in a product over rows
SUMS = 8           # shards of a sum over rows, each of which has its own result
WORTH_SHARING = 4_000_000      # multiply-adds, about a tenth of a millisecond


class _Rows(NamedTuple):
    """C (N, Mp) = A (N, K) B, B in panels; shards of rows."""

    C: Array
    A: Array
    panels: Array
    shards: int


class _Columns(NamedTuple):
    """C (shards, M, Np) = Aᵀ B, part by part: A (K, M), B (K, N), panels (shards, BLOCK · Np)."""

    C: Array
    A: Array
    B: Array
    panels: Array
    shards: int


@njit
def _rows_shard(shard, job):
    N, K = job.A.shape
    width = job.C.shape[1]
    blocks = (N + BLOCK - 1) // BLOCK
    first, stop = blocks * shard // job.shards * BLOCK, minimum(N, blocks * (shard + 1) // job.shards * BLOCK)
    if first < stop:
        rows_times_panels(simd.flat(job.C), first * width, width, simd.flat(job.A), first * K, K, stop - first, K, job.panels, 0,
                          vectors_in(width, job.C), False)


@njit
def _columns_shard(shard, job):
    K, M = job.A.shape
    width = job.C.shape[2]
    vectors = vectors_in(width, job.C)
    C, panels = simd.flat(job.C), simd.flat(job.panels)
    at, own = shard * M * width, shard * BLOCK * width
    for i in range(M * width):
        C[at + i] = 0
    blocks = (K + BLOCK - 1) // BLOCK
    for block in range(blocks * shard // job.shards, blocks * (shard + 1) // job.shards):
        first = block * BLOCK
        count = minimum(BLOCK, K - first)
        pack_rows(panels, own, count, 0, simd.flat(job.B), first, count, count, job.B.shape[1], vectors)
        columns_times_panels(C, at, width, simd.flat(job.A), first * M, M, M, count, panels, own, vectors)


@kernel
def _rows_product(A, B, shards, pool):
    K, M = B.shape
    width = padded(M, B)
    panels = empty(K * width, B.dtype)
    pack_rows(panels, 0, K, 0, simd.flat(B), 0, K, K, M, vectors_in(width, B))
    C = empty((A.shape[0], width), B.dtype)
    run_pieces(_rows_shard, _Rows(C, A, panels, shards), shards, pool)
    return C


@kernel
def _columns_product(A, B, shards, pool):
    M, width = A.shape[1], padded(B.shape[1], B)
    C, panels = empty((shards, M, width), B.dtype), empty((shards, BLOCK * width), B.dtype)
    run_pieces(_columns_shard, _Columns(C, A, B, panels, shards), shards, pool)
    for s in range(1, shards):
        for i in range(M):
            for j in range(width):
                C[0, i, j] += C[s, i, j]
    return C[0]


def _shards(rows: int, most: int) -> int:
    return power_of_two(max(1, min(most, rows // (2 * BLOCK))))


def _flops(products: int, shards: int) -> float:
    """What `pool_for` is asked for: so many multiplications in so many pieces."""
    return 2.0 * products if shards > 1 and products >= WORTH_SHARING else 0.0


def times(A: Array, B: Array) -> Array:
    """A (N, K) B (K, M), both of one float dtype and C-contiguous."""
    shards = _shards(A.shape[0], MAX_SHARDS)
    with pool_for(_flops(A.size * B.shape[1], shards)) as pool:
        C: Array = _rows_product(canonical(A, A.dtype), canonical(B, B.dtype), shards, pool)
    return C if C.shape[1] == B.shape[1] else np.ascontiguousarray(C[:, :B.shape[1]])


def over_rows(A: Array, B: Array) -> Array:
    """Aᵀ B, (M, N), summed over the rows of A (K, M) and B (K, N), both of one float dtype."""
    M, shards = A.shape[1], _shards(A.shape[0], SUMS)
    if M % 4:
        A = np.concatenate([A, np.zeros((A.shape[0], -M % 4), A.dtype)], axis=1)
    with pool_for(_flops(A.size * B.shape[1], shards)) as pool:
        C: Array = _columns_product(canonical(A, A.dtype), canonical(B, B.dtype), shards, pool)
    return np.ascontiguousarray(C[:M, :B.shape[1]])
