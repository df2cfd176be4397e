"""The recurrent weights: packing W, and dW from δ and the states; for every cell whose gates all see h_{t−1}.

The functions a scan asks for are overloaded here for all `Params` but those in `OTHERWISE`. What a cell has beyond U, W and
b, it adds through the functions of `protocol` that begin with ``own``.
"""
from __future__ import annotations

from numba import types

from ..engine import simd
from ..engine.gemm import columns_times_panels
from ..engine.jit import njit, overload
from ..engine.panels import add_row, pack_rows, pack_transposed, vectors_in
from ..engine.primitives import empty
from ..engine.tuples import tuple_kind
from . import protocol
from .inputs import gather_panels
from .protocol import layout

OTHERWISE: set[type] = set()
"""`Params` types of cells that do their recurrent products themselves."""


def is_of(params: types.Type, *kinds: type) -> bool:
    """Whether `params` is the Numba type of one of these `Params`, or of its address."""
    return tuple_kind(params) in kinds


def _common(params: types.Type) -> bool:
    return tuple_kind(params) is not None and tuple_kind(params) not in OTHERWISE


def _nothing_own(params: types.Type) -> bool:
    return getattr(tuple_kind(params), "_fields", None) == ("U", "W", "b")


# ---------------------------------------------------------------------------------------------- packing


@njit(allocates=True)
def forward_recurrent(W, gates, dims):
    """The first `gates` gates of W, transposed, as panels of K = H rows."""
    vectors = vectors_in(gates * dims.Hp, W)
    out = empty(dims.H * vectors * simd.lanes(W), W.dtype)
    for g in range(gates):
        pack_transposed(out, 0, dims.H, vectors, g * dims.Hp, simd.flat(W), g * dims.H, dims.H, dims.H)
    return out


@njit(allocates=True)
def backward_recurrent(W, gates, dims):
    """The first `gates` gates of W as panels of K = gates · Hp rows, zero where padded."""
    K, vectors = gates * dims.Hp, vectors_in(dims.Hp, W)
    out = empty(K * vectors * simd.lanes(W), W.dtype)
    for g in range(gates):
        pack_rows(out, 0, K, g * dims.Hp, simd.flat(W), g * dims.H, dims.H, dims.Hp, dims.H, vectors)
    return out


@overload(protocol.pack_forward, allocates=True)
def _pack_forward(params, dims):
    return (lambda params, dims: forward_recurrent(params.W, layout(params).rec_count, dims)) if _common(params) else None


@overload(protocol.pack_backward, allocates=True)
def _pack_backward(params, dims):
    return (lambda params, dims: backward_recurrent(params.W, layout(params).rec_count, dims)) if _common(params) else None


@overload(protocol.start_rows)
def _start_rows(params, z, count, dims):
    return (lambda params, z, count, dims: None) if _nothing_own(params) else None


# ---------------------------------------------------------------------------------------------- gradients


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


@overload(protocol.state_partial)
def _state_partial(params, dims):
    if tuple_kind(params) is None:
        return None
    return lambda params, dims: layout(params).rec_count * dims.Hp * dims.Hp + protocol.own_partial(params, dims)


@overload(protocol.state_gradients)
def _state_gradients(params, tape, initial, partial, work, count, dims):
    if not _common(params):
        return None

    def gradients(params, tape, initial, partial, work, count, dims):
        lay = layout(params)
        recurrent_gradient(partial, tape, initial, work, lay.rec_first, lay.rec_count, count, dims)
        protocol.own_gradients(params, tape, initial, partial, lay.rec_count * dims.Hp * dims.Hp, work, count, dims)
    return gradients


@overload(protocol.add_state_partial)
def _add_state_partial(dparams, partial, dims):
    if tuple_kind(dparams) is None:
        return None

    def add(dparams, partial, dims):
        gates = layout(dparams).rec_count
        add_recurrent(dparams.W, partial, gates, dims)
        protocol.add_own_partial(dparams, partial, gates * dims.Hp * dims.Hp, dims)
    return add


@overload(protocol.own_partial)
def _own_partial(params, dims):
    return (lambda params, dims: 0) if _nothing_own(params) else None


@overload(protocol.own_gradients)
def _own_gradients(params, tape, initial, partial, at, work, count, dims):
    return (lambda params, tape, initial, partial, at, work, count, dims: None) if _nothing_own(params) else None


@overload(protocol.add_own_partial)
def _add_own_partial(dparams, partial, at, dims):
    return (lambda dparams, partial, at, dims: None) if _nothing_own(dparams) else None
