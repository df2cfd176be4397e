"""The entry points that Python calls: one forward, one backward, for every cell; tuples come without their names."""
from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..arrays import NONE, Array, Batch, Errors, Grads, Options, Passes
from ..cells.backward import scan_segment
from ..cells.buffers import Dims, Sums, dims_of
from ..cells.forward import scan_forward, start_tape
from ..cells.gradients import add_sums
from ..cells.pieces import block_steps, longest_of, time_pieces
from ..engine.jit import kernel
from ..engine.panels import padded
from ..engine.tuples import named


class Kernels(NamedTuple):
    """The compiled entry points of one type of cell."""

    forward: Any
    """Row 0 of the tape becomes the initial state, unless the arrays begin after step `batch.start` > 0: then it is given."""
    backward: Any
    """Adds a segment of the steps to `sums`, and with `last` these to the gradients."""


@cache
def kernels_of(tape_type: type, state_type: type, params_type: type) -> Kernels:
    """The entry points for the tuples of a cell."""

    @kernel(allocates=False)
    def forward_kernel(tape, batch, initial, params, options, threads, launcher):
        saved, first, given = named(tape, tape_type), named(initial, state_type), named(batch, Batch)
        if given.start == 0:
            start_tape(saved, first)
        scan_forward(saved, given, first, named(params, params_type), named(options, Options), threads, launcher)

    @kernel(allocates=False)
    def backward_kernel(sums, grads, errors, tape, batch, initial, params, options, passes, call):
        dparams, dx, dstate = grads
        dh, incoming, outgoing = errors
        last, threads, launcher = call
        saved, first, given, parts = named(tape, tape_type), named(initial, state_type), named(batch, Batch), named(sums, Sums)
        scan_segment(parts, dx, Errors(dh, named(incoming, state_type), named(outgoing, state_type)), saved, given, first,
                     named(params, params_type), named(options, Options), named(passes, Passes), threads, launcher)
        if last:
            add_sums(Grads(named(dparams, params_type), dx, named(dstate, state_type)), parts, saved, given, first)

    return Kernels(forward_kernel, backward_kernel)


# ---------------------------------------------------------------------------------------------- what Python plans


def _dims(cell: Any, T: int, B: int, dtype: Any) -> Dims:
    form = cell.form
    found: Dims = dims_of(T, B, cell.input_size, cell.hidden_size, form.states, form.layout.columns, NONE[dtype])
    return found


def segment_unit(cell: Any, batch: Batch, shards: int, dtype: Any) -> int:
    """What the steps of a segment have to be a multiple of, for the same bits as without segments."""
    d = _dims(cell, batch.x.shape[0], batch.x.shape[1], dtype)
    return int(block_steps(time_pieces(shards, longest_of(batch), d, 1, 0), (d.B + shards - 1) // shards, d))


@lru_cache(maxsize=64)
def _sum_shapes(cell: Any, T: int, B: int, dtype: Any, ids: bool, shards: int, single: bool, longest: int,
                resets: bool) -> tuple[tuple[int, int], ...]:
    """Shapes of `Sums` (see `input_sum` and `state_sum`)."""
    form, hidden, like = cell.form, cell.hidden_size, NONE[dtype]
    Hp = padded(hidden, like)
    if single:
        shards = time_pieces(1, longest, _dims(cell, T, B, dtype), 1, 0).number
    return ((shards, form.layout.input_columns * Hp * (cell.input_size + 1 if ids else padded(cell.input_size + 1, like))),
            (shards, (form.layout.recurrent * Hp + form.extra_count) * Hp), (shards, form.states * B * hidden * resets))


def empty_sums(cell: Any, batch: Batch, passes: Passes, dtype: Any) -> tuple[Array, ...]:
    """Zero partial sums for the backward scans over a batch."""
    T, B = batch.x.shape[:2]
    single = passes.full and passes.shards == 1
    shapes = _sum_shapes(cell, T, B, dtype, batch.x.ndim == 2, passes.shards, single, longest_of(batch) if single else 0,
                         batch.resets.size > 0)
    return tuple([np.zeros(shape, dtype) for shape in shapes])
