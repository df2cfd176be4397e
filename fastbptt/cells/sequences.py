"""Gradients of each sequence: the backward scan keeps δ of every step, and the products are over the steps of one sequence.

The recurrence runs over all sequences together, as it does for their sum. What differs comes after it:

    ∂L_b/∂W = Σ_t δ_{t,b} h_{t−1,b}ᵀ,    ∂L_b/∂U = Σ_t δ_{t,b} x_{t,b}ᵀ,    ∂L_b/∂b = Σ_t δ_{t,b}
"""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, Batch, Errors, Options, Passes
from ..engine import simd
from ..engine.jit import kernel, njit, overload
from ..engine.panels import add_row, copy_row
from ..engine.pool import run_pieces
from ..engine.primitives import empty, minimum
from ..engine.tuples import named, refer, tuple_kind
from .backward import Backward, backward_shard
from .buffers import BackwardWork, Dims, Panels, Sums, measure
from .form import layout
from .gradients import add_overlap, empty_overlap, scratch_row, set_step, shard_sums, unit_products
from .packing import backward_panels
from .states import pass_through, steps_here
from .time_blocks import Team, product_rows, team_of


class KeptErrors(NamedTuple):
    """In place of `Sums`: δ is added to the row of its step, where other scans add ∂L/∂x."""

    initial: Array


@overload(shard_sums)
def _shard_sums(sums, shard):
    return (lambda sums, shard: KeptErrors(sums.initial[shard])) if tuple_kind(sums) is KeptErrors else None


@overload(unit_products)
def _unit_products(sums, work, count, dx, rows, job, d):
    if tuple_kind(sums) is not KeptErrors:
        return None

    def keep(sums, work, count, dx, rows, job, d):
        for m in range(count):
            add_row(dx, rows[m] * d.row, work.delta, m * d.row, layout(job.params).columns * d.Hp)
    return keep


@njit(allocates=True, once=True)
def scan_errors(delta, sums, errors, tape, batch, initial, params, options, passes, pool=0):
    """`scan_backward` up to the products: δ of every step is added to `delta`, (T, B, Dims.row).

    sums : KeptErrors
        Errors that reach a reset, for every shard; not of use here.
    """
    d = measure(params, tape, initial)
    as_input = Dims(d.T, d.B, d.row, d.H, d.Hp, d.row, d.x_row, d.state_row)
    panels, overlap = backward_panels(batch, params, d, pool), empty_overlap(passes, delta, as_input)
    team = team_of(passes.shards, d, pool) if passes.full else Team(1, 0)
    pass_through(errors.incoming, errors.outgoing, batch, d)
    job = Backward(sums, overlap, team, panels, delta, errors, tape, batch, initial, params, options, passes)
    run_pieces(backward_shard, job, passes.shards, pool if team.pool == 0 else 0)
    add_overlap(delta, overlap, passes, as_input)


# ---------------------------------------------------------------------------------------------- the products


class SequenceProducts(NamedTuple):
    """Products of the sequences first … first+n−1, one row of `sums` for each, in so many shards."""

    sums: Any
    delta: Array
    first: int
    shards: int
    nothing: Array
    team: Any
    panels: Any
    tape: Any
    batch: Any
    initial: Any
    params: Any


@njit(allocates=True, once=True)
def sequence_shard(shard, job):
    """The sequences of one shard, one after the other."""
    d, batch, dtype = measure(job.params, job.tape, job.initial), job.batch, job.params.U.dtype
    n, size = job.sums.inputs.shape[0], minimum(product_rows(d), d.T)
    work = BackwardWork(empty(size * d.row, dtype), empty(0, dtype), job.nothing, empty(size, np.int64), empty(size, np.int64),
                        empty(size * scratch_row(batch.x, job.params, d), dtype))
    for own in range(n * shard // job.shards, n * (shard + 1) // job.shards):
        one_sequence(own, job.first + own, size, work, job, d)


@njit(once=True)
def one_sequence(own, b, size, work, job, d):
    """The products over the steps of sequence b."""
    delta, w, sums, length = simd.flat(job.delta), refer(work), refer(shard_sums(job.sums, own)), steps_here(job.batch, b, d.T)
    for first in range(0, length, size):
        count = minimum(size, length - first)
        for m in range(count):
            index = set_step(w, m, b, first + m + 1, job.batch, d)
            copy_row(w.delta, m * d.row, delta, index * d.row, layout(job.params).columns * d.Hp)
        unit_products(sums, w, count, job.nothing, w.indices, job, d)


class SequenceKernels(NamedTuple):
    """The compiled entry points of one type of cell."""

    errors: Any
    products: Any


@cache
def sequence_kernels(tape_type: type, state_type: type, params_type: type) -> SequenceKernels:
    """The entry points for the tuples of a cell."""

    @kernel(allocates=False)
    def errors_kernel(delta, at_resets, errors, tape, batch, initial, params, options, passes, pool):
        dh, incoming, outgoing = errors
        sent = Errors(dh, named(incoming, state_type), named(outgoing, state_type))
        scan_errors(delta, KeptErrors(at_resets), sent, named(tape, tape_type), named(batch, Batch), named(initial, state_type),
                    named(params, params_type), named(options, Options), named(passes, Passes), pool)

    @kernel(allocates=False)
    def products_kernel(sums, delta, nothing, tape, batch, initial, params, call):
        first, shards, pool = call
        job = SequenceProducts(Sums(sums[0], sums[1], sums[2]), delta, first, shards, nothing, Team(1, 0),
                               Panels(nothing, nothing), named(tape, tape_type), named(batch, Batch), named(initial, state_type),
                               named(params, params_type))
        run_pieces(sequence_shard, job, shards, pool)
    return SequenceKernels(errors_kernel, products_kernel)
