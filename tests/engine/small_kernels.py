"""Kernels that compile in a second or two and use every part of the engine that has a plain twin."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastbptt.engine import activations, simd
from fastbptt.engine.jit import kernel, njit
from fastbptt.engine.pool import run_pieces
from fastbptt.engine.primitives import empty, maximum, zeros
from fastbptt.engine.tuples import named, refer


class Job(NamedTuple):
    x: Any
    out: Any


@njit
def shard(k, job):
    """out[k] = Σ_j fma(x_kj, x_kj, 1), by vectors, and the tail by a part of one."""
    flat, size = simd.flat(job.x), job.x.shape[1]
    n, total = simd.lanes(flat), simd.splat(0, flat)
    for j in range(0, size, n):
        v = simd.load_part(flat, k * size + j, size - j)
        total = total + simd.fma(v, v, simd.splat(1, flat))
    job.out[k] = simd.vsum(total) - (n - size % n) % n


@njit
def all_shards(x, out, pool):
    run_pieces(shard, refer(Job(x, out)), x.shape[0], pool)


@kernel
def squares(job, pool):
    """Σ_j (x_kj² + 1) for every row k of x, through a tuple by reference; the first element of the result is doubled."""
    x = named(job, Job).x
    out = zeros(maximum(x.shape[0], 1), x.dtype)
    all_shards(x, out, pool)
    copy = empty(out.size, x.dtype)
    for k in range(0, out.size, simd.lanes(out)):
        simd.store_part(copy, k, simd.load_part(out, k, out.size - k), out.size - k)
    copy[0] *= 2
    return copy


def check(pool: int = 0) -> None:
    """Fails where the numbers are wrong."""
    x = np.arange(35.0).reshape(5, 7)
    want = (x * x + 1).sum(axis=1)
    want[0] *= 2
    np.testing.assert_array_equal(squares((x, x[0]), pool), want)
    assert abs(activations.tanh(0.5) - np.tanh(0.5)) < 1e-15
