"""The weights as a scan reads them: U and W packed into panels, once per call (`engine/panels.py`)."""
from __future__ import annotations

from ..engine import simd
from ..engine.jit import njit, overload
from ..engine.panels import pack_rows, pack_transposed, padded, panel_place, vectors_in
from ..engine.primitives import empty
from .buffers import Panels
from .form import block_gates, layout
from .inputs import is_ids


@njit(allocates=True, once=True)
def forward_panels(batch, params, dims):
    """The weights for a forward scan."""
    return Panels(pack_inputs(batch.x, params, dims), pack_forward(params, dims))


@njit(allocates=True, once=True)
def backward_panels(batch, params, dims):
    """The weights for a backward scan."""
    return Panels(pack_input_gradient(batch.x, params, dims), pack_backward(params, dims))


# ---------------------------------------------------------------------------------------------- W


@njit(allocates=True, once=True)
def pack_forward(params, dims):
    """W, transposed, as panels of K = H rows; the last gate apart if it has a product of its own."""
    W, H, Hp, gates = simd.flat(params.W), dims.H, dims.Hp, layout(params).recurrent
    shared = block_gates(params)
    vectors = vectors_in(shared * Hp, params.W)
    out = empty(H * gates * Hp, params.W.dtype)
    for g in range(shared):
        pack_transposed(out, 0, H, vectors, g * Hp, W, g * H, H, H)
    for g in range(shared, gates):
        pack_transposed(out, H * g * Hp, H, vectors_in(Hp, out), 0, W, g * H, H, H)
    return out


@njit(allocates=True, once=True)
def pack_backward(params, dims):
    """W as panels of K = gates · Hp rows, zero where padded; the last gate apart if it has a product of its own."""
    W, H, Hp, gates = simd.flat(params.W), dims.H, dims.Hp, layout(params).recurrent
    shared, vectors = block_gates(params), vectors_in(dims.Hp, params.W)
    out = empty(gates * Hp * Hp, params.W.dtype)
    for g in range(shared):
        pack_rows(out, 0, shared * Hp, g * Hp, W, g * H, H, Hp, H, vectors)
    for g in range(shared, gates):
        pack_rows(out, g * Hp * Hp, Hp, 0, W, g * H, H, Hp, H, vectors)
    return out


# ---------------------------------------------------------------------------------------------- U


def pack_inputs(x, params, dims):
    """U, transposed, and b as panels of K = I + 1 rows, for `input_rows`; nothing for ids."""
    raise NotImplementedError


@overload(pack_inputs, allocates=True)
def _pack_inputs(x, params, dims):
    if is_ids(x):
        return lambda x, params, dims: empty(0, params.U.dtype)

    def dense(x, params, dims):
        lay = layout(params)
        K = dims.I + 1
        vectors = vectors_in(lay.input_columns * dims.Hp, params.U)
        out = empty(K * vectors * simd.lanes(params.U), params.U.dtype)
        flat, b = simd.flat(params.U), params.b
        for p in range(lay.input_columns):
            g = (p + lay.first_gate) % lay.input_columns
            pack_transposed(out, 0, K, vectors, p * dims.Hp, flat, g * dims.H, dims.H, dims.I)
            for j in range(dims.Hp):
                place, step = panel_place(p * dims.Hp + j, K, vectors, out)
                out[place + dims.I * step] = b[g * dims.H + j] if j < dims.H else 0
        return out
    return dense


def pack_input_gradient(x, params, dims):
    """U as panels of K = gates · Hp rows, for ∂L/∂x = δ U; nothing for ids."""
    raise NotImplementedError


@overload(pack_input_gradient, allocates=True)
def _pack_input_gradient(x, params, dims):
    if is_ids(x):
        return lambda x, params, dims: empty(0, params.U.dtype)

    def dense(x, params, dims):
        lay = layout(params)
        K = lay.input_columns * dims.Hp
        vectors = vectors_in(padded(dims.I, params.U), params.U)
        out = empty(K * vectors * simd.lanes(params.U), params.U.dtype)
        flat = simd.flat(params.U)
        for p in range(lay.input_columns):
            g = (p + lay.first_gate) % lay.input_columns
            pack_rows(out, 0, K, p * dims.Hp, flat, g * dims.H, dims.H, dims.Hp, dims.I, vectors)
        return out
    return dense
