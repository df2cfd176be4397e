"""The input side of a scan: U x + b before the loop over time, dU, db and dx after it; for real vectors and for ids.

Real vectors: the bias is one more column of U, for an input that is always 1, so it needs no code of its own and its
gradient is a column of dU. Ids stand for one-hot vectors: their columns of U are gathered, never multiplied.
"""
from __future__ import annotations

from numba import types

from ..engine import simd
from ..engine.gemm import columns_times_panels, row_range, rows_times_panels
from ..engine.jit import overload
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


def input_panels(x, params, dims):
    """Floats for each row of the inputs as panels, and of ∂L/∂x: none for ids."""
    raise NotImplementedError


@overload(input_panels)
def _input_panels(x, params, dims):
    if is_ids(x):
        return lambda x, params, dims: (0, 0)
    return lambda x, params, dims: (padded(dims.I + 1, params.U), padded(dims.I, params.U))


def gather_inputs(x, out, index, count, dims, piece, pieces):
    """The inputs of `count` steps as panels, with the 1 that belongs to the bias; nothing for ids."""
    raise NotImplementedError


@overload(gather_inputs)
def _gather_inputs(x, out, index, count, dims, piece, pieces):
    if is_ids(x):
        return lambda x, out, index, count, dims, piece, pieces: None

    def gather(x, out, index, count, dims, piece, pieces):
        flat, n_lanes = simd.flat(x), simd.lanes(out)
        vectors = vectors_in(padded(dims.I + 1, out), out)
        for v in range(vectors * piece // pieces, vectors * (piece + 1) // pieces):
            place, step = panel_place(v * n_lanes, count, vectors, out)
            j = v * n_lanes
            if j + n_lanes <= dims.I:
                for m in range(count):
                    simd.store(out, place + m * step, simd.load(flat, index[m] * dims.I + j))
            else:
                for m in range(count):
                    simd.store(out, place + m * step, simd.load_part(flat, index[m] * dims.I + j, dims.I - j))
            if j <= dims.I and dims.I < j + n_lanes:
                for m in range(count):
                    out[place + dims.I - j + m * step] = 1
    return gather


def input_gradients(x, sums, params, panels, work, count, dims, piece, pieces):
    """Add `count` rows of ∂L/∂(gates) to a shard's sums of dU and db."""
    raise NotImplementedError


@overload(input_gradients)
def _input_gradients(x, sums, params, panels, work, count, dims, piece, pieces):
    if is_ids(x):
        def scattered(x, sums, params, panels, work, count, dims, piece, pieces):
            ids, width = simd.flat(x), layout(params).input_columns * dims.Hp
            begin, end = width // 4 * piece // pieces * 4, width // 4 * (piece + 1) // pieces * 4
            for m in range(count):
                column, delta = ids[work.indices[m]], m * dims.row + begin
                if 0 <= column and column < dims.I:     # the caller's array, which may have been written to since it was checked
                    add_row(sums, column * width + begin, work.delta, delta, end - begin)
                add_row(sums, dims.I * width + begin, work.delta, delta, end - begin)
        return scattered

    def dense(x, sums, params, panels, work, count, dims, piece, pieces):
        width = padded(dims.I + 1, sums)
        columns_times_panels(sums, 0, width, work.delta, 0, dims.row, layout(params).input_columns * dims.Hp, count, panels, 0,
                             vectors_in(width, sums), piece, pieces)
    return dense


def input_errors(x, dx, rows, weights, params, out, work, count, dims, piece, pieces):
    """Add ∂L/∂x = δ U of `count` rows to `rows` of dx (flat), if it is wanted (not of size 0)."""
    raise NotImplementedError


@overload(input_errors)
def _input_errors(x, dx, rows, weights, params, out, work, count, dims, piece, pieces):
    if is_ids(x):
        return lambda x, dx, rows, weights, params, out, work, count, dims, piece, pieces: None

    def dense(x, dx, rows, weights, params, out, work, count, dims, piece, pieces):
        if dx.size > 0:
            width = padded(dims.I, dx)
            first, stop = row_range(count, piece, pieces)
            rows_times_panels(out, first * width, width, work.delta, first * dims.row, dims.row, stop - first,
                              layout(params).input_columns * dims.Hp, weights, 0, vectors_in(width, dx), False)
            for m in range(first, stop):
                add_row(dx, rows[m] * dims.I, out, m * width, dims.I)
    return dense


def add_input_sum(x, dparams, sums, dims, piece, pieces):
    """Add a shard's sums to dU and db, for one piece of the units."""
    raise NotImplementedError


@overload(add_input_sum)
def _add_input_sum(x, dparams, sums, dims, piece, pieces):
    if is_ids(x):
        def scattered(x, dparams, sums, dims, piece, pieces):
            lay = layout(dparams)
            width = lay.input_columns * dims.Hp
            for p in range(lay.input_columns):
                g = (p + lay.first_gate) % lay.input_columns
                for j in range(dims.H * piece // pieces, dims.H * (piece + 1) // pieces):
                    for i in range(dims.I):
                        dparams.U[g * dims.H + j, i] += sums[i * width + p * dims.Hp + j]
                    dparams.b[g * dims.H + j] += sums[dims.I * width + p * dims.Hp + j]
        return scattered

    def dense(x, dparams, sums, dims, piece, pieces):
        lay = layout(dparams)
        width = padded(dims.I + 1, sums)
        flat = simd.flat(dparams.U)
        for p in range(lay.input_columns):
            g = (p + lay.first_gate) % lay.input_columns
            for j in range(dims.H * piece // pieces, dims.H * (piece + 1) // pieces):
                row = (p * dims.Hp + j) * width
                add_row(flat, (g * dims.H + j) * dims.I, sums, row, dims.I)
                dparams.b[g * dims.H + j] += sums[row + dims.I]
    return dense
