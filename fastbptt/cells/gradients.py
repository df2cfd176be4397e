"""From δ of many steps to the gradients of the parameters and of x: products over rows of steps, and sums over shards.

What becomes of δ is chosen by the type of the sums: with `Sums` it is multiplied; `sequences.py` keeps it.
"""
from __future__ import annotations

from typing import Any, NamedTuple

from ..engine import simd
from ..engine.jit import njit, overload
from ..engine.panels import add_row, copy_row
from ..engine.pool import run_pieces
from ..engine.primitives import empty, maximum, minimum, zeros
from ..engine.tuples import refer, tuple_kind
from .buffers import BackwardWork, Sums, measure
from .inputs import add_input_sum, gather_inputs, input_errors, input_gradients, input_panels, input_sum
from .packing import sharing_of
from .recurrent import add_state_sum, gather_states, state_gradients, state_panels, state_sum
from .time_blocks import cut_rows, product_rows


@njit(forceinline=True)
def set_step(work, m, b, step, batch, d):
    """Note where row m of the block lies: step `step` of sequence b; returns its flat index."""
    index = (step - 1) * d.B + b
    work.indices[m] = index
    work.before[m] = -1 - b if batch.resets.size > 0 and batch.resets[step - 1, b] else index
    return index


def shard_sums(sums: Any, shard: Any) -> Any:
    """The sums of one shard."""
    raise NotImplementedError


@overload(shard_sums)
def _shard_sums(sums, shard):
    if tuple_kind(sums) is not Sums:
        return None
    return lambda sums, shard: Sums(sums.inputs[shard], sums.state[shard], sums.initial[shard])


class Products(NamedTuple):
    """Products of the first `filled` rows of δ: with the states and inputs of their steps; with U, added to `rows` of dx."""

    sums: Any
    work: Any
    filled: int
    dx: Any
    rows: Any
    job: Any


@njit(forceinline=True)
def scratch_places(x, params, count, d):
    """Where in `work.scratch` the panels of the inputs begin and where ∂L/∂x; those of the states come first."""
    inputs = count * state_panels(params, d)
    return inputs, inputs + count * input_panels(x, params, d)[0]


@njit
def scratch_row(x, params, d):
    """Floats of `work.scratch` for each row."""
    panels, errors = input_panels(x, params, d)
    return state_panels(params, d) + panels + errors


@njit
def _gather(part, products):
    """One part of what δ is multiplied with, as panels."""
    job, work, count = products.job, products.work, products.filled
    d, x, parts = measure(job.params, job.tape, job.initial), job.batch.x, job.team.parts
    gather_states(job.params, job.tape, job.initial, work, count, d, part, parts)
    gather_inputs(x, work.scratch[scratch_places(x, job.params, count, d)[0]:], work.indices, count, d, part, parts)


@njit
def _multiply(part, products):
    """One part of every product."""
    job, work, count, sums, params = products.job, products.work, products.filled, products.sums, products.job.params
    d, x, parts = measure(params, job.tape, job.initial), job.batch.x, job.team.parts
    inputs, errors = scratch_places(x, params, count, d)
    state_gradients(params, job.tape, job.initial, sums.state, work, count, d, part, parts)
    input_gradients(x, sums.inputs, params, work.scratch[inputs:], work, count, d, part, parts)
    input_errors(x, products.dx, products.rows, job.panels.inputs, params, work.scratch[errors:], work, count, d, part, parts)


def unit_products(sums: Any, work: Any, count: Any, dx: Any, rows: Any, job: Any, d: Any) -> Any:
    """What becomes of `count` rows of δ."""
    raise NotImplementedError


@overload(unit_products)
def _unit_products(sums, work, count, dx, rows, job, d):
    if tuple_kind(sums) is not Sums:
        return None
    return lambda sums, work, count, dx, rows, job, d: multiply_rows(sums, work, count, dx, rows, job, d)


@njit
def multiply_rows(sums, work, count, dx, rows, job, d):
    """`Products`, in the parts of the team."""
    products = refer(Products(sums, work, count, dx, rows, job))
    run_pieces(_gather, products, job.team.parts, job.team.pool)
    run_pieces(_multiply, products, job.team.parts, job.team.pool)


@njit(once=True)
def block_products(shard, filled, work, job, d):
    """The products of the first `filled` rows of a block, a few hundred at a time."""
    sums = refer(shard_sums(job.sums, shard))
    cuts = cut_rows(filled, product_rows(d))
    for cut in range(cuts):
        first, stop = filled * cut // cuts, filled * (cut + 1) // cuts
        w = refer(BackwardWork(work.delta[first * d.row:], work.carry, work.weights, work.indices[first:], work.before[first:],
                               work.scratch))
        unit_products(sums, w, stop - first, simd.flat(job.dx), w.indices, job, d)


@njit(once=True)
def summed_products(first, last, total, overlap, targets, shard, work, job, d):
    """The products for the steps of a unit of overlapping passes first … last, whose δ were summed.

    The steps before the unit's own, which its passes only reach back to, belong to another unit: their share of dx goes
    to its `overlap`, a row for each. `targets` is room for as many integers as work.indices.
    """
    w, sums, batch, passes = refer(work), refer(shard_sums(job.sums, shard)), job.batch, job.passes
    b, top = passes.sequence[first], passes.end[first]
    own, low = passes.previous[last], passes.stop[last]
    step = low + 1
    while step <= top:
        stop = own if step <= own else top
        count = minimum(stop - step + 1, work.indices.size)
        for m in range(count):
            index = set_step(w, m, b, step + m, batch, d)
            targets[m] = index if step > own else step + m - 1 - low
            copy_row(work.delta, m * d.row, total, (step + m - 1 - low) * d.row, d.row)
        unit_products(sums, w, count, simd.flat(job.dx) if step > own else overlap, targets, job, d)
        step += count


@njit(allocates=True, once=True)
def empty_sums(passes, batch, params, initial, d, pool):
    """Zero sums of every shard."""
    shards, dtype = passes.shards, params.U.dtype
    resets = len(initial) * d.B * d.H if batch.resets.size > 0 else 0
    sums = Sums(empty((shards, input_sum(batch.x, params, d)), dtype), empty((shards, state_sum(params, d)), dtype),
                empty((shards, resets), dtype))
    run_pieces(_clear, sums, shards, sharing_of(sums.inputs.size + sums.state.size, pool)[1])
    return sums


@njit
def _clear(shard, sums):
    """The sums of one shard become zero."""
    own = shard_sums(sums, shard)
    for array in (own.inputs, own.state, own.initial):
        for i in range(array.size):
            array[i] = 0


class Addition(NamedTuple):
    """What the pieces of `add_sums` share."""

    grads: Any
    sums: Any
    tape: Any
    batch: Any
    initial: Any
    pieces: int


@njit
def add_sums(grads, sums, tape, batch, initial, pool):
    """Add the sums of all shards to the gradients, in order."""
    pieces, threads = sharing_of(sums.inputs.size + sums.state.size, pool)
    run_pieces(_add, Addition(grads, sums, tape, batch, initial, pieces), pieces, threads)


@njit
def _add(piece, job):
    """One piece of the units of every gate."""
    grads, sums, x = job.grads, job.sums, job.batch.x
    d = measure(grads.params, job.tape, job.initial)
    for s in range(sums.inputs.shape[0]):
        add_input_sum(x, grads.params, sums.inputs[s], d, piece, job.pieces)
        add_state_sum(grads.params, sums.state[s], d, piece, job.pieces)
        if piece == 0 and sums.initial.size > 0:
            for k in range(len(grads.state)):
                add_row(simd.flat(grads.state[k]), 0, sums.initial[s], k * d.B * d.H, d.B * d.H)


@njit(allocates=True, once=True)
def empty_overlap(passes, dx, d):
    """For every unit of overlapping passes, dx of the steps before its own that they reach."""
    reach = 0
    if passes.overlap and dx.size > 0:
        for unit in range(passes.bounds.size - 1):
            last = passes.bounds[unit + 1] - 1
            reach = maximum(reach, passes.previous[last] - passes.stop[last])
    return zeros((passes.bounds.size - 1, reach, d.I), dx.dtype)


@njit
def add_overlap(dx, overlap, passes, d):
    """Add what the units found for steps that are not their own, in order."""
    if overlap.size > 0:
        for unit in range(overlap.shape[0]):
            last = passes.bounds[unit + 1] - 1
            low = passes.stop[last]
            for step in range(low, passes.previous[last]):
                add_row(simd.flat(dx), (step * d.B + passes.sequence[last]) * d.I, simd.flat(overlap),
                        (unit * overlap.shape[1] + step - low) * d.I, d.I)
