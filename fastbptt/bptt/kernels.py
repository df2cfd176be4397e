"""The entry points that Python calls: one forward, one backward, for every cell; tuples come without their names."""
from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from ..arrays import Batch, Grads, Options
from ..cells.protocol import Errors
from ..cells.scan import scan_backward, scan_forward, start_tape
from ..engine.jit import kernel
from ..engine.tuples import named
from .truncation import Plan, passes_of_plan


class Kernels(NamedTuple):
    """The compiled entry points of one type of cell."""

    forward: Any
    backward: Any


@cache
def kernels_of(tape_type: type, state_type: type, params_type: type) -> Kernels:
    """The entry points for the tuples of a cell."""

    @kernel
    def forward_kernel(tape, batch, initial, params, options, threads, launcher):
        saved, first = named(tape, tape_type), named(initial, state_type)
        start_tape(saved, first)
        scan_forward(saved, named(batch, Batch), first, named(params, params_type), named(options, Options), threads, launcher)

    @kernel
    def backward_kernel(grads, errors, tape, batch, initial, params, options, plan, threads, launcher):
        given = named(batch, Batch)
        passes = passes_of_plan(named(plan, Plan), given, tape[0].shape[0] - 1, tape[0].shape[2], options[2] > 0)
        scan_backward(Grads(named(grads[0], params_type), grads[1], named(grads[2], state_type)),
                      Errors(errors[0], named(errors[1], state_type), named(errors[2], state_type)),
                      named(tape, tape_type), given, named(initial, state_type), named(params, params_type),
                      named(options, Options), passes, threads, launcher)

    return Kernels(forward_kernel, backward_kernel)

