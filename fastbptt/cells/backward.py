"""The loop back through time, one for all cells and all truncations: the passes of a call are data."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..engine import simd
from ..engine.jit import njit
from ..engine.panels import add_row
from ..engine.pool import run_pieces, stalls_of
from ..engine.primitives import empty, maximum, minimum, zeros
from ..engine.tuples import refer
from .buffers import BackwardWork, measure
from .gradients import (
    add_overlap,
    add_sums,
    block_products,
    empty_overlap,
    empty_sums,
    scratch_row,
    set_step,
    shard_sums,
    summed_products,
    unit_products,
)
from .packing import backward_panels
from .shared_steps import Step, share_backward
from .states import clip_errors, leave_at_reset, leave_at_start, load_state, pass_through, steps_here
from .step import step_backward
from .time_blocks import PASS_ROWS, Team, block_steps, product_rows, team_of


class Backward(NamedTuple):
    """What the shards of a backward scan share."""

    sums: Any
    overlap: Any
    team: Any
    panels: Any
    dx: Any
    errors: Any
    tape: Any
    batch: Any
    initial: Any
    params: Any
    options: Any
    passes: Any


@njit(allocates=True, once=True)
def backward_shard(shard, job):
    """All passes of one shard, one work unit after another."""
    d = measure(job.params, job.tape, job.initial)
    passes = job.passes
    bounds, shards, full, overlap = passes.bounds, passes.shards, passes.full, passes.overlap
    size = product_rows(d)
    count = size
    units = bounds.size - 1
    largest = 0
    for unit in range(shard, units, shards):
        largest = maximum(largest, bounds[unit + 1] - bounds[unit])
    if full:
        steps = block_steps((d.B + shards - 1) // shards, d)
        count = minimum(d.T, steps) * minimum(largest, PASS_ROWS)
    dtype = job.params.U.dtype
    work = BackwardWork(empty(count * d.row, dtype), zeros(largest * d.state_row, dtype), job.panels.state,
                        empty(count, np.int64), empty(count, np.int64),
                        empty(minimum(size, count) * scratch_row(job.batch.x, job.params, d), dtype))
    targets = empty(count if overlap else 0, np.int64)
    for unit in range(shard, units, shards):
        first, stop = bounds[unit], bounds[unit + 1]
        if full:
            full_passes(first, stop, shard, work, job, d)
        else:
            low = passes.stop[stop - 1]
            total = zeros((passes.end[first] - low) * d.row if overlap else 0, dtype)
            for begin in range(first, stop, PASS_ROWS):
                truncated_passes(begin, minimum(begin + PASS_ROWS, stop), total, low, shard, work, job, d)
            if overlap:
                summed_products(first, stop - 1, total, simd.flat(job.overlap[unit]), targets, shard, work, job, d)


@njit(once=True)
def full_passes(begin, end, shard, work, job, d):
    """Full passes begin … end−1, longest first, all at the same step; each joins at its end. Products are over blocks of steps.

    Blocks begin at multiples of their length, so that a call over a segment of the steps adds in the same order.
    """
    passes, incoming = job.passes, job.errors.incoming
    size = minimum(end - begin, PASS_ROWS)
    steps = work.indices.size // size
    sums = refer(shard_sums(job.sums, shard))
    for stop in range((passes.end[begin] - 1) // steps * steps, -1, -steps):
        for first in range(begin, end, size):
            last = minimum(first + size, end)
            carry = work.carry[(first - begin) * d.state_row:]
            w = refer(BackwardWork(work.delta, carry, work.weights, work.indices, work.before, work.scratch))
            m, n = 0, 0
            while first + n < last and passes.end[first + n] > stop + steps:
                n += 1
            for t in range(minimum(stop + steps, passes.end[first]), stop, -1):
                while first + n < last and passes.end[first + n] >= t:
                    load_state(w.carry, n, incoming, passes.sequence[first + n], d)
                    n += 1
                step_back(first, n, t, 0, m, w, sums, job, d)
                m += n
            block_products(shard, m, w, job, d)


@njit(once=True)
def truncated_passes(begin, end, total, low, shard, work, job, d):
    """Passes begin … end−1, longest first: all at the same distance from their ends.

    total : flat; where it is not empty, δ of step t is added to its row t − 1 − low, and the products are left for later.
    """
    passes, n = job.passes, end - begin
    w, sums, dx = refer(work), refer(shard_sums(job.sums, shard)), simd.flat(job.dx)
    for i in range(n):
        b = passes.sequence[begin + i]
        if passes.end[begin + i] == steps_here(job.batch, b, d.T):
            load_state(work.carry, i, job.errors.incoming, b, d)
        else:
            for j in range(d.state_row):
                work.carry[i * d.state_row + j] = 0
    m = 0
    for lag in range(passes.end[begin] - passes.stop[begin]):
        while passes.end[begin + n - 1] - passes.stop[begin + n - 1] <= lag:
            n -= 1
        if m + n > work.indices.size:
            unit_products(sums, w, m, dx, work.indices, job, d)
            m = 0
        step_back(begin, n, d.T, lag, m, w, sums, job, d)
        if total.size > 0:
            for i in range(n):
                add_row(total, (passes.end[begin + i] - lag - 1 - low) * d.row, work.delta, i * d.row, d.row)
        else:
            m += n
    if m > 0:
        unit_products(sums, w, m, dx, work.indices, job, d)


@njit(forceinline=True)
def step_back(begin, n, t, lag, m, work, sums, job, d):
    """One step of n passes, each `lag` steps before its end but not after step t; rows m … m+n−1 of the block."""
    passes, dh, carry, before = job.passes, simd.flat(job.errors.h), work.carry, work.before
    for i in range(n):
        step = minimum(passes.end[begin + i] - lag, t)
        index = set_step(work, m + i, passes.sequence[begin + i], step, job.batch, d)
        if step > passes.previous[begin + i]:
            add_row(carry, i * d.state_row, dh, index * d.H, d.H)
    if job.team.pool != 0 and stalls_of(job.team.pool) == 0:
        share_backward(refer(Step(m, n, job.team.parts, work, job)), job.team.pool)
    else:
        step_backward(job.params, job.options, job.tape, job.initial, work, d, m, n)
    clip = job.options.clip
    if clip > 0:
        clip_errors(carry, n, clip, d)
    for i in range(n):
        if before[m + i] < 0:
            leave_at_reset(passes.sequence[begin + i], i, carry, sums.initial, d)
        elif minimum(passes.end[begin + i] - lag, t) == 1:
            leave_at_start(passes.sequence[begin + i], i, carry, job.errors.outgoing, d)


@njit(allocates=True)
def scan_segment(sums, dx, errors, tape, batch, initial, params, options, passes, pool):
    """`scan_backward` without its last sum: `sums`, from `empty_sums`, may accumulate segments of the steps, last first."""
    d = measure(params, tape, initial)
    panels = backward_panels(batch, params, d, pool)
    overlap = empty_overlap(passes, dx, d)
    team = team_of(passes.shards, d, pool) if passes.full else Team(1, 0)
    pass_through(errors.incoming, errors.outgoing, batch, d)
    run_pieces(backward_shard, Backward(sums, overlap, team, panels, dx, errors, tape, batch, initial, params, options, passes),
               passes.shards, pool if team.pool == 0 else 0)
    add_overlap(dx, overlap, passes, d)


@njit(allocates=True, once=True)
def scan_backward(grads, errors, tape, batch, initial, params, options, passes, pool=0):
    """All passes of the errors back through time.

    Parameters
    ----------
    grads : Grads
        Added to: params like `params`, x like batch.x (of size 0 for ids), state like `initial` (errors that reach a reset).
    errors : Errors
    tape, batch, initial, params, options
        As `scan_forward` left them.
    passes : Passes
        From `fastbptt.bptt.passes.plan_passes`.
    pool : int
        As for `scan_forward`.
    """
    sums = empty_sums(passes, batch, params, initial, measure(params, tape, initial), pool)
    scan_segment(sums, grads.x, errors, tape, batch, initial, params, options, passes, pool)
    add_sums(grads, sums, tape, batch, initial, pool)
