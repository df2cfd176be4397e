"""After the loop back through time: dW, and the gradients of the units' own parameters."""
from __future__ import annotations

from typing import Any

from ..engine import simd
from ..engine.columns import add_columns, load_columns, load_each
from ..engine.gemm import columns_times_panels
from ..engine.jit import njit, overload
from ..engine.panels import add_row, panel_place, vectors_in
from ..engine.tuples import field
from .buffers import state_sum_size
from .form import block_gates, extra_count, form_of, has_second_product, layout
from .step import load_saved, old_states, states_of, unit_range


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


@njit
def state_panels(params, dims):
    """Floats for each row of what W's gates multiplied: h, and the operand of the second product if there is one."""
    return 2 * dims.Hp if has_second_product(params) else dims.Hp


@njit
def gather_states(params, tape, initial, work, count, dims, piece, pieces):
    """`work.scratch` begins with what W's gates multiplied in `count` steps, as panels."""
    gather_panels(work.scratch, states_of(params, tape), states_of(params, initial), work.before, count, dims, piece, pieces)
    gather_operands(params, tape, initial, work.scratch[count * dims.Hp:], work, count, dims, piece, pieces)


@njit
def state_gradients(params, tape, initial, sums, work, count, dims, piece, pieces):
    """Add `count` rows of `work.delta` to a shard's sums: δᵀ h_{t−1}, and those of the units' own parameters."""
    lay, shared, Hp = layout(params), block_gates(params), dims.Hp
    vectors = vectors_in(Hp, sums)
    columns_times_panels(sums, 0, Hp, work.delta, lay.recurrent_first * Hp, dims.row, shared * Hp, count, work.scratch, 0,
                         vectors, piece, pieces)
    if has_second_product(params):
        columns_times_panels(sums, shared * Hp * Hp, Hp, work.delta, (lay.recurrent_first + shared) * Hp, dims.row, Hp, count,
                             work.scratch, count * Hp, vectors, piece, pieces)
    extra_gradients(params, tape, initial, sums, lay.recurrent * Hp * Hp, work, count, dims, piece, pieces)


def gather_operands(params: Any, tape: Any, initial: Any, out: Any, work: Any, count: Any, dims: Any, piece: Any,
                   pieces: Any) -> Any:
    """The operands of the second product in `count` steps, as panels, if there is one."""
    raise NotImplementedError


@overload(gather_operands)
def _gather_operands(params, tape, initial, out, work, count, dims, piece, pieces):
    form = form_of(params)
    if form is None:
        return None
    if form.second_product is None:
        return lambda params, tape, initial, out, work, count, dims, piece, pieces: None
    value, states = form.second_product.value, form.states

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


def extra_gradients(params: Any, tape: Any, initial: Any, sums: Any, at: Any, work: Any, count: Any, dims: Any, piece: Any,
                    pieces: Any) -> Any:
    """Add the gradients of the units' own parameters from `count` rows of δ to sums[at:]; nothing, where there are none."""
    raise NotImplementedError


@overload(extra_gradients)
def _extra_gradients(params, tape, initial, sums, at, work, count, dims, piece, pieces):
    form = form_of(params)
    if form is None:
        return None
    if not form.extra:
        return lambda params, tape, initial, sums, at, work, count, dims, piece, pieces: None
    columns, backward = form.layout.columns, form.extra_backward

    def gradients(params, tape, initial, sums, at, work, count, dims, piece, pieces):
        arrays, firsts = states_of(params, tape), states_of(params, initial)
        Hp, lanes = dims.Hp, simd.lanes(sums)
        begin, end = unit_range(piece, pieces, dims, sums)
        for m in range(count):
            for j in range(begin, end, lanes):
                add_columns(sums, at + j, Hp, backward(
                    load_columns(work.delta, m * dims.row + j, Hp, lanes, columns),
                    old_states(arrays, firsts, work.before[m], j, dims),
                    load_each(arrays, (work.indices[m] + dims.B) * dims.H + j, dims.H - j)))
    return gradients


@njit
def add_state_sum(dparams, sums, dims, piece, pieces):
    """Add a shard's sums to the gradients, for one piece of the units."""
    gates, dW = layout(dparams).recurrent, simd.flat(dparams.W)
    for g in range(gates):
        for j in range(dims.H * piece // pieces, dims.H * (piece + 1) // pieces):
            add_row(dW, (g * dims.H + j) * dims.H, sums, (g * dims.Hp + j) * dims.Hp, dims.H)
    if piece == 0:
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
