"""The derivatives of every unit's point function at every step of a tape, and the step Jacobians made from them.

The vector-Jacobian product of a point function is linear in the error: evaluated once for each state, with the error 1 there
and 0 elsewhere, it gives ∂(new state)/∂a and ∂(new state)/∂(old state), a few numbers per unit. The step Jacobian is then

    ∂state_t/∂state_{t−1} = Σ_g diag(∂new/∂a_g) W_g + diag(∂new/∂old).
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from ..arrays import Array, Batch, Options
from ..engine import simd
from ..engine.columns import load_columns, load_each, store_columns, unit_vector
from ..engine.jit import kernel, njit, overload
from ..engine.panels import load_tail, store_tail
from ..engine.pool import run_pieces
from ..engine.tuples import field, named
from .buffers import measure
from .form import form_of
from .states import steps_here
from .step import load_extra, load_saved, old_states, states_of


class Derivatives(NamedTuple):
    """Of every unit at every step; arrays (…, T, B, H), 0 at padded steps."""

    new: Array
    """(states, columns + states): ∂new_s/∂a_p, then ∂new_s/∂old_r."""
    operand: Array
    """(3,): of a second product's operand, ∂/∂a of the first gate, ∂/∂(old h), and the value; no rows without one."""
    extra: Array
    """(own parameters, columns): the gradient of each for ∂L/∂a_p = 1; no rows if there are none."""


def _unit(params: Any, options: Any, tape: Any, initial: Any, index: Any, before: Any, j: Any, out: Any, d: Any) -> Any:
    """The derivatives of the units from j on, at one step."""
    raise NotImplementedError


@overload(_unit)
def _unit_nopython(params, options, tape, initial, index, before, j, out, d):
    form = form_of(params)
    if form is None:
        return None
    states, columns, point, name = form.states, form.layout.columns, form.point_backward, form.extra_field

    def unit(params, options, tape, initial, index, before, j, out, d):
        left, size = d.H - j, d.T * d.B * d.H
        arrays, flat = states_of(params, tape), simd.flat(out.new)
        old = old_states(arrays, states_of(params, initial), before, j, d)
        new = load_each(arrays, (index + d.B) * d.H + j, left)
        saved = load_saved(params, simd.flat(tape[states]), index, j, d)
        extra = load_extra(params, simd.flat(field(params, name)), j, d)
        for s in range(states):
            da, dold = point(options, saved, old, new, extra, unit_vector(old, s))
            at = s * (columns + states) * size + index * d.H + j
            store_columns(flat, at, size, da, left)
            store_columns(flat, at + columns * size, size, dold, left)
        _operand(params, saved, old, simd.flat(out.operand), index * d.H + j, size, left)
        _extra(params, old, new, load_columns(flat, index * d.H + j, 0, 0, columns), simd.flat(out.extra), index * d.H + j, size,
               left)
    return unit


def _operand(params: Any, saved: Any, old: Any, flat: Any, at: Any, size: Any, left: Any) -> Any:
    """Those of a second product's operand."""
    raise NotImplementedError


@overload(_operand)
def _operand_nopython(params, saved, old, flat, at, size, left):
    form = form_of(params)
    if form is None:
        return None
    if form.second_product is None:
        return lambda params, saved, old, flat, at, size, left: None
    backward, value = form.second_product.backward, form.second_product.value

    def operand(params, saved, old, flat, at, size, left):
        da, dh = backward(saved, old, simd.const(old[0], 1.0))
        store_columns(flat, at, size, (da, dh, value(saved, old)), left)
    return operand


def _extra(params: Any, old: Any, new: Any, like: Any, flat: Any, at: Any, size: Any, left: Any) -> Any:
    """Those of the units' own parameters."""
    raise NotImplementedError


@overload(_extra)
def _extra_nopython(params, old, new, like, flat, at, size, left):
    form = form_of(params)
    if form is None:
        return None
    if not form.extra:
        return lambda params, old, new, like, flat, at, size, left: None
    columns, backward = form.layout.columns, form.extra_backward

    def extra(params, old, new, like, flat, at, size, left):
        for p in range(columns):
            store_columns(flat, at + p * size, columns * size, backward(unit_vector(like, p), old, new), left)
    return extra


@cache
def derivatives_kernel(tape_type: type, state_type: type, params_type: type) -> Any:
    """The entry point for the tuples of a cell: fills `Derivatives`, which begin as zeros."""

    @kernel(allocates=False)
    def fill(out, tape, batch, initial, params, options):
        fill_derivatives(named(out, Derivatives), named(tape, tape_type), named(batch, Batch), named(initial, state_type),
                         named(params, params_type), named(options, Options))
    return fill


@njit
def fill_derivatives(out, tape, batch, initial, params, options):
    """Every unit of every step that is not padded."""
    d = measure(params, tape, initial)
    for b in range(d.B):
        for t in range(steps_here(batch, b, d.T)):
            index = t * d.B + b
            before = -1 - b if batch.resets.size > 0 and batch.resets[t, b] else index
            for j in range(0, d.Hp, simd.lanes(params.U)):
                _unit(params, options, tape, initial, index, before, j, out, d)


# ---------------------------------------------------------------------------------------------- the Jacobians themselves


class _Assembly(NamedTuple):
    J: Array
    by_gate: Array
    direct: Array
    W: Array
    shards: int


@njit
def _assemble_shard(shard, job):
    """Rows of the Jacobians: n of them, each (H, H)."""
    gates, n, H = job.by_gate.shape
    J, by_gate, W = simd.flat(job.J), simd.flat(job.by_gate), simd.flat(job.W)
    lanes = simd.lanes(job.J)
    for r in range(n * shard // job.shards, n * (shard + 1) // job.shards):
        for i in range(H):
            at = (r * H + i) * H
            for k in range(0, H, lanes):
                left = H - k
                total = simd.splat(0, J)
                for g in range(gates):
                    total = simd.fma(simd.splat(by_gate[(g * n + r) * H + i], J), load_tail(W, (g * H + i) * H + k, left), total)
                store_tail(J, at + k, total, left)
            if job.direct.size > 0:
                J[at + i] += job.direct[r, i]


@kernel(allocates=False)
def assemble(J, by_gate, direct, W, shards, pool):
    """J (n, H, H) = Σ_g diag(by_gate[g]) W_g + diag(direct): by_gate (G, n, H), direct (n, H) or (0, 0), W (G·H, H)."""
    run_pieces(_assemble_shard, _Assembly(J, by_gate, direct, W, shards), shards, pool)
