"""The entry points that Python calls: one forward, one backward, for every cell; tuples come without their names."""
from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..arrays import NONE, Array, Batch, Errors, Grads, Options, Passes
from ..cells.backward import scan_backward, scan_segment
from ..cells.buffers import Sums, dims_of, input_sum_size, state_sum_size
from ..cells.form import FORMS
from ..cells.forward import scan_forward, start_tape
from ..cells.gradients import add_sums
from ..cells.time_blocks import block_steps
from ..engine.jit import kernel
from ..engine.panels import padded
from ..engine.tuples import named


class Kernels(NamedTuple):
    """The compiled entry points of one type of cell."""

    forward: Any
    """Row 0 of the tape becomes the initial state, unless the arrays begin after step `batch.start` > 0: then it is given."""
    backward: Any
    """All steps at once; or a segment of them into `sums`, and with the `last` one these into the gradients."""


def kernels_of(cell: Any) -> Kernels:
    """The entry points of a cell."""
    return _kernels_of(cell.tape_type, cell.state_type, cell.params_type)


@cache
def _kernels_of(tape_type: type, state_type: type, params_type: type) -> Kernels:
    """The entry points for the tuples of a cell."""

    @kernel(allocates=False)
    def forward_kernel(tape, batch, initial, params, options, pool):
        saved, first, given = named(tape, tape_type), named(initial, state_type), named(batch, Batch)
        if given.start == 0:
            start_tape(saved, first)
        scan_forward(saved, given, first, named(params, params_type), named(options, Options), pool)

    @kernel(allocates=False)
    def backward_kernel(sums, grads, errors, tape, batch, initial, params, options, passes, call):
        dparams, dx, dstate = grads
        dh, incoming, outgoing = errors
        whole, last, pool = call
        saved, first, given = named(tape, tape_type), named(initial, state_type), named(batch, Batch)
        found = Grads(named(dparams, params_type), dx, named(dstate, state_type))
        sent = Errors(dh, named(incoming, state_type), named(outgoing, state_type))
        weights, chosen, way = named(params, params_type), named(options, Options), named(passes, Passes)
        if whole:
            scan_backward(found, sent, saved, given, first, weights, chosen, way, pool)
        else:
            parts = Sums(sums[0], sums[1], sums[2])      # by value, as `scan_backward` has them: one compiled version for both
            scan_segment(parts, dx, sent, saved, given, first, weights, chosen, way, pool)
            if last:
                add_sums(found, parts, saved, given, first, pool)

    return Kernels(forward_kernel, backward_kernel)


# ---------------------------------------------------------------------------------------------- what Python plans


def cell_dims(cell: Any, T: int, B: int, dtype: Any) -> Any:
    """The sizes of a scan of a cell."""
    form = cell.form
    return dims_of(T, B, cell.input_size, cell.hidden_size, form.states, form.layout.columns, NONE[dtype])


def segment_unit(cell: Any, batch: Batch, shards: int, dtype: Any) -> int:
    """What the steps of a segment have to be a multiple of, for the same bits as without segments."""
    d = cell_dims(cell, batch.x.shape[0], batch.x.shape[1], dtype)
    return int(block_steps((d.B + shards - 1) // shards, d))


@lru_cache(maxsize=64)
def sum_shapes(params_type: type, inputs: int, hidden: int, dtype: Any, ids: bool, B: int, shards: int,
                resets: bool) -> tuple[tuple[int, int], ...]:
    """Shapes of `Sums` (see `input_sum` and `state_sum`)."""
    form, like = FORMS[params_type], NONE[dtype]
    lay, Hp = form.layout, padded(hidden, like)
    return ((shards, input_sum_size(lay.input_columns, inputs, Hp, ids, like)),
            (shards, state_sum_size(lay.recurrent, form.extra_count, Hp)), (shards, form.states * B * hidden * resets))


def empty_sums(cell: Any, batch: Batch, passes: Passes, dtype: Any) -> tuple[Array, ...]:
    """Zero partial sums for the backward scans over the segments of a batch."""
    shapes = sum_shapes(cell.params_type, cell.input_size, cell.hidden_size, dtype, batch.x.ndim == 2, len(batch.lengths),
                         passes.shards, batch.resets.size > 0)
    return tuple([np.zeros(shape, dtype) for shape in shapes])
