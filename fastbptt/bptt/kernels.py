"""The entry points that Python calls: one forward, one backward, for every cell."""
from __future__ import annotations

from ..cells.scan import scan_backward, scan_forward
from ..engine.jit import kernel
from .truncation import passes_of_plan


@kernel
def forward_kernel(tape, batch, initial, params, options, threads, launcher):
    scan_forward(tape, batch, initial, params, options, threads, launcher)


@kernel
def backward_kernel(grads, errors, tape, batch, initial, params, options, plan, threads, launcher):
    passes = passes_of_plan(plan, batch, tape.h.shape[0] - 1, tape.h.shape[2])
    scan_backward(grads, errors, tape, batch, initial, params, options, passes, threads, launcher)
