"""The entry points that Python calls: one forward, one backward, for every cell; tuples come without their names."""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from ..arrays import Batch, Options
from ..cells.protocol import Parts, Passes, measure
from ..cells.rows import block_steps, crew_of
from ..cells.scan import scan_forward, start_tape
from ..cells.scan_back import add_parts, empty_parts, scan_segment
from ..engine.jit import kernel, njit
from ..engine.shards import enter_threads
from ..engine.tuples import named


class Kernels(NamedTuple):
    """The compiled entry points of one type of cell."""

    forward: Any
    """Row 0 of the tape becomes the initial state, unless the arrays begin after step `batch.start` > 0: then it is given."""
    backward: Any
    """With parts of shape (0, 0), all passes; with those of `parts_for`, the full passes over a segment, to be added up later."""
    parts_for: Any
    """(parts, steps): empty parts of the gradients, and what the length of a segment has to be a multiple of."""
    add_up: Any
    """Adds the parts to the gradients."""


def enter_scan(cell: Any, T: int, B: int, per_step: int, rows: int) -> tuple[int, int]:
    """Threads and launcher for a scan of `rows` rows together with `per_step` products with W and with U a step."""
    hidden = cell.hidden_size
    return enter_threads(2 * per_step * T * B * cell.gates * hidden * (hidden + cell.input_size), rows)


@njit(allocates=True)
def run_passes(passes, parts, dparams, dx, dstate, dh, incoming, outgoing, tape, batch, initial, params, options, threads,
               launcher):
    """Passes back, added to the gradients; where parts are given, to these."""
    d = measure(params, tape, initial)
    whole = parts.inputs.size == 0
    kept = empty_parts(passes, batch, params, initial, d) if whole else Parts(parts.inputs, parts.state, parts.initial)
    scan_segment(kept, dx, dh, incoming, outgoing, tape, batch, initial, params, options, passes, threads, launcher)
    if whole:
        add_parts(dparams, dstate, kept, batch, d)


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
    def backward_kernel(parts, dparams, dx, dstate, dh, incoming, outgoing, tape, batch, initial, params, options, passes,
                        threads, launcher):
        run_passes(named(passes, Passes), named(parts, Parts), named(dparams, params_type), dx, named(dstate, state_type), dh,
                   named(incoming, state_type), named(outgoing, state_type), named(tape, tape_type), named(batch, Batch),
                   named(initial, state_type), named(params, params_type), named(options, Options), threads, launcher)

    @kernel
    def parts_for(tape, batch, initial, params, passes):
        given, first, weights = named(batch, Batch), named(initial, state_type), named(params, params_type)
        planned = named(passes, Passes)
        d = measure(weights, named(tape, tape_type), first)
        crew = crew_of(planned.shards, given, d, 1, 0)
        parts = empty_parts(planned, given, weights, first, d)
        steps = block_steps(crew, (d.B + planned.shards - 1) // planned.shards, d)
        return (parts.inputs, parts.state, parts.initial), steps

    @kernel(allocates=False)
    def add_up(dparams, dstate, parts, tape, batch, initial, params):
        d = measure(named(params, params_type), named(tape, tape_type), named(initial, state_type))
        add_parts(named(dparams, params_type), named(dstate, state_type), named(parts, Parts), named(batch, Batch), d)

    return Kernels(forward_kernel, backward_kernel, parts_for, add_up)
