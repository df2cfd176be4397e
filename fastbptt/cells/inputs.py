"""The input side of a scan: U x + b before the loop over time, dU, db and dx after it; for real vectors and for ids.

Real vectors: the bias is one more column of U, for an input that is always 1, so it needs no code of its own and its
gradient is a column of dU. Ids stand for one-hot vectors: their columns of U are gathered, never multiplied.
"""
from __future__ import annotations

from numba import types

from ..engine import simd
from ..engine.gemm import columns_times_panels, rows_times_panels
from ..engine.jit import njit, overload
from ..engine.panels import (
    add_row,
    gather_row,
    padded,
    panel_place,
    vectors_in,
)
from ..engine.primitives import maximum, minimum
from .buffers import input_sum_size
from .form import layout


def is_ids(x):
    return isinstance(x.dtype, types.Integer)


# ---------------------------------------------------------------------------------------------- forward


def input_rows(x, z, xs, weights, params, index, count, dims):
    """z = U x + b for the `count` steps with these flat indices."""
    raise NotImplementedError


@overload(input_rows)
def _input_rows(x, z, xs, weights, params, index, count, dims):
    if is_ids(x):
        def gathered(x, z, xs, weights, params, index, count, dims):
            lay = layout(params)
            ids, U, b = simd.flat(x), params.U, params.b
            for m in range(count):
                column = minimum(maximum(ids[index[m]], 0), dims.I - 1)     # the caller's array: see `scattered`
                for p in range(lay.input_columns):
                    g = (p + lay.first_gate) % lay.input_columns
                    at = m * dims.row + p * dims.Hp
                    for j in range(dims.H):
                        z[at + j] = U[g * dims.H + j, column] + b[g * dims.H + j]
                    for j in range(dims.H, dims.Hp):
                        z[at + j] = 0
        return gathered

    def dense(x, z, xs, weights, params, index, count, dims):
        flat = simd.flat(x)
        width = padded(dims.I + 1, z)
        for m in range(count):
            gather_row(xs, m * dims.x_row, width, flat, index[m] * dims.I, dims.I)
            xs[m * dims.x_row + dims.I] = 1
        rows_times_panels(z, 0, dims.row, xs, 0, dims.x_row, count, dims.I + 1, weights, 0,
                          vectors_in(layout(params).input_columns * dims.Hp, z), False)
    return dense


# ---------------------------------------------------------------------------------------------- backward


def input_sum(x, params, dims):
    """Size of one shard's sums of dU and db."""
    raise NotImplementedError


@overload(input_sum)
def _input_sum(x, params, dims):
    ids = is_ids(x)
    return lambda x, params, dims: input_sum_size(layout(params).input_columns, dims.I, dims.Hp, ids, params.U)


def input_gradients(x, sums, params, work, count, dims):
    """Add `count` rows of ∂L/∂(gates) to a shard's sums of dU and db."""
    raise NotImplementedError


@overload(input_gradients)
def _input_gradients(x, sums, params, work, count, dims):
    if is_ids(x):
        def scattered(x, sums, params, work, count, dims):
            ids = simd.flat(x)
            width = layout(params).input_columns * dims.Hp
            for m in range(count):
                column = ids[work.indices[m]]
                if 0 <= column and column < dims.I:     # the caller's array, which may have been written to since it was checked
                    add_row(sums, column * width, work.delta, m * dims.row, width)
                add_row(sums, dims.I * width, work.delta, m * dims.row, width)
        return scattered

    def dense(x, sums, params, work, count, dims):
        columns = layout(params).input_columns * dims.Hp
        width = padded(dims.I + 1, sums)
        vectors = vectors_in(width, sums)
        gather_inputs(work.scratch, simd.flat(x), work.indices, count, vectors, dims)
        columns_times_panels(sums, 0, width, work.delta, 0, dims.row, columns, count, work.scratch, 0, vectors)
    return dense


@njit
def gather_inputs(out, x, index, count, vectors, dims):
    """The inputs of `count` steps as panels, with a 1 for the bias."""
    n_lanes = simd.lanes(out)
    for v in range(vectors):
        place, step = panel_place(v * n_lanes, count, vectors, out)
        j = v * n_lanes
        if j + n_lanes <= dims.I:
            for m in range(count):
                simd.store(out, place + m * step, simd.load(x, index[m] * dims.I + j))
        else:
            for m in range(count):
                simd.store(out, place + m * step, simd.load_part(x, index[m] * dims.I + j, dims.I - j))
    place, step = panel_place(dims.I, count, vectors, out)
    for m in range(count):
        out[place + m * step] = 1


def input_errors(x, dx, rows, weights, params, work, count, dims):
    """Add ∂L/∂x = δ U of `count` rows to `rows` of dx (flat), unless dx is of size 0."""
    raise NotImplementedError


@overload(input_errors)
def _input_errors(x, dx, rows, weights, params, work, count, dims):
    if is_ids(x):
        return lambda x, dx, rows, weights, params, work, count, dims: None

    def dense(x, dx, rows, weights, params, work, count, dims):
        if dx.size > 0:
            width = padded(dims.I, dx)
            rows_times_panels(work.scratch, 0, width, work.delta, 0, dims.row, count, layout(params).input_columns * dims.Hp,
                              weights, 0, vectors_in(width, dx), False)
            for m in range(count):
                add_row(dx, rows[m] * dims.I, work.scratch, m * width, dims.I)
    return dense


def add_input_sum(x, dparams, sums, dims):
    """Add a shard's sums to dU and db."""
    raise NotImplementedError


@overload(add_input_sum)
def _add_input_sum(x, dparams, sums, dims):
    if is_ids(x):
        def scattered(x, dparams, sums, dims):
            lay = layout(dparams)
            width = lay.input_columns * dims.Hp
            for p in range(lay.input_columns):
                g = (p + lay.first_gate) % lay.input_columns
                for j in range(dims.H):
                    for i in range(dims.I):
                        dparams.U[g * dims.H + j, i] += sums[i * width + p * dims.Hp + j]
                    dparams.b[g * dims.H + j] += sums[dims.I * width + p * dims.Hp + j]
        return scattered

    def dense(x, dparams, sums, dims):
        lay = layout(dparams)
        width = padded(dims.I + 1, sums)
        flat = simd.flat(dparams.U)
        for p in range(lay.input_columns):
            g = (p + lay.first_gate) % lay.input_columns
            for j in range(dims.H):
                row = (p * dims.Hp + j) * width
                add_row(flat, (g * dims.H + j) * dims.I, sums, row, dims.I)
                dparams.b[g * dims.H + j] += sums[row + dims.I]
    return dense
