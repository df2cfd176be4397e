"""The loop back through time, once for every cell and every truncation: the passes of a call are data."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..engine import simd
from ..engine.fork import run_shards
from ..engine.jit import njit
from ..engine.panels import add_row, copy_row, padded
from ..engine.primitives import empty, maximum, minimum, zeros
from ..engine.shards import block_rows
from ..engine.tuples import refer
from .carried import clip_errors, leave_at_reset, leave_at_start, pass_through
from .inputs import add_input_partial, input_errors, input_gradients, input_partial, pack_input_gradient
from .protocol import (
    BackwardWork,
    Panels,
    Parts,
    add_state_partial,
    measure,
    pack_backward,
    state_gradients,
    state_partial,
    step_backward,
)
from .rows import PASS_ROWS, Block, block_steps, crew_of, load_state, steps_here


class Backward(NamedTuple):
    """What the shards of a backward scan share."""

    parts: Any
    halo: Any
    crew: Any
    panels: Any
    dx: Any
    dh: Any
    incoming: Any
    outgoing: Any
    tape: Any
    batch: Any
    initial: Any
    params: Any
    options: Any
    passes: Any


@njit(allocates=True)
def backward_shard(shard, job):
    """All passes of one shard, unit after unit."""
    d = measure(job.params, job.tape, job.initial)
    passes, crew = job.passes, job.crew
    bounds, shards, full, overlap = passes.bounds, passes.shards, passes.full, passes.overlap
    width = maximum(padded(d.I + 1, job.params.U), d.Hp)
    size = block_rows(d.row + maximum(d.x_row, d.Hp))
    count = size
    units = bounds.size - 1
    largest = 0
    for unit in range(shard, units, shards):
        largest = maximum(largest, bounds[unit + 1] - bounds[unit])
    if full:
        count = minimum(d.T, block_steps(crew, (d.B + shards - 1) // shards, d)) * minimum(largest, PASS_ROWS)
    dtype = job.params.U.dtype
    work = BackwardWork(empty(count * d.row, dtype), zeros(largest * d.state_row, dtype), job.panels.state,
                        empty(count, np.int64), empty(count, np.int64),
                        empty(crew.pieces * minimum(size, count) * width, dtype))
    steps = empty(count if overlap else 0, np.int64)
    for unit in range(shard, units, shards):
        rows = passes.rows[bounds[unit]:bounds[unit + 1]]
        if full:
            back_by_time(rows, shard, work, job, d)
        else:
            total = zeros((rows[0, 1] - rows[-1, 3]) * d.row if overlap else 0, dtype)
            for start in range(0, rows.shape[0], PASS_ROWS):
                back_by_lag(rows[start:minimum(start + PASS_ROWS, rows.shape[0])], total, rows[-1, 3], shard, work, job, d)
            if overlap:
                products_of_total(rows, total, simd.flat(job.halo[unit]), steps, shard, work, job, d)


@njit
def back_by_time(passes, shard, work, job, d):
    """Full passes, longest first: all at the same step, a pass joins at its end; products over blocks of steps.

    The blocks begin at multiples of their number of steps, so that a call over a segment of the steps adds up the same.
    """
    size = minimum(passes.shape[0], PASS_ROWS)
    steps = work.places.size // size
    crew, incoming = job.crew, job.incoming
    parts = refer(part_of(job.parts, shard))
    for stop in range((passes[0, 1] - 1) // steps * steps, -1, -steps):
        for first in range(0, passes.shape[0], size):
            block = passes[first:minimum(first + size, passes.shape[0])]
            w = refer(BackwardWork(work.delta, work.carry[first * d.state_row:], work.weights, work.places, work.before,
                                   work.scratch))
            m, n = 0, 0
            while n < block.shape[0] and block[n, 1] > stop + steps:
                n += 1
            for t in range(minimum(stop + steps, block[0, 1]), stop, -1):
                while n < block.shape[0] and block[n, 1] >= t:
                    load_state(w.carry, n, incoming, block[n, 0], d)
                    n += 1
                step_back(block, n, t, 0, m, w, parts, job, d)
                m += n
            run_shards(products_of_piece, Block(shard, m, w, job), crew.pieces, crew.threads, crew.launcher)


@njit
def back_by_lag(passes, total, low, shard, work, job, d):
    """A block of passes, longest first: all at the same distance from their ends.

    total : flat; where it is not empty, δ of step t is added to its row t − 1 − low, and the products are left for later.
    """
    n = passes.shape[0]
    w, parts, dx = refer(work), refer(part_of(job.parts, shard)), simd.flat(job.dx)
    for i in range(n):
        if passes[i, 1] == steps_here(job.batch, passes[i, 0], d.T):
            load_state(work.carry, i, job.incoming, passes[i, 0], d)
        else:
            for j in range(d.state_row):
                work.carry[i * d.state_row + j] = 0
    m = 0
    for lag in range(passes[0, 1] - passes[0, 3]):
        while passes[n - 1, 1] - passes[n - 1, 3] <= lag:
            n -= 1
        if m + n > work.places.size:
            products(parts, w, m, dx, work.places, job, d)
            m = 0
        step_back(passes, n, d.T, lag, m, w, parts, job, d)
        if total.size > 0:
            for i in range(n):
                add_row(total, (passes[i, 1] - lag - 1 - low) * d.row, work.delta, i * d.row, d.row)
        else:
            m += n
    if m > 0:
        products(parts, w, m, dx, work.places, job, d)


@njit(forceinline=True)
def step_back(passes, n, t, lag, m, work, parts, job, d):
    """One step of n passes, each `lag` steps before its end but not after step t; rows m … m+n−1 of the block."""
    dh, carry, before = simd.flat(job.dh), work.carry, work.before
    for i in range(n):
        step = minimum(passes[i, 1] - lag, t)
        place = set_place(work, m + i, passes[i, 0], step, job.batch, d)
        if step > passes[i, 2]:
            add_row(carry, i * d.state_row, dh, place * d.H, d.H)
    step_backward(job.params, job.options, job.tape, job.initial, work, d, m, n)
    clip = job.options.clip
    if clip > 0:
        clip_errors(carry, n, clip, d)
    for i in range(n):
        if before[m + i] < 0:
            leave_at_reset(passes[i, 0], i, carry, parts.initial, d)
        elif minimum(passes[i, 1] - lag, t) == 1:
            leave_at_start(passes[i, 0], i, carry, job.outgoing, d)


@njit(forceinline=True)
def set_place(work, m, b, step, batch, d):
    """Note where row m of the block lies: step `step` of sequence b."""
    place = (step - 1) * d.B + b
    work.places[m] = place
    work.before[m] = -1 - b if batch.resets.size > 0 and batch.resets[step - 1, b] else place
    return place


@njit
def products(parts, work, count, dx, rows, job, d):
    """The products of `count` rows of δ: with the states and inputs of their steps, and with U, added to `rows` of dx (flat)."""
    x, params = job.batch.x, job.params
    state_gradients(params, job.tape, job.initial, parts.state, work, count, d)
    input_gradients(x, parts.inputs, params, work, count, d)
    input_errors(x, dx, rows, job.panels.inputs, params, work, count, d)


@njit(forceinline=True)
def part_of(parts, i):
    """The i-th part of the gradients."""
    return Parts(parts.inputs[i], parts.state[i], parts.initial[i])


@njit
def products_of_piece(piece, block):
    """The products of one piece of a block."""
    job, work, m = block.job, block.work, block.filled
    pieces = job.crew.pieces
    d = measure(job.params, job.tape, job.initial)
    width = maximum(padded(d.I + 1, job.params.U), d.Hp)
    size = work.scratch.size // width // pieces
    scratch = work.scratch[piece * size * width:]
    parts = refer(part_of(job.parts, block.shard + piece))
    stop = m * (piece + 1) // pieces
    for first in range(m * piece // pieces, stop, size):
        w = refer(BackwardWork(work.delta[first * d.row:], work.carry, work.weights, work.places[first:], work.before[first:],
                               scratch))
        products(parts, w, minimum(size, stop - first), simd.flat(job.dx), w.places, job, d)


@njit
def products_of_total(passes, total, halo, rows, shard, work, job, d):
    """The products for the steps of a unit of overlapping passes, whose δ were summed.

    The steps before the unit's own, which its passes only reach back to, belong to another unit: their share of dx goes
    to its `halo`, a row for each. `rows` is room for as many integers as work.places.
    """
    w, parts, batch = refer(work), refer(part_of(job.parts, shard)), job.batch
    b, top = passes[0, 0], passes[0, 1]
    own, low = passes[-1, 2], passes[-1, 3]
    step = low + 1
    while step <= top:
        stop = own if step <= own else top
        count = minimum(stop - step + 1, work.places.size)
        for m in range(count):
            place = set_place(w, m, b, step + m, batch, d)
            rows[m] = place if step > own else step + m - 1 - low
            copy_row(work.delta, m * d.row, total, (step + m - 1 - low) * d.row, d.row)
        products(parts, w, count, simd.flat(job.dx) if step > own else halo, rows, job, d)
        step += count


@njit(allocates=True)
def backward_panels(batch, params, d):
    """The weights as the backward scan reads them."""
    return Panels(pack_input_gradient(batch.x, params, d), pack_backward(params, d))


@njit(allocates=True)
def empty_parts(passes, batch, params, initial, d):
    """The parts of the gradients that are added up apart, zero: of every shard, or of the pieces of a single one."""
    shards = maximum(passes.shards, crew_of(passes.shards if passes.full else 2, batch, d, 1, 0).pieces)
    resets = len(initial) * d.B * d.H if batch.resets.size > 0 else 0
    return Parts(zeros((shards, input_partial(batch.x, params, d)), params.U.dtype),
                 zeros((shards, state_partial(params, d)), params.U.dtype), zeros((shards, resets), params.U.dtype))


@njit
def add_parts(dparams, dstate, parts, batch, d):
    """Add the shards' parts to the gradients, in order."""
    for s in range(parts.inputs.shape[0]):
        add_input_partial(batch.x, dparams, parts.inputs[s], d)
        add_state_partial(dparams, parts.state[s], d)
        if batch.resets.size > 0:
            for k in range(len(dstate)):
                add_row(simd.flat(dstate[k]), 0, parts.initial[s], k * d.B * d.H, d.B * d.H)


@njit(allocates=True)
def empty_halo(passes, dx, d):
    """For every unit of overlapping passes, dx of the steps before its own that they reach."""
    reach = 0
    if passes.overlap and dx.size > 0:
        for i in range(passes.bounds.size - 1):
            first = passes.bounds[i + 1] - 1
            reach = maximum(reach, passes.rows[first, 2] - passes.rows[first, 3])
    return zeros((passes.bounds.size - 1, reach, d.I), dx.dtype)


@njit
def add_halo(dx, halo, passes, d):
    """Add what the units found for steps that are not their own, in order."""
    if halo.size > 0:
        for unit in range(halo.shape[0]):
            first = passes.bounds[unit + 1] - 1
            for step in range(passes.rows[first, 3], passes.rows[first, 2]):
                add_row(simd.flat(dx), (step * d.B + passes.rows[first, 0]) * d.I, simd.flat(halo),
                        (unit * halo.shape[1] + step - passes.rows[first, 3]) * d.I, d.I)


@njit(allocates=True)
def scan_segment(parts, dx, dh, incoming, outgoing, tape, batch, initial, params, options, passes, threads, launcher):
    """`scan_backward` without the sums over shards: `parts`, from `empty_parts`, may collect several segments, last first."""
    d = measure(params, tape, initial)
    panels = backward_panels(batch, params, d)
    halo = empty_halo(passes, dx, d)
    crew = crew_of(passes.shards if passes.full else 2, batch, d, threads, launcher)
    pass_through(incoming, outgoing, batch, d)
    run_shards(backward_shard, Backward(parts, halo, crew, panels, dx, dh, incoming, outgoing, tape, batch, initial, params,
                                        options, passes), passes.shards, threads, launcher)
    add_halo(dx, halo, passes, d)


@njit(allocates=True)
def scan_backward(grads, errors, tape, batch, initial, params, options, passes, threads=1, launcher=0):
    """All passes of the errors back through time.

    Parameters
    ----------
    grads : Grads
        Added to: params like `params`, x like batch.x (of size 0 for ids), state like `initial` (errors that reach a reset).
    errors : Errors
    tape, batch, initial, params, options
        As `scan_forward` left them.
    passes : Passes
        From `fastbptt.bptt.truncation.plan_passes`.
    threads, launcher : int
        As for `scan_forward`.
    """
    d = measure(params, tape, initial)
    parts = empty_parts(passes, batch, params, initial, d)
    scan_segment(parts, grads.x, errors.h, errors.incoming, errors.outgoing, tape, batch, initial, params, options, passes,
                 threads, launcher)
    add_parts(grads.params, grads.state, parts, batch, d)
