"""The recurrent products of cells whose gates all see h_{t−1}: W in panels, dW from δ and the states."""
from __future__ import annotations

import numpy as np

from ..engine import simd
from ..engine.gemm import columns_times_panels
from ..engine.jit import njit
from ..engine.panels import add_row, pack_rows, pack_transposed, vectors_in
from .inputs import gather_panels


@njit(allocates=True)
def forward_recurrent(W, first, gates, dims):
    """`gates` gates of W from gate `first` on, transposed, as panels of K = H rows."""
    vectors = vectors_in(gates * dims.Hp, W)
    out = np.empty(dims.H * vectors * simd.lanes(W), W.dtype)
    for g in range(gates):
        pack_transposed(out, 0, dims.H, vectors, g * dims.Hp, simd.flat(W), (first + g) * dims.H, dims.H, dims.H)
    return out


@njit(allocates=True)
def backward_recurrent(W, first, gates, dims):
    """`gates` gates of W from gate `first` on as panels of K = gates · Hp rows, zero where padded."""
    K, vectors = gates * dims.Hp, vectors_in(dims.Hp, W)
    out = np.empty(K * vectors * simd.lanes(W), W.dtype)
    for g in range(gates):
        pack_rows(out, 0, K, g * dims.Hp, simd.flat(W), (first + g) * dims.H, dims.H, dims.Hp, dims.H, vectors)
    return out


@njit
def recurrent_gradient(partial, tape, initial, work, first, gates, count, dims):
    """partial (gates · Hp, Hp) += δᵀ h_{t−1} over `count` rows, for `gates` gates from gate `first` of the row on."""
    gather_panels(work.scratch, simd.flat(tape.h), simd.flat(initial.h), work.before, count, dims)
    columns_times_panels(partial, 0, dims.Hp, work.delta, first * dims.Hp, dims.row, gates * dims.Hp, count, work.scratch, 0,
                         vectors_in(dims.Hp, partial))


@njit
def add_recurrent(dW, partial, gates, dims):
    """dW += a shard's part."""
    flat = simd.flat(dW)
    for g in range(gates):
        for j in range(dims.H):
            add_row(flat, (g * dims.H + j) * dims.H, partial, (g * dims.Hp + j) * dims.Hp, dims.H)
