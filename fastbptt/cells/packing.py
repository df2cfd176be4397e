"""The weights as a scan reads them: U and W packed into panels, once per call (`engine/panels.py`)."""
from __future__ import annotations

from typing import Any, NamedTuple

from ..engine import simd
from ..engine.jit import njit, overload
from ..engine.panels import pack_rows, pack_transposed, padded, panel_place, vectors_in
from ..engine.pool import limit_of, run_pieces
from ..engine.primitives import empty
from .buffers import Panels
from .form import block_gates, layout
from .inputs import is_ids

SHARED_FLOATS = 2**15      # to copy: fewer are done before another thread has woken up


class Packing(NamedTuple):
    """What the pieces of a packing share."""

    panels: Panels
    x: Any
    params: Any
    dims: Any
    pieces: int


@njit
def sharing_of(floats, pool):
    """In how many pieces so many floats are copied or added, and by which pool."""
    return (4 * limit_of(pool), pool) if pool != 0 and floats >= SHARED_FLOATS else (1, 0)


@njit(allocates=True)
def forward_panels(batch, params, dims, pool):
    """The weights for a forward scan."""
    panels = Panels(empty(input_floats(batch.x, params, dims), params.U.dtype),
                    empty(dims.H * layout(params).recurrent * dims.Hp, params.U.dtype))
    pieces, threads = sharing_of(panels.inputs.size + panels.state.size, pool)
    run_pieces(_pack_forward, Packing(panels, batch.x, params, dims, pieces), pieces, threads)
    return panels


@njit(allocates=True, once=True)
def backward_panels(batch, params, dims, pool):
    """The weights for a backward scan."""
    panels = Panels(empty(input_gradient_floats(batch.x, params, dims), params.U.dtype),
                    empty(layout(params).recurrent * dims.Hp * dims.Hp, params.U.dtype))
    pieces, threads = sharing_of(panels.inputs.size + panels.state.size, pool)
    run_pieces(_pack_backward, Packing(panels, batch.x, params, dims, pieces), pieces, threads)
    return panels


@njit
def _pack_forward(piece, job):
    pack_inputs(job.panels.inputs, job.x, job.params, job.dims, piece, job.pieces)
    pack_state(job.panels.state, job.params, job.dims, piece, job.pieces)


@njit
def _pack_backward(piece, job):
    pack_input_gradient(job.panels.inputs, job.x, job.params, job.dims, piece, job.pieces)
    pack_state_gradient(job.panels.state, job.params, job.dims, piece, job.pieces)


# ---------------------------------------------------------------------------------------------- W


@njit
def pack_state(out, params, dims, piece, pieces):
    """W, transposed, as panels of K = H rows; the last gate apart if it has a product of its own."""
    W, H, Hp, gates = simd.flat(params.W), dims.H, dims.Hp, layout(params).recurrent
    shared = block_gates(params)
    vectors = vectors_in(shared * Hp, params.W)
    for g in range(shared):
        pack_transposed(out, 0, H, vectors, g * Hp, W, g * H, H, H, piece, pieces)
    for g in range(shared, gates):
        pack_transposed(out, H * g * Hp, H, vectors_in(Hp, out), 0, W, g * H, H, H, piece, pieces)


@njit
def pack_state_gradient(out, params, dims, piece, pieces):
    """W as panels of K = gates · Hp rows, zero where padded; the last gate apart if it has a product of its own."""
    W, H, Hp, gates = simd.flat(params.W), dims.H, dims.Hp, layout(params).recurrent
    shared, vectors = block_gates(params), vectors_in(dims.Hp, params.W)
    for g in range(shared):
        pack_rows(out, 0, shared * Hp, g * Hp, W, g * H, H, Hp, H, vectors, piece, pieces)
    for g in range(shared, gates):
        pack_rows(out, g * Hp * Hp, Hp, 0, W, g * H, H, Hp, H, vectors, piece, pieces)


# ---------------------------------------------------------------------------------------------- U


def input_floats(x, params, dims):
    """Floats of U as `pack_inputs` packs it; none for ids."""
    raise NotImplementedError


@overload(input_floats)
def _input_floats(x, params, dims):
    if is_ids(x):
        return lambda x, params, dims: 0
    return lambda x, params, dims: (dims.I + 1) * layout(params).input_columns * dims.Hp


def pack_inputs(out, x, params, dims, piece, pieces):
    """U, transposed, and b as panels of K = I + 1 rows, for `input_rows`; nothing for ids."""
    raise NotImplementedError


@overload(pack_inputs)
def _pack_inputs(out, x, params, dims, piece, pieces):
    if is_ids(x):
        return lambda out, x, params, dims, piece, pieces: None

    def dense(out, x, params, dims, piece, pieces):
        lay = layout(params)
        K = dims.I + 1
        vectors = vectors_in(lay.input_columns * dims.Hp, params.U)
        flat, b = simd.flat(params.U), params.b
        for p in range(lay.input_columns):
            g = (p + lay.first_gate) % lay.input_columns
            pack_transposed(out, 0, K, vectors, p * dims.Hp, flat, g * dims.H, dims.H, dims.I, piece, pieces)
            for j in range(dims.Hp * piece // pieces, dims.Hp * (piece + 1) // pieces):
                place, step = panel_place(p * dims.Hp + j, K, vectors, out)
                out[place + dims.I * step] = b[g * dims.H + j] if j < dims.H else 0
    return dense


def input_gradient_floats(x, params, dims):
    """Floats of U as `pack_input_gradient` packs it; none for ids."""
    raise NotImplementedError


@overload(input_gradient_floats)
def _input_gradient_floats(x, params, dims):
    if is_ids(x):
        return lambda x, params, dims: 0
    return lambda x, params, dims: layout(params).input_columns * dims.Hp * padded(dims.I, params.U)


def pack_input_gradient(out, x, params, dims, piece, pieces):
    """U as panels of K = gates · Hp rows, for ∂L/∂x = δ U; nothing for ids."""
    raise NotImplementedError


@overload(pack_input_gradient)
def _pack_input_gradient(out, x, params, dims, piece, pieces):
    if is_ids(x):
        return lambda out, x, params, dims, piece, pieces: None

    def dense(out, x, params, dims, piece, pieces):
        lay = layout(params)
        K = lay.input_columns * dims.Hp
        vectors = vectors_in(padded(dims.I, params.U), params.U)
        flat = simd.flat(params.U)
        for p in range(lay.input_columns):
            g = (p + lay.first_gate) % lay.input_columns
            pack_rows(out, 0, K, p * dims.Hp, flat, g * dims.H, dims.H, dims.Hp, dims.I, vectors, piece, pieces)
    return dense
