"""The tangent of a forward scan: the loop of `forward.py`, with the linearised step in place of the step.

A dot is the derivative along a direction (U̇, Ẇ, ḃ, …, ẋ, initial state):

    ȧ_t = U̇ x_t + ḃ + U ẋ_t + Ẇ h_{t−1} + W ḣ_{t−1}
    ṡ_t = ∂new/∂a ȧ_t + ∂new/∂old ṡ_{t−1} + ∂new/∂extra (extra)˙

Only W ḣ_{t−1} belongs into the loop over time; the others are products over the rows of a block of steps. The derivatives of
the point function are the rows of its vector-Jacobian product (`point_backward` with the error 1 in one state), taken from the
tape: no activation is computed again, and a cell needs no text for its tangent.
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from ..arrays import Array, Batch, Options
from ..engine import simd
from ..engine.columns import load_columns, load_each, store_columns, store_each, unit_vector
from ..engine.gemm import rows_times_panels
from ..engine.jit import kernel, njit, overload
from ..engine.panels import gather_row, vectors_in
from ..engine.partition import shard_count
from ..engine.pool import run_pieces
from ..engine.primitives import empty, maximum
from ..engine.tuples import field, named, tuple_kind
from .buffers import Panels, measure
from .form import block_gates, form_of, has_second_product, layout
from .forward import Forward, clear_columns, fill_rows, forward_shard, gathered_row, start_tape
from .inputs import input_rows, is_ids
from .packing import forward_panels
from .step import load_extra, load_saved, old_states, operand_forward, states_of, unit_range, update_states
from .time_blocks import longest_of, team_of


class Linearised(NamedTuple):
    """What a tangent scan has in place of `Options`: the call whose steps it linearises, and in which direction."""

    options: Options
    tape: Any
    initial: Any
    resets: Array
    dparams: Any
    """Like the parameters; not read unless `varied`."""
    varied: bool
    dx: Array
    """(T, B, I), or (0, 0, 0) where x does not vary."""


class TangentPanels(NamedTuple):
    """Packed weights of the products before the loop; of size 0 where they are not needed."""

    U: Array
    dU: Array
    dW: Array


@njit(forceinline=True)
def before_step(resets, index, dims):
    """Where the state before the step with this flat index lies, as `old_states` reads it."""
    if resets.size > 0 and simd.flat(resets)[index]:
        return -1 - index % dims.B
    return index


# ---------------------------------------------------------------------------------------------- before the loop


@overload(gathered_row)
def _gathered_row(options, dims):
    return (lambda options, dims: maximum(dims.x_row, dims.Hp)) if tuple_kind(options) is Linearised else None


@overload(fill_rows)
def _fill_rows(options, z, gathered, index, count, job, dims):
    if tuple_kind(options) is not Linearised:
        return None

    def fill(options, z, gathered, index, count, job, dims):
        lay, x = layout(job.params), job.batch.x
        if options.varied:
            input_rows(x, z, gathered, job.panels.inputs.dU, options.dparams, index, count, dims)
            clear_columns(z, lay.input_columns, lay.columns, count, dims)
            add_state_rows(job.params, options, z, gathered, job.panels.inputs.dW, index, count, dims)
        else:
            clear_columns(z, 0, lay.columns, count, dims)
        add_input_tangents(x, options, z, gathered, job.panels.inputs.U, job.params, index, count, dims)
    return fill


@njit
def add_state_rows(params, options, z, gathered, weights, index, count, dims):
    """z += Ẇ h for `count` steps, and the same for a second product's operand."""
    lay, arrays, initial = layout(params), states_of(params, options.tape), states_of(params, options.initial)
    shared, Hp = block_gates(params), dims.Hp
    for m in range(count):
        before = before_step(options.resets, index[m], dims)
        if before >= 0:
            gather_row(gathered, m * Hp, Hp, arrays[0], before * dims.H, dims.H)
        else:
            gather_row(gathered, m * Hp, Hp, initial[0], (-1 - before) * dims.H, dims.H)
    rows_times_panels(z, lay.recurrent_first * Hp, dims.row, gathered, 0, Hp, count, dims.H, weights, 0,
                      vectors_in(shared * Hp, z), True)
    if has_second_product(params):
        gather_operand_rows(params, options, gathered, index, count, dims)
        rows_times_panels(z, (lay.columns - 2) * Hp, dims.row, gathered, 0, Hp, count, dims.H, weights,
                          dims.H * shared * Hp, vectors_in(Hp, z), True)


def gather_operand_rows(params: Any, options: Any, out: Any, index: Any, count: Any, dims: Any) -> Any:
    """The operand of the second product in `count` steps."""
    raise NotImplementedError


@overload(gather_operand_rows)
def _gather_operand_rows(params, options, out, index, count, dims):
    form = form_of(params)
    if form is None:
        return None
    if form.second_product is None:
        return lambda params, options, out, index, count, dims: None
    value, states = form.second_product.value, form.states

    def gather(params, options, out, index, count, dims):
        arrays, firsts = states_of(params, options.tape), states_of(params, options.initial)
        saved = simd.flat(options.tape[states])
        for m in range(count):
            before = before_step(options.resets, index[m], dims)
            for j in range(0, dims.Hp, simd.lanes(out)):
                simd.store(out, m * dims.Hp + j, value(load_saved(params, saved, index[m], j, dims),
                                                       old_states(arrays, firsts, before, j, dims)))
    return gather


def add_input_tangents(x: Any, options: Any, z: Any, gathered: Any, weights: Any, params: Any, index: Any, count: Any,
                       dims: Any) -> Any:
    """z += U ẋ for `count` steps; nothing for ids."""
    raise NotImplementedError


@overload(add_input_tangents)
def _add_input_tangents(x, options, z, gathered, weights, params, index, count, dims):
    if is_ids(x):
        return lambda x, options, z, gathered, weights, params, index, count, dims: None

    def add(x, options, z, gathered, weights, params, index, count, dims):
        if options.dx.size > 0:
            flat = simd.flat(options.dx)
            for m in range(count):       # a 0 where x has the 1 that the bias multiplies
                gather_row(gathered, m * dims.x_row, dims.x_row, flat, index[m] * dims.I, dims.I)
            rows_times_panels(z, 0, dims.row, gathered, 0, dims.x_row, count, dims.I + 1, weights, 0,
                              vectors_in(layout(params).input_columns * dims.Hp, z), True)
    return add


# ---------------------------------------------------------------------------------------------- one step


def _dot(count: int) -> Any:
    """A function of two tuples of so many vectors: total + Σ_k x_k y_k."""
    last = count - 1
    if count == 0:
        return njit(lambda x, y, total: total, forceinline=True)
    fewer = _dot(last)
    return njit(lambda x, y, total: simd.fma(x[last], y[last], fewer(x, y, total)), forceinline=True)


def _row(form: Any, s: int) -> Any:
    """The tangent of new state s."""
    point, by_extra, states = form.point_backward, form.extra_backward, form.states
    over_columns, over_states, over_extra = _dot(form.layout.columns), _dot(states), _dot(form.extra_count)
    if form.extra:
        @njit(forceinline=True)
        def extra_part(da, old, new, dextra, total):
            return over_extra(by_extra(da, old, new), dextra, total)
    else:
        @njit(forceinline=True)
        def extra_part(da, old, new, dextra, total):
            return total

    @njit(forceinline=True)
    def row(options, saved, old, new, extra, da, dold, dextra):
        by_column, by_state = point(options, saved, old, new, extra, unit_vector(old, s))
        total = over_columns(by_column, da, over_states(by_state, dold, simd.const(old[0], 0.0)))
        return extra_part(by_column, old, new, dextra, total)
    return row


def point_tangent(form: Any, count: int) -> Any:
    """(options, saved, old, new, extra, da, dold, dextra) → the tangents of the first `count` new states."""
    own = _row(form, count - 1)
    if count == 1:
        return njit(lambda options, saved, old, new, extra, da, dold, dextra: (
            own(options, saved, old, new, extra, da, dold, dextra),), forceinline=True)
    fewer = point_tangent(form, count - 1)
    return njit(lambda options, saved, old, new, extra, da, dold, dextra: (
        fewer(options, saved, old, new, extra, da, dold, dextra) + (own(options, saved, old, new, extra, da, dold, dextra),)),
        forceinline=True)


@overload(update_states)
def _update_states(params, options, tape, work, first, n, dims, piece, pieces):
    form = form_of(params)
    if form is None or tuple_kind(options) is not Linearised:
        return None
    columns, states, name, tangent = form.layout.columns, form.states, form.extra_field, point_tangent(form, form.states)

    def update(params, options, tape, work, first, n, dims, piece, pieces):
        outputs, arrays, firsts = states_of(params, tape), states_of(params, options.tape), states_of(params, options.initial)
        saved, extra, dextra = (simd.flat(options.tape[states]), simd.flat(field(params, name)),
                                simd.flat(field(options.dparams, name)))
        H, Hp, lanes, varied = dims.H, dims.Hp, simd.lanes(work.z), options.varied
        begin, end = unit_range(piece, pieces, dims, work.z)
        opts = Options(options.options.activation, options.options.leak, options.options.clip)
        for i in range(n):
            index = work.indices[first + i]
            before, z, s = before_step(options.resets, index, dims), (first + i) * dims.row, i * dims.state_row
            for j in range(begin, end, lanes):
                new = tangent(opts, load_saved(params, saved, index, j, dims), old_states(arrays, firsts, before, j, dims),
                              load_each(arrays, (index + dims.B) * H + j, H - j), load_extra(params, extra, j, dims),
                              load_columns(work.z, z + j, Hp, lanes, columns), load_columns(work.state, s + j, Hp, lanes, states),
                              load_extra_tangent(params, dextra, j, dims, varied))
                store_columns(work.state, s + j, Hp, new, lanes)
                store_each(outputs, (index + dims.B) * H + j, new, H - j)
    return update


def load_extra_tangent(params: Any, flat: Any, j: Any, dims: Any, varied: Any) -> Any:
    """As `load_extra`, zeros unless `varied`."""
    raise NotImplementedError


@overload(load_extra_tangent)
def _load_extra_tangent(params, flat, j, dims, varied):
    form = form_of(params)
    if form is None:
        return None
    count = form.extra_count
    if count == 0:
        return lambda params, flat, j, dims, varied: ()
    return lambda params, flat, j, dims, varied: load_columns(flat, j, dims.H, dims.H - j if varied else 0, count)


@overload(operand_forward)
def _operand_forward(params, options, work, first, n, dims, piece, pieces):
    form = form_of(params)
    if form is None or tuple_kind(options) is not Linearised:
        return None
    if form.second_product is None:
        return lambda params, options, work, first, n, dims, piece, pieces: None
    last, states, backward = form.layout.columns - 1, form.states, form.second_product.backward

    def forward_rows(params, options, work, first, n, dims, piece, pieces):
        arrays, firsts = states_of(params, options.tape), states_of(params, options.initial)
        saved = simd.flat(options.tape[states])
        Hp, lanes = dims.Hp, simd.lanes(work.z)
        begin, end = unit_range(piece, pieces, dims, work.z)
        for i in range(n):
            index = work.indices[first + i]
            before, z, s = before_step(options.resets, index, dims), (first + i) * dims.row, i * dims.state_row
            for j in range(begin, end, lanes):
                old, da = old_states(arrays, firsts, before, j, dims), simd.load(work.z, z + j)
                by_gate, by_state = backward(load_saved(params, saved, index, j, dims), old, simd.const(da, 1.0))
                simd.store(work.z, z + last * Hp + j, simd.fma(by_gate, da, by_state * simd.load(work.state, s + j)))
    return forward_rows


# ---------------------------------------------------------------------------------------------- all steps


@njit(allocates=True, once=True)
def scan_tangent(out, batch, dinitial, params, linear, pool=0):
    """The tangents of the states of all steps of all sequences.

    Parameters
    ----------
    out : the cell's tape tuple
        Outputs: rows 1 … T of its state arrays, of which row 0 holds `dinitial`.
    batch, params
        As `scan_forward` left them.
    dinitial : State
        The tangent of the initial state, which a reset restores.
    linear : Linearised
    pool : int
        As for `scan_forward`.
    """
    d, dtype = measure(params, out, dinitial), params.U.dtype
    own = forward_panels(batch, params, d, pool)
    varied = forward_panels(batch, linear.dparams, d, pool) if linear.varied else Panels(empty(0, dtype), empty(0, dtype))
    panels = Panels(TangentPanels(own.inputs, varied.inputs, varied.state), own.state)
    shards = shard_count(d.B, longest_of(batch), layout(params).input_columns, d.I, d.H)
    team = team_of(shards, d, pool)
    run_pieces(forward_shard, Forward(shards, team, panels, out, batch, dinitial, params, linear), shards,
               pool if team.pool == 0 else 0)


@cache
def tangent_kernel(tape_type: type, state_type: type, params_type: type) -> Any:
    """The entry point for the tuples of a cell."""

    @kernel(allocates=False)
    def tangent(out, tape, batch, initial, dinitial, params, direction, options, pool):
        dparams, varied, dx = direction
        found, given, first = named(out, tape_type), named(batch, Batch), named(dinitial, state_type)
        start_tape(found, first)
        linear = Linearised(named(options, Options), named(tape, tape_type), named(initial, state_type), given.resets,
                            named(dparams, params_type), varied, dx)
        scan_tangent(found, given, first, named(params, params_type), linear, pool)
    return tangent
