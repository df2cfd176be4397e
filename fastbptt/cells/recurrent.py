"""The recurrent weights: packing W before a scan; dW, and the gradients of a unit's own parameters, after it."""
from __future__ import annotations

from typing import Any

from ..engine import simd
from ..engine.gemm import columns_times_panels
from ..engine.jit import njit, overload
from ..engine.panels import add_row, pack_rows, pack_transposed, panel_place, vectors_in
from ..engine.primitives import empty
from ..engine.tuples import field
from .buffers import state_sum_size
from .form import extra_count, form_of, layout
from .step import extra_gradients, load_saved, old_states, states_of

# ---------------------------------------------------------------------------------------------- packing


def block_gates(params: Any) -> Any:
    """W's gates that multiply h itself: all, or all but the last where that has a product of its own."""
    raise NotImplementedError


@overload(block_gates)
def _block_gates(params):
    form = form_of(params)
    if form is None:
        return None
    gates = form.layout.recurrent - (form.inner is not None)
    return lambda params: gates


@njit(allocates=True, once=True)
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


@njit(allocates=True, once=True)
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
def gather_panels(out, arrays, initial, before, count, dims):
    """h before `count` steps as panels (see `old_states`)."""
    vectors = vectors_in(dims.Hp, out)
    for v in range(vectors):
        place, step = panel_place(v * simd.lanes(out), count, vectors, out)
        j = v * simd.lanes(out)
        for m in range(count):
            simd.store(out, place + m * step, old_states(arrays, initial, before[m], j, dims)[0])


@njit
def state_sum(params, dims):
    """Size of one shard's sums of the gradients of all parameters but U and b."""
    return state_sum_size(layout(params).recurrent, extra_count(params), dims.Hp)


@njit
def state_gradients(params, tape, initial, sums, work, count, dims):
    """Add `count` rows of `work.delta` to a shard's sums: δᵀ h_{t−1}, and what the units' own parameters get."""
    lay, shared, Hp = layout(params), block_gates(params), dims.Hp
    vectors = vectors_in(Hp, sums)
    gather_panels(work.scratch, states_of(params, tape), states_of(params, initial), work.before, count, dims)
    columns_times_panels(sums, 0, Hp, work.delta, lay.recurrent_first * Hp, dims.row, shared * Hp, count, work.scratch, 0,
                         vectors)
    if shared < lay.recurrent:
        multiplied_panels(params, tape, initial, work, count, dims)
        columns_times_panels(sums, shared * Hp * Hp, Hp, work.delta, (lay.recurrent_first + shared) * Hp, dims.row, Hp, count,
                             work.scratch, 0, vectors)
    extra_gradients(params, tape, initial, sums, lay.recurrent * Hp * Hp, work, count, dims)


def multiplied_panels(params: Any, tape: Any, initial: Any, work: Any, count: Any, dims: Any) -> Any:
    """`work.scratch` becomes what W's last gate multiplied in `count` steps, where that has a product of its own."""
    raise NotImplementedError


@overload(multiplied_panels)
def _multiplied_panels(params, tape, initial, work, count, dims):
    form = form_of(params)
    if form is None:
        return None
    if form.inner is None:
        return lambda params, tape, initial, work, count, dims: None
    value, states = form.inner.value, form.states

    def gather(params, tape, initial, work, count, dims):
        arrays, firsts, saved = states_of(params, tape), states_of(params, initial), simd.flat(tape[states])
        vectors = vectors_in(dims.Hp, work.scratch)
        for v in range(vectors):
            place, step = panel_place(v * simd.lanes(saved), count, vectors, work.scratch)
            j = v * simd.lanes(saved)
            for m in range(count):
                simd.store(work.scratch, place + m * step, value(load_saved(params, saved, work.indices[m], j, dims),
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
