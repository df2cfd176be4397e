"""The small kernels around the scans: weights in the order of threads, and sums in a fixed order."""
from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from .shape import Shape
from .target import compile_kernel, cuda

BLOCK = 128          # threads of a block


def packing(shape: Shape, gates: int, dtype: str) -> Any:
    """pack(W, transposed, packed): W (gates·H, H) in the order in which the threads of a scan read it, 0 beyond H."""
    H, K, split, threads, zero = shape.H, shape.weights, shape.split, shape.threads, np.dtype(dtype).type(0)
    size = gates * K * threads

    def pack(W, transposed, packed):
        n = cuda.grid(1)
        if n < size:
            tid, rest = n // 4 % threads, n // 4 // threads
            q, k = rest // (K // 4), rest % (K // 4)
            j, i = tid // split, (k * split + tid % split) * 4 + n % 4
            there = i < H and j < H
            row, column = (i, j) if transposed else (j, i)
            packed[n] = W[(q * H + row) * H + column] if there else zero
    return pack


def collect(outgoing, bounds, state, states, passes, B, H):
    """Add to state (states, B, H) what passes bounds[b] … bounds[b+1]−1 of each sequence left: outgoing (states, passes, H)."""
    n = cuda.grid(1)
    if n < states * B * H:
        k, b, j = n // (B * H), n // H % B, n % H
        total = state[n]
        for i in range(bounds[b], bounds[b + 1]):
            total += outgoing[(k * passes + i) * H + j]
        state[n] = total


def scatter(delta, order, starts, out, columns, stride, symbols):
    """out (symbols, columns): for each symbol the sum of delta's rows, `stride` long, at the steps that show it, in order."""
    n = cuda.grid(1)
    if n < symbols * columns:
        i, c = n // columns, n % columns
        total = out[n]
        for m in range(starts[i], starts[i + 1]):
            total += delta[order[m] * stride + c]
        out[n] = total


@cache
def pack_kernel(shape: Shape, gates: int, dtype: str) -> Any:
    """`packing`, compiled."""
    return compile_kernel(packing(shape, gates, dtype), BLOCK)


@cache
def compiled(function: Any) -> Any:
    """`collect` or `scatter`, compiled."""
    return compile_kernel(function, BLOCK)


def blocks(size: int) -> int:
    """Blocks for so many threads."""
    return -(-size // BLOCK)
