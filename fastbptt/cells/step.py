"""One step of n rows, forward and back, for every cell: the product with W and the point function of each unit."""
from __future__ import annotations

from typing import Any

from ..arrays import Options
from ..engine import simd
from ..engine.columns import load_columns, load_each, store_columns, store_each
from ..engine.gemm import rows_times_panels
from ..engine.jit import njit, overload
from ..engine.panels import vectors_in
from ..engine.tuples import field, tuple_kind
from .form import block_gates, form_of, has_second_product, layout

# ---------------------------------------------------------------------------------------------- arrays of a cell


def states_of(params: Any, arrays: Any) -> Any:
    """The state arrays of a tape or a State, flat, as a tuple."""
    raise NotImplementedError


@overload(states_of)
def _states_of(params, arrays):
    form = form_of(params)
    if form is None:
        return None
    return _first_states(form.states)


def _first_states(count: int) -> Any:
    if count == 1:
        return lambda params, arrays: (simd.flat(arrays[0]),)
    last = count - 1
    fewer = njit(_first_states(last))
    return lambda params, arrays: fewer(params, arrays) + (simd.flat(arrays[last]),)


def load_extra(params: Any, flat: Any, j: Any, dims: Any) -> Any:
    """The own parameters of the units from j on, a tuple of vectors."""
    raise NotImplementedError


@overload(load_extra)
def _load_extra(params, flat, j, dims):
    form = form_of(params)
    if form is None:
        return None
    count = form.extra_count
    if count == 0:
        return lambda params, flat, j, dims: ()
    return lambda params, flat, j, dims: load_columns(flat, j, dims.H, dims.H - j, count)


def load_saved(params: Any, flat: Any, index: Any, j: Any, dims: Any) -> Any:
    """What was saved of the units from j on, at the step with this flat index; zeros if nothing was."""
    raise NotImplementedError


@overload(load_saved)
def _load_saved(params, flat, index, j, dims):
    form = form_of(params)
    if form is None:
        return None
    count = form.saved
    return lambda params, flat, index, j, dims: load_columns(flat, index * count * dims.H + j, dims.H,
                                                             dims.H - j if flat.size > 0 else 0, count)


# ---------------------------------------------------------------------------------------------- forward


@njit(forceinline=True)
def step_forward(params, options, tape, work, dims, first, n):
    """One step of n rows, rows first … first+n−1 of the block: product with the state, gates, new state."""
    multiply_state(params, work, first, n, dims, 0, 1)
    operand_forward(params, options, work, first, n, dims, 0, 1)
    multiply_operand(params, work, first, n, dims, 0, 1)
    update_states(params, options, tape, work, first, n, dims, 0, 1)


@njit(forceinline=True)
def unit_range(piece, pieces, dims, like):
    """The units of one of `pieces` parts, from and to whole vectors."""
    vectors = dims.Hp // simd.lanes(like)
    return vectors * piece // pieces * simd.lanes(like), vectors * (piece + 1) // pieces * simd.lanes(like)


@njit(forceinline=True)
def multiply_state(params, work, first, n, dims, piece, pieces):
    """For n rows, add W h to the pre-activations, for the gates of W that multiply h itself."""
    lay = layout(params)
    rows_times_panels(work.z, first * dims.row + lay.recurrent_first * dims.Hp, dims.row, work.state, 0, dims.state_row, n,
                      dims.H, work.weights, 0, vectors_in(block_gates(params) * dims.Hp, work.z), True, piece, pieces)


@njit(forceinline=True)
def multiply_operand(params, work, first, n, dims, piece, pieces):
    """For n rows of a cell with a second product, add it."""
    lay, at = layout(params), first * dims.row
    if has_second_product(params):
        rows_times_panels(work.z, at + (lay.columns - 2) * dims.Hp, dims.row, work.z, at + (lay.columns - 1) * dims.Hp, dims.row,
                          n, dims.H, work.weights, dims.H * (lay.recurrent - 1) * dims.Hp, vectors_in(dims.Hp, work.z), True,
                          piece, pieces)


def update_states(params: Any, options: Any, tape: Any, work: Any, first: Any, n: Any, dims: Any, piece: Any, pieces: Any) -> Any:
    """For n rows, write the new states and what is saved to the tape, and the states to the working state."""
    raise NotImplementedError


@overload(update_states)
def _update_states(params, options, tape, work, first, n, dims, piece, pieces):
    form = form_of(params)
    if form is None or tuple_kind(options) is not Options:
        return None
    columns, states, count, point, name = form.layout.columns, form.states, form.saved, form.point_forward, form.extra_field

    def update(params, options, tape, work, first, n, dims, piece, pieces):
        arrays, saved, extra = states_of(params, tape), simd.flat(tape[states]), simd.flat(field(params, name))
        H, Hp, lanes = dims.H, dims.Hp, simd.lanes(work.z)
        begin, end = unit_range(piece, pieces, dims, work.z)
        opts = Options(options.activation, options.leak, options.clip)     # in registers: stores may change memory
        for i in range(n):
            index = work.indices[first + i]
            z, s = (first + i) * dims.row, i * dims.state_row
            for j in range(begin, end, lanes):
                old = load_columns(work.state, s + j, Hp, lanes, states)
                new, keep = point(opts, load_columns(work.z, z + j, Hp, lanes, columns), old,
                                  load_extra(params, extra, j, dims))
                store_columns(work.state, s + j, Hp, new, lanes)
                store_each(arrays, (index + dims.B) * H + j, new, H - j)
                if saved.size > 0:
                    store_columns(saved, index * count * H + j, H, keep, H - j)
    return update


def operand_forward(params: Any, options: Any, work: Any, first: Any, n: Any, dims: Any, piece: Any, pieces: Any) -> Any:
    """For n rows of a cell with a second product, activate the first gate and compute that product's operand."""
    raise NotImplementedError


@overload(operand_forward)
def _operand_forward(params, options, work, first, n, dims, piece, pieces):
    form = form_of(params)
    if form is None or tuple_kind(options) is not Options:
        return None
    if form.second_product is None:
        return lambda params, options, work, first, n, dims, piece, pieces: None
    columns, states, forward = form.layout.columns, form.states, form.second_product.forward

    def forward_rows(params, options, work, first, n, dims, piece, pieces):
        Hp, lanes = dims.Hp, simd.lanes(work.z)
        begin, end = unit_range(piece, pieces, dims, work.z)
        for i in range(n):
            z, s = (first + i) * dims.row, i * dims.state_row
            for j in range(begin, end, lanes):
                gate, value = forward(options, load_columns(work.z, z + j, Hp, lanes, columns),
                                      load_columns(work.state, s + j, Hp, lanes, states))
                simd.store(work.z, z + j, gate)
                simd.store(work.z, z + (columns - 1) * Hp + j, value)
    return forward_rows


# ---------------------------------------------------------------------------------------------- backward


@njit(forceinline=True)
def step_backward(params, options, tape, initial, work, dims, first, n):
    """One step back of n rows: `work.carry` from ∂L/∂state_t to ∂L/∂state_{t−1}, ∂L/∂(gates) into `work.delta`."""
    update_errors(params, options, tape, initial, work, first, n, dims, 0, 1)
    multiply_operand_error(params, work, first, n, dims, 0, 1)
    operand_backward(params, tape, initial, work, first, n, dims, 0, 1)
    multiply_errors(params, options, work, first, n, dims, 0, 1)


@njit(forceinline=True)
def multiply_errors(params, options, work, first, n, dims, piece, pieces):
    """For n rows, add Wᵀ δ to the error, for the gates of W that multiply h itself."""
    rows_times_panels(work.carry, 0, dims.state_row, work.delta, first * dims.row + layout(params).recurrent_first * dims.Hp,
                      dims.row, n, block_gates(params) * dims.Hp, work.weights, 0, vectors_in(dims.Hp, work.carry),
                      adds_to_error(params, options), piece, pieces)


def adds_to_error(params: Any, options: Any) -> Any:
    """Whether there is an error before the step already, to which Wᵀ δ is added."""
    raise NotImplementedError


@overload(adds_to_error)
def _adds_to_error(params, options):
    form = form_of(params)
    if form is None:
        return None
    direct = form.direct
    if form.second_product is not None:
        return lambda params, options: True
    return lambda params, options: direct(options)


@njit(forceinline=True)
def multiply_operand_error(params, work, first, n, dims, piece, pieces):
    """For n rows of a cell with a second product, ∂L/∂operand."""
    lay, at = layout(params), first * dims.row
    if has_second_product(params):
        rows_times_panels(work.delta, at + (lay.columns - 1) * dims.Hp, dims.row, work.delta, at + (lay.columns - 2) * dims.Hp,
                          dims.row, n, dims.Hp, work.weights, (lay.recurrent - 1) * dims.Hp * dims.Hp,
                          vectors_in(dims.Hp, work.delta), False, piece, pieces)


@njit(forceinline=True)
def old_states(arrays, initial, before, j, dims):
    """The states before a step: of row `before` of `arrays`, or if that is negative row −1−before of `initial`."""
    if before >= 0:
        return load_each(arrays, before * dims.H + j, dims.H - j)
    return load_each(initial, (-1 - before) * dims.H + j, dims.H - j)


def update_errors(params: Any, options: Any, tape: Any, initial: Any, work: Any, first: Any, n: Any, dims: Any, piece: Any,
                  pieces: Any) -> Any:
    """For n rows, δ from the carried error; the part that does not pass through W stays in `work.carry`."""
    raise NotImplementedError


@overload(update_errors)
def _update_errors(params, options, tape, initial, work, first, n, dims, piece, pieces):
    form = form_of(params)
    if form is None:
        return None
    states, point, direct_part, name = form.states, form.point_backward, form.direct, form.extra_field

    def update(params, options, tape, initial, work, first, n, dims, piece, pieces):
        arrays, firsts, saved = states_of(params, tape), states_of(params, initial), simd.flat(tape[states])
        extra = simd.flat(field(params, name))
        H, Hp, lanes = dims.H, dims.Hp, simd.lanes(work.delta)
        begin, end = unit_range(piece, pieces, dims, work.delta)
        opts = Options(options.activation, options.leak, options.clip)     # in registers, as above
        keeps = states > 1 or direct_part(opts)        # else the product with W overwrites the carry
        for i in range(n):
            index, before = work.indices[first + i], work.before[first + i]
            delta, s = (first + i) * dims.row, i * dims.state_row
            for j in range(begin, end, lanes):
                d, direct = point(opts, load_saved(params, saved, index, j, dims), old_states(arrays, firsts, before, j, dims),
                                  load_each(arrays, (index + dims.B) * H + j, H - j), load_extra(params, extra, j, dims),
                                  load_columns(work.carry, s + j, Hp, lanes, states))
                store_columns(work.delta, delta + j, Hp, d, lanes)
                if keeps:
                    store_columns(work.carry, s + j, Hp, direct, lanes)
    return update


def operand_backward(params: Any, tape: Any, initial: Any, work: Any, first: Any, n: Any, dims: Any, piece: Any,
                     pieces: Any) -> Any:
    """For n rows of a cell with a second product, from ∂L/∂operand to the first gate's δ and to ∂L/∂(old h)."""
    raise NotImplementedError


@overload(operand_backward)
def _operand_backward(params, tape, initial, work, first, n, dims, piece, pieces):
    form = form_of(params)
    if form is None:
        return None
    if form.second_product is None:
        return lambda params, tape, initial, work, first, n, dims, piece, pieces: None
    last, states, backward = form.layout.columns - 1, form.states, form.second_product.backward

    def backward_rows(params, tape, initial, work, first, n, dims, piece, pieces):
        arrays, firsts, saved = states_of(params, tape), states_of(params, initial), simd.flat(tape[states])
        Hp = dims.Hp
        begin, end = unit_range(piece, pieces, dims, work.delta)
        for i in range(n):
            index, before = work.indices[first + i], work.before[first + i]
            delta, s = (first + i) * dims.row, i * dims.state_row
            for j in range(begin, end, simd.lanes(work.delta)):
                d, h = backward(load_saved(params, saved, index, j, dims), old_states(arrays, firsts, before, j, dims),
                                simd.load(work.delta, delta + last * Hp + j))
                simd.store(work.delta, delta + j, d)
                simd.store(work.carry, s + j, simd.load(work.carry, s + j) + h)
    return backward_rows
