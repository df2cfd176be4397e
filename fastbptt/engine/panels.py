"""Between the user's arrays and the working buffers of the products: packing weights, gathering and scattering rows.

Ragged sizes are handled here alone. A working row has every gate padded with zeros to whole vectors: unit j of gate g stands
in column ``g * Hp + j`` with ``Hp = padded(H)``. Panels are those of `gemm.py`; `cells/packing.py` packs those of a cell.
"""
from __future__ import annotations

from . import simd
from .gemm import PANEL
from .jit import jitable, njit
from .primitives import maximum, minimum

CACHE_LINE = 64


@jitable
def padded(n, arr):
    """n rounded up to whole vectors of the array's dtype, and to a multiple of 4 as the products over columns need."""
    unit = maximum(simd.lanes(arr), 4)
    return (n + unit - 1) // unit * unit


@jitable
def leading(n, arr):
    """Row length for n columns: an odd number of cache lines if long, so that a column is spread over all sets of the cache."""
    line = CACHE_LINE // arr.itemsize
    lines = (n + line - 1) // line
    return n if n < 2 * line else (lines | 1) * line


@njit(forceinline=True)
def vectors_in(columns, arr):
    """Vectors in a padded number of columns."""
    return columns // simd.lanes(arr)


@njit(forceinline=True)
def panel_place(column, K, vectors, arr):
    """Offset of (k = 0, column) in panels of K rows, and the distance between rows of its panel."""
    width = PANEL * simd.lanes(arr)
    panel = column // width
    row = minimum(width, vectors * simd.lanes(arr) - panel * width)
    return panel * width * K + column - panel * width, row


@njit
def pack_transposed(out, at, K, vectors, first, W, row0, rows, cols, piece=0, pieces=1):
    """Panel columns first … first+rows-1 of k = 0 … cols-1 become W[row0 + r, k], then zeros up to padded(rows).

    W is flat, of `cols` columns; `first` is the start of a vector. Of `pieces` cuts by columns one.
    """
    n_lanes = simd.lanes(out)
    own = vectors_in(padded(rows, out), out)
    for r in range(own * piece // pieces * n_lanes, own * (piece + 1) // pieces * n_lanes, n_lanes):
        place, step = panel_place(first + r, K, vectors, out)
        for k in range(0, cols, n_lanes):
            simd.store_transposed(out, at + place + k * step, step, W, (row0 + r) * cols + k, cols, rows - r,
                                  minimum(cols - k, n_lanes))


@njit
def pack_rows(out, at, K, k0, W, row0, rows, last, cols, vectors, piece=0, pieces=1):
    """Panel rows k0 … k0+rows-1 become W[row0 + r, :cols], rows k0+rows … k0+last-1 zeros (W flat); of `pieces` one."""
    n_lanes = simd.lanes(out)
    for v in range(vectors * piece // pieces, vectors * (piece + 1) // pieces):
        place, step = panel_place(v * n_lanes, K, vectors, out)
        j = v * n_lanes
        place += at + k0 * step
        if j + n_lanes <= cols:
            for r in range(rows):
                simd.store(out, place + r * step, simd.load(W, (row0 + r) * cols + j))
        else:
            for r in range(rows):
                simd.store(out, place + r * step, simd.load_part(W, (row0 + r) * cols + j, cols - j))
        for r in range(rows, last):
            simd.store(out, place + r * step, simd.splat(0, out))


@njit(forceinline=True)
def load_tail(arr, i, left):
    """The vector arr[i:], with zeros in place of all but the first `left` elements, which are the row's."""
    return simd.load(arr, i) if left >= simd.lanes(arr) else simd.load_part(arr, i, left)


@njit(forceinline=True)
def store_tail(arr, i, value, left):
    """arr[i:] = value, but only the first `left` elements, which are the row's."""
    if left >= simd.lanes(arr):
        simd.store(arr, i, value)
    else:
        simd.store_part(arr, i, value, left)


@njit(forceinline=True)
def copy_row(out, o, src, s, n):
    """out[o : o + n] = src[s : s + n]."""
    n_lanes = simd.lanes(out)
    j = 0
    while j + n_lanes <= n:
        simd.store(out, o + j, simd.load(src, s + j))
        j += n_lanes
    if j < n:
        simd.store_part(out, o + j, simd.load_part(src, s + j, n - j), n - j)


@njit(forceinline=True)
def add_row(out, o, src, s, n):
    """out[o : o + n] += src[s : s + n]."""
    n_lanes = simd.lanes(out)
    j = 0
    while j + n_lanes <= n:
        simd.store(out, o + j, simd.load(out, o + j) + simd.load(src, s + j))
        j += n_lanes
    if j < n:
        simd.store_part(out, o + j, simd.load_part(out, o + j, n - j) + simd.load_part(src, s + j, n - j), n - j)


@njit(forceinline=True)
def gather_row(out, o, width, src, s, n):
    """out[o : o + width] = src[s : s + n], then zeros; width is padded to whole vectors."""
    n_lanes = simd.lanes(out)
    for j in range(0, width, n_lanes):
        simd.store(out, o + j, load_tail(src, s + j, n - j))
