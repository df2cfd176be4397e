"""The recurrent weights: packing W before a scan; dW, and the gradients of a unit's own parameters, after it."""
from __future__ import annotations

from typing import Any

from ..engine import simd
from ..engine.gemm import columns_times_panels
from ..engine.jit import jitable, njit, overload
from ..engine.panels import add_row, pack_rows, pack_transposed, panel_place, vectors_in
from ..engine.primitives import empty
from ..engine.tuples import field
from .buffers import state_sum_size
from .form import block_gates, extra_count, form_of, layout
from .step import extra_gradients, load_saved, old_states, states_of

# ---------------------------------------------------------------------------------------------- packing


@njit(allocates=True)
def pack_forward(params, dims):
    """W, transposed, as panels of K = H rows; the last gate by itself where it has a product of its own."""
    W, H, Hp, gates = simd.flat(params.W), dims.H, dims.Hp, layout(params).recurrent
    shared = block_gates(params)
    vectors = vectors_in(shared * Hp, params.W)
    out = empty(H * gates * Hp, params.W.dtype)
    for g in range(shared):
        pack_transposed(out, 0, H, vectors, g * Hp, W, g * H, H, H)
    for g in range(shared, gates):
        pack_transposed(out, H * g * Hp, H, vectors_in(Hp, out), 0, W, g * H, H, H)
    return out


@njit(allocates=True)
def pack_backward(params, dims):
    """W as panels of K = gates · Hp rows, zero where padded; the last gate by itself where it has a product of its own."""
    W, H, Hp, gates = simd.flat(params.W), dims.H, dims.Hp, layout(params).recurrent
    shared, vectors = block_gates(params), vectors_in(dims.Hp, params.W)
    out = empty(gates * Hp * Hp, params.W.dtype)
    for g in range(shared):
        pack_rows(out, 0, shared * Hp, g * Hp, W, g * H, H, Hp, H, vectors)
    for g in range(shared, gates):
        pack_rows(out, g * Hp * Hp, Hp, 0, W, g * H, H, Hp, H, vectors)
    return out


# ---------------------------------------------------------------------------------------------- gradients


@njit
def gather_panels(out, arrays, initial, before, count, dims, piece, pieces):
    """h before `count` steps as panels (see `old_states`)."""
    vectors = vectors_in(dims.Hp, out)
    for v in range(vectors * piece // pieces, vectors * (piece + 1) // pieces):
        place, step = panel_place(v * simd.lanes(out), count, vectors, out)
        j = v * simd.lanes(out)
        for m in range(count):
            simd.store(out, place + m * step, old_states(arrays, initial, before[m], j, dims)[0])


@njit
def state_sum(params, dims):
    """Size of one shard's sums of the gradients of all parameters but U and b."""
    return state_sum_size(layout(params).recurrent, extra_count(params), dims.Hp)


@jitable
def state_panels(recurrent, shared, Hp):
    """Floats for each row of what W's gates multiplied: h, and what the last gate did where that has a product of its own."""
    return (1 + recurrent - shared) * Hp


@njit
def gather_states(params, tape, initial, work, count, dims, piece, pieces):
    """`work.scratch` begins with what W's gates multiplied in `count` steps, as panels."""
    gather_panels(work.scratch, states_of(params, tape), states_of(params, initial), work.before, count, dims, piece, pieces)
    gather_entered(params, tape, initial, work.scratch[count * dims.Hp:], work, count, dims, piece, pieces)


@njit
def state_gradients(params, tape, initial, sums, work, count, dims, piece, pieces):
    """Add `count` rows of `work.delta` to a shard's sums: δᵀ h_{t−1}, and what the units' own parameters get."""
    lay, shared, Hp = layout(params), block_gates(params), dims.Hp
    vectors = vectors_in(Hp, sums)
    columns_times_panels(sums, 0, Hp, work.delta, lay.recurrent_first * Hp, dims.row, shared * Hp, count, work.scratch, 0,
                         vectors, piece, pieces)
    if shared < lay.recurrent:
        columns_times_panels(sums, shared * Hp * Hp, Hp, work.delta, (lay.recurrent_first + shared) * Hp, dims.row, Hp, count,
                             work.scratch, count * Hp, vectors, piece, pieces)
    extra_gradients(params, tape, initial, sums, lay.recurrent * Hp * Hp, work, count, dims, piece, pieces)


def gather_entered(params: Any, tape: Any, initial: Any, out: Any, work: Any, count: Any, dims: Any, piece: Any,
                   pieces: Any) -> Any:
    """What W's last gate multiplied in `count` steps, as panels, where that has a product of its own."""
    raise NotImplementedError


@overload(gather_entered)
def _gather_entered(params, tape, initial, out, work, count, dims, piece, pieces):
    form = form_of(params)
    if form is None:
        return None
    if form.inner is None:
        return lambda params, tape, initial, out, work, count, dims, piece, pieces: None
    value, states = form.inner.value, form.states

    def gather(params, tape, initial, out, work, count, dims, piece, pieces):
        arrays, firsts, saved = states_of(params, tape), states_of(params, initial), simd.flat(tape[states])
        vectors = vectors_in(dims.Hp, out)
        for v in range(vectors * piece // pieces, vectors * (piece + 1) // pieces):
            place, step = panel_place(v * simd.lanes(saved), count, vectors, out)
            j = v * simd.lanes(saved)
            for m in range(count):
                simd.store(out, place + m * step, value(load_saved(params, saved, work.indices[m], j, dims),
                                                        old_states(arrays, firsts, work.before[m], j, dims)))
    return gather


@njit
def add_state_sum(dparams, sums, dims):
    """Add a shard's sums to the gradients."""
    gates, dW = layout(dparams).recurrent, simd.flat(dparams.W)
    for g in range(gates):
        for j in range(dims.H):
            add_row(dW, (g * dims.H + j) * dims.H, sums, (g * dims.Hp + j) * dims.Hp, dims.H)
    add_extra(dparams, sums, gates * dims.Hp * dims.Hp, dims)


def add_extra(dparams: Any, sums: Any, at: Any, dims: Any) -> Any:
    """Add sums[at:] to the gradients of the units' own parameters."""
    raise NotImplementedError


@overload(add_extra)
def _add_extra(dparams, sums, at, dims):
    form = form_of(dparams)
    if form is None:
        return None
    if not form.extra:
        return lambda dparams, sums, at, dims: None

    name = form.extra

    def add(dparams, sums, at, dims):
        flat = simd.flat(field(dparams, name))
        for k in range(extra_count(dparams)):
            add_row(flat, k * dims.H, sums, at + k * dims.Hp, dims.H)
    return add
