"""The loop over time, one for all cells: the type of the `Params` tuple selects the form (`form.py`).

The type of the options says what a scan computes: with `Options` the states, with `Linearised` their tangents (`tangent.py`).
"""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import Options
from ..engine import simd
from ..engine.gemm import row_range
from ..engine.jit import njit, overload
from ..engine.panels import add_row, copy_row, gather_row
from ..engine.partition import shard_count
from ..engine.pool import run_pieces, stalls_of
from ..engine.primitives import empty, minimum
from ..engine.tuples import refer, tuple_kind
from .buffers import ForwardWork, measure
from .form import layout
from .inputs import input_rows
from .packing import forward_panels
from .shared_steps import Step, share_forward
from .states import load_state, steps_here
from .step import step_forward
from .time_blocks import block_steps, cut_rows, longest_of, product_rows, shard_rows, team_of


class Forward(NamedTuple):
    """What the shards of a forward scan share."""

    shards: int
    team: Any
    panels: Any
    tape: Any
    batch: Any
    initial: Any
    params: Any
    options: Any


@njit
def list_steps(index, rows, lengths, start, stop, B):
    """The flat indices of the steps start+1 … stop of the rows still running, step by step; returns how many."""
    m, n = 0, rows.size
    for t in range(start, stop):
        while n > 0 and lengths[n - 1] <= t:
            n -= 1
        for i in range(n):
            index[m] = t * B + rows[i]
            m += 1
    return m


@njit(allocates=True, once=True)
def forward_shard(shard, job):
    """All steps of one shard's sequences."""
    d = measure(job.params, job.tape, job.initial)
    order, shards = job.batch.order, job.shards
    first, by, n = shard_rows(shard, shards, order.size, job.batch.lengths[order[0]] == job.batch.lengths[order[-1]])
    rows, lengths = empty(n, np.int64), empty(n, np.int64)
    steps = minimum(d.T, block_steps((order.size + shards - 1) // shards, d))
    dtype = job.params.U.dtype
    for i in range(n):
        rows[i] = order[first + i * by]
        lengths[i] = steps_here(job.batch, rows[i], d.T)
    inputs = job.team.parts * minimum(product_rows(d), steps * n) * gathered_row(job.options, d)
    work = ForwardWork(empty(steps * n * d.row, dtype), empty(n * d.state_row, dtype), job.panels.state,
                       empty(steps * n, np.int64), empty(inputs, dtype))
    step_through(rows, lengths, steps, work, job, d)


@njit
def load_first(state, i, tape, states, b, dims):
    """Row i of the working states becomes sequence b of row 0 of the tape."""
    for k in range(states):
        gather_row(state, i * dims.state_row + k * dims.Hp, dims.Hp, simd.flat(tape[k]), b * dims.H, dims.H)


class Block(NamedTuple):
    """The first `filled` rows of the working buffers of a shard."""

    filled: int
    work: Any
    job: Any


@njit(once=True)
def prepare(part, block):
    """Working rows of one part of a block: what does not depend on the state."""
    job, work = block.job, block.work
    parts, d = job.team.parts, measure(job.params, job.tape, job.initial)
    begin, end = row_range(block.filled, part, parts)
    width = gathered_row(job.options, d)
    size = work.inputs.size // width // parts
    cuts = cut_rows(end - begin, size)
    for cut in range(cuts):
        first = begin + (end - begin) * cut // cuts
        count = begin + (end - begin) * (cut + 1) // cuts - first
        fill_rows(job.options, work.z[first * d.row:], work.inputs[part * size * width:], work.indices[first:], count, job, d)


def gathered_row(options: Any, dims: Any) -> Any:
    """Floats of the longest row that is gathered for a product."""
    raise NotImplementedError


@overload(gathered_row)
def _gathered_row(options, dims):
    return (lambda options, dims: dims.x_row) if tuple_kind(options) is Options else None


def fill_rows(options: Any, z: Any, gathered: Any, index: Any, count: Any, job: Any, dims: Any) -> Any:
    """The rows z of `count` steps with these flat indices, without what depends on the state."""
    raise NotImplementedError


@overload(fill_rows)
def _fill_rows(options, z, gathered, index, count, job, dims):
    if tuple_kind(options) is not Options:
        return None

    def fill(options, z, gathered, index, count, job, dims):
        batch, params = job.batch, job.params
        input_rows(batch.x, z, gathered, job.panels.inputs, params, index, count, dims)
        clear_columns(z, layout(params).input_columns, layout(params).columns, count, dims)
        if batch.noise.size > 0:
            add_noise(z, batch.noise, index, count, dims)
    return fill


@njit(once=True)
def step_through(rows, lengths, steps, work, job, d):
    """Run blocks of `steps` steps: first all that does not depend on the state, then step by step."""
    w, n = refer(work), rows.size
    batch, team, pool = job.batch, job.team, job.team.pool
    has_resets = batch.resets.size > 0
    for i in range(n):
        load_first(w.state, i, job.tape, len(job.initial), rows[i], d)
    for start in range(0, lengths[0], steps):
        stop = minimum(start + steps, lengths[0])
        m = list_steps(w.indices, rows, lengths, start, stop, d.B)
        run_pieces(prepare, Block(m, w, job), team.parts, pool)
        first = 0
        for t in range(start, stop):
            while lengths[n - 1] <= t:
                n -= 1
            if has_resets:
                for i in range(n):
                    if batch.resets[t, rows[i]]:
                        load_state(w.state, i, job.initial, rows[i], d)
            if pool != 0 and stalls_of(pool) == 0:
                share_forward(refer(Step(first, n, team.parts, w, job)), pool)
            else:
                step_forward(job.params, job.options, job.tape, w, d, first, n)
            first += n
    hold_states(rows, lengths, job.tape, len(job.initial), d)


@njit
def clear_columns(z, first, stop, count, dims):
    """Zeros in columns first … stop−1 of the first `count` rows."""
    for m in range(count):
        for j in range(first * dims.Hp, stop * dims.Hp, simd.lanes(z)):
            simd.store(z, m * dims.row + j, simd.splat(0, z))


@njit
def add_noise(z, noise, index, count, dims):
    """Add the noise to the pre-activations (cells with one gate)."""
    flat = simd.flat(noise)
    for m in range(count):
        add_row(z, m * dims.row, flat, index[m] * dims.H, dims.H)


@njit
def hold_states(rows, lengths, tape, states, dims):
    """Padded steps repeat the last valid state."""
    width = dims.B * dims.H
    for i in range(rows.size):
        for k in range(states):
            flat = simd.flat(tape[k])
            for t in range(lengths[i], dims.T):
                at = t * width + rows[i] * dims.H
                copy_row(flat, at + width, flat, at, dims.H)


@njit
def start_tape(tape, initial):
    """Row 0 of the state arrays of the tape becomes the initial state."""
    for k in range(len(initial)):
        copy_row(simd.flat(tape[k]), 0, simd.flat(initial[k]), 0, initial[k].size)


@njit(allocates=True, once=True)
def scan_forward(tape, batch, initial, params, options, pool=0):
    """All steps of all sequences.

    Parameters
    ----------
    tape : the cell's tape tuple
        Outputs. Its state arrays (T+1, B, H) hold the initial state in row 0; rows 1 … T and the saved gates are written.
    batch : Batch
    initial : State of arrays (B, H)
        The state that a reset restores.
    params, options : the cell's `Params`, `Options`
    pool : int
        From `fastbptt.engine.threads.pool_for`; by default the calling thread does all.
    """
    d = measure(params, tape, initial)
    panels = forward_panels(batch, params, d, pool)
    shards = shard_count(d.B, longest_of(batch), layout(params).input_columns, d.I, d.H)
    team = team_of(shards, d, pool)
    run_pieces(forward_shard, Forward(shards, team, panels, tape, batch, initial, params, options), shards,
               pool if team.pool == 0 else 0)
