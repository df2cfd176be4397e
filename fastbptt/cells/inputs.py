"""The input side of a scan: U x + b before the loop over time, dU, db and dx after it; for real vectors and for ids.

Real vectors: the bias is one more column of U, belonging to an input that is always 1, so it costs no code of its own and
its gradient is a column of dU. Ids stand for one-hot vectors: their columns of U are gathered, never multiplied.
"""
from __future__ import annotations

import numpy as np
from numba import types

from ..engine import simd
from ..engine.gemm import columns_times_panels, rows_times_panels
from ..engine.jit import njit, overload
from ..engine.panels import (
    add_row,
    gather_row,
    pack_rows,
    pack_transposed,
    padded,
    panel_place,
    vectors_in,
)
from .protocol import layout


def _is_ids(x):
    return isinstance(x.dtype, types.Integer)


# ---------------------------------------------------------------------------------------------- forward


def pack_inputs(x, params, dims):
    """What `input_rows` reads instead of U."""
    raise NotImplementedError


@overload(pack_inputs)
def _pack_inputs(x, params, dims):
    if _is_ids(x):
        return lambda x, params, dims: np.empty(0, params.U.dtype)

    def dense(x, params, dims):
        lay = layout(params)
        K = dims.I + 1
        vectors = vectors_in(lay.in_count * dims.Hp, params.U)
        out = np.zeros(K * vectors * simd.lanes(params.U), params.U.dtype)
        flat, b = params.U.ravel(), params.b
        for p in range(lay.in_count):
            g = (p + lay.in_turn) % lay.in_count
            pack_transposed(out, 0, K, vectors, p * dims.Hp, flat, g * dims.H, dims.H, dims.I)
            for j in range(dims.H):
                place, step = panel_place(p * dims.Hp + j, K, vectors, out)
                out[place + dims.I * step] = b[g * dims.H + j]
        return out
    return dense


def input_rows(x, z, xs, weights, params, places, count, dims):
    """z = U x + b for the `count` steps at `places`."""
    raise NotImplementedError


@overload(input_rows)
def _input_rows(x, z, xs, weights, params, places, count, dims):
    if _is_ids(x):
        def gathered(x, z, xs, weights, params, places, count, dims):
            lay = layout(params)
            ids, U, b = x.ravel(), params.U, params.b
            for m in range(count):
                column = ids[places[m]]
                for p in range(lay.in_count):
                    g = (p + lay.in_turn) % lay.in_count
                    at = m * dims.row + p * dims.Hp
                    for j in range(dims.H):
                        z[at + j] = U[g * dims.H + j, column] + b[g * dims.H + j]
                    for j in range(dims.H, dims.Hp):
                        z[at + j] = 0
        return gathered

    def dense(x, z, xs, weights, params, places, count, dims):
        flat = x.ravel()
        width = padded(dims.I + 1, z)
        for m in range(count):
            gather_row(xs, m * dims.x_row, width, flat, places[m] * dims.I, dims.I)
            xs[m * dims.x_row + dims.I] = 1
        rows_times_panels(z, 0, dims.row, xs, 0, dims.x_row, count, dims.I + 1, weights, 0,
                          vectors_in(layout(params).in_count * dims.Hp, z), False)
    return dense


# ---------------------------------------------------------------------------------------------- backward


def input_partial(x, params, dims):
    """Size of one shard's part of dU and db."""
    raise NotImplementedError


@overload(input_partial)
def _input_partial(x, params, dims):
    if _is_ids(x):      # a row for every id, and one for the bias
        return lambda x, params, dims: (dims.I + 1) * layout(params).in_count * dims.Hp
    return lambda x, params, dims: layout(params).in_count * dims.Hp * padded(dims.I + 1, params.U)


def input_gradients(x, dx, partial, weights, params, delta, places, count, dims):
    """Add `count` rows of ∂L/∂(gates) to a shard's part of dU and db, and their products with U to dx."""
    raise NotImplementedError


@overload(input_gradients)
def _input_gradients(x, dx, partial, weights, params, delta, places, count, dims):
    if _is_ids(x):
        def scattered(x, dx, partial, weights, params, delta, places, count, dims):
            ids = x.ravel()
            width = layout(params).in_count * dims.Hp
            for m in range(count):
                add_row(partial, ids[places[m]] * width, delta, m * dims.row, width)
                add_row(partial, dims.I * width, delta, m * dims.row, width)
        return scattered

    def dense(x, dx, partial, weights, params, delta, places, count, dims):
        columns = layout(params).in_count * dims.Hp
        width = padded(dims.I + 1, delta)
        vectors = vectors_in(width, delta)
        n_lanes = simd.lanes(delta)
        flat = x.ravel()
        xs = np.empty(count * width, delta.dtype)
        for v in range(vectors):
            place, step = panel_place(v * n_lanes, count, vectors, delta)
            j = v * n_lanes
            for m in range(count):
                simd.store(xs, place + m * step, simd.load_part(flat, places[m] * dims.I + j, dims.I - j))
        place, step = panel_place(dims.I, count, vectors, delta)
        for m in range(count):
            xs[place + m * step] = 1
        columns_times_panels(partial, 0, width, delta, 0, dims.row, columns, count, xs, 0, vectors)
        if dx.size > 0:
            width = padded(dims.I, delta)
            out = np.empty(count * width, delta.dtype)
            rows_times_panels(out, 0, width, delta, 0, dims.row, count, columns, weights, 0, vectors_in(width, delta), False)
            to = dx.ravel()
            for m in range(count):
                add_row(to, places[m] * dims.I, out, m * width, dims.I)
    return dense


def pack_input_gradient(x, params, dims):
    """U in panels for ∂L/∂x = δ U."""
    raise NotImplementedError


@overload(pack_input_gradient)
def _pack_input_gradient(x, params, dims):
    if _is_ids(x):
        return lambda x, params, dims: np.empty(0, params.U.dtype)

    def dense(x, params, dims):
        lay = layout(params)
        K = lay.in_count * dims.Hp
        vectors = vectors_in(padded(dims.I, params.U), params.U)
        out = np.zeros(K * vectors * simd.lanes(params.U), params.U.dtype)
        flat = params.U.ravel()
        for p in range(lay.in_count):
            g = (p + lay.in_turn) % lay.in_count
            pack_rows(out, 0, K, p * dims.Hp, flat, g * dims.H, dims.H, dims.I, vectors)
        return out
    return dense


def add_input_partial(x, dparams, partial, dims):
    """Add a shard's part to dU and db."""
    raise NotImplementedError


@overload(add_input_partial)
def _add_input_partial(x, dparams, partial, dims):
    if _is_ids(x):
        def scattered(x, dparams, partial, dims):
            lay = layout(dparams)
            width = lay.in_count * dims.Hp
            for p in range(lay.in_count):
                g = (p + lay.in_turn) % lay.in_count
                for j in range(dims.H):
                    for i in range(dims.I):
                        dparams.U[g * dims.H + j, i] += partial[i * width + p * dims.Hp + j]
                    dparams.b[g * dims.H + j] += partial[dims.I * width + p * dims.Hp + j]
        return scattered

    def dense(x, dparams, partial, dims):
        lay = layout(dparams)
        width = padded(dims.I + 1, partial)
        flat = dparams.U.ravel()
        for p in range(lay.in_count):
            g = (p + lay.in_turn) % lay.in_count
            for j in range(dims.H):
                row = (p * dims.Hp + j) * width
                add_row(flat, (g * dims.H + j) * dims.I, partial, row, dims.I)
                dparams.b[g * dims.H + j] += partial[row + dims.I]
    return dense


@njit
def gather_panels(source, initial, before, count, dims):
    """States before `count` steps as panels: row `before` of `source`, or where it is negative row −1−before of `initial`."""
    n_lanes = simd.lanes(source)
    vectors = vectors_in(dims.Hp, source)
    out = np.empty(count * dims.Hp, source.dtype)
    for v in range(vectors):
        place, step = panel_place(v * n_lanes, count, vectors, source)
        j = v * n_lanes
        for m in range(count):
            at = before[m]
            if at >= 0:
                value = simd.load_part(source, at * dims.H + j, dims.H - j)
            else:
                value = simd.load_part(initial, (-1 - at) * dims.H + j, dims.H - j)
            simd.store(out, place + m * step, value)
    return out
