"""From δ of many steps to the gradients of the parameters and of x: products over rows of steps, and sums over shards."""
from __future__ import annotations

from ..engine import simd
from ..engine.jit import njit
from ..engine.panels import add_row, copy_row, padded
from ..engine.primitives import maximum, minimum, zeros
from ..engine.tuples import refer
from .buffers import BackwardWork, Sums, measure
from .inputs import add_input_sum, input_errors, input_gradients, input_sum
from .recurrent import add_state_sum, state_gradients, state_sum
from .time_blocks import longest_of, time_pieces


@njit(forceinline=True)
def set_step(work, m, b, step, batch, d):
    """Note where row m of the block lies: step `step` of sequence b; returns its flat index."""
    index = (step - 1) * d.B + b
    work.indices[m] = index
    work.before[m] = -1 - b if batch.resets.size > 0 and batch.resets[step - 1, b] else index
    return index


@njit(forceinline=True)
def shard_sums(sums, shard):
    """The sums of one shard."""
    return Sums(sums.inputs[shard], sums.state[shard], sums.initial[shard])


@njit
def unit_products(sums, work, count, dx, rows, job, d):
    """The products of `count` rows of δ: with the states and inputs of their steps, and with U, added to `rows` of dx (flat)."""
    x, params = job.batch.x, job.params
    state_gradients(params, job.tape, job.initial, sums.state, work, count, d)
    input_gradients(x, sums.inputs, params, work, count, d)
    input_errors(x, dx, rows, job.panels.inputs, params, work, count, d)


@njit(once=True)
def block_products(piece, block):
    """The products of one piece of a block."""
    job, work, m, pieces = block.job, block.work, block.filled, block.job.pieces.number
    d = measure(job.params, job.tape, job.initial)
    width = maximum(padded(d.I + 1, job.params.U), d.Hp)
    size = work.scratch.size // width // pieces
    scratch = work.scratch[piece * size * width:]
    sums = refer(shard_sums(job.sums, block.shard + piece))
    stop = m * (piece + 1) // pieces
    for first in range(m * piece // pieces, stop, size):
        w = refer(BackwardWork(work.delta[first * d.row:], work.carry, work.weights, work.indices[first:], work.before[first:],
                               scratch))
        unit_products(sums, w, minimum(size, stop - first), simd.flat(job.dx), w.indices, job, d)


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
def empty_sums(passes, batch, params, initial, d):
    """Zero sums of every shard, or of the pieces of a single one."""
    shards = maximum(passes.shards, time_pieces(passes.shards if passes.full else 2, longest_of(batch), d, 0).number)
    resets = len(initial) * d.B * d.H if batch.resets.size > 0 else 0
    return Sums(zeros((shards, input_sum(batch.x, params, d)), params.U.dtype),
                zeros((shards, state_sum(params, d)), params.U.dtype), zeros((shards, resets), params.U.dtype))


@njit
def add_sums(grads, sums, tape, batch, initial):
    """Add the sums of all shards to the gradients, in order."""
    d = measure(grads.params, tape, initial)
    for s in range(sums.inputs.shape[0]):
        add_input_sum(batch.x, grads.params, sums.inputs[s], d)
        add_state_sum(grads.params, sums.state[s], d)
        if batch.resets.size > 0:
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
