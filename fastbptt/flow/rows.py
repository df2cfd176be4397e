"""All steps of a tape side by side: T·B sequences of one step, on which the backward scan is a step's derivative.

The saved arrays of a step do not depend on the others, so a tape of T steps of B sequences is also a tape of one step of T·B
sequences, each with the state before it as its initial state. One backward call then takes errors of all states at once to
the states before them, as one product over T·B rows, and adds up the gradients of the parameters: for any cell.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import NO_RESETS, NONE, Array, Batch, Grads
from ..bptt.passes import FULL, run_backward
from ..bptt.tape import Tape, empty_grads
from ..bptt.truncation import NO_ROWS, Plan
from ..errors import check_params, check_single, check_tape, first_array

ONCE = Plan(FULL.horizon, FULL.stride, NO_ROWS)


class Rows:
    """The steps start+1 … stop of a tape, side by side; arrays are (steps, B, …) outside and (1, steps·B, …) inside."""

    def __init__(self, cell: Any, params: Any, tape: Tape, start: int = 0, stop: int | None = None):
        self.cell, self.params = check_single(cell), check_params(cell, params)
        check_tape(cell, tape, Tape, first_array(self.params).dtype)
        T, B = tape.batch.x.shape[:2]
        stop = T if stop is None else stop
        self.shape = stop - start, B
        valid = np.arange(start, stop)[:, None] < tape.batch.lengths
        self.resets = valid & tape.batch.resets[start:stop] if tape.batch.resets.size else np.zeros(self.shape, bool)
        n = (stop - start) * B
        states = len(tape.initial)
        before = []
        for saved, initial in zip(tape.arrays[:states], tape.initial, strict=True):
            before.append(np.where(self.resets[..., None], initial, saved[start:stop]).reshape(n, -1))
        arrays: list[Array] = [np.stack([first, saved[start + 1:stop + 1].reshape(n, -1)])
                               for first, saved in zip(before, tape.arrays[:states], strict=True)]
        arrays += [np.ascontiguousarray(a[start:stop]).reshape(1, n, -1) if a.size else a for a in tape.arrays[states:]]
        x = np.ascontiguousarray(tape.batch.x[start:stop])
        batch = Batch(x.reshape(1, n, *x.shape[2:]), valid.astype(np.int64).ravel(), NO_RESETS, NONE[x.dtype]
                      if x.ndim == 3 else NONE[arrays[0].dtype])
        self.tape = Tape(cell, type(tape.arrays)(*arrays), batch, cell.state_type(*before))

    def back(self, errors: tuple[Array, ...]) -> Grads:
        """From ∂L/∂(state after every step), (steps, B, H) each, to that of the states before, and the parameters' sums."""
        n = self.shape[0] * self.shape[1]
        grads = empty_grads(self.cell, self.params, self.tape)
        flat = self.cell.state_type(*[np.ascontiguousarray(e).reshape(n, -1) for e in errors])
        run_backward(grads, self.cell, self.params, self.tape, np.zeros((1, *flat[0].shape), flat[0].dtype), flat, ONCE)
        before = [np.where(self.resets[..., None], 0, g.reshape(*self.shape, -1)).astype(g.dtype, copy=False)
                  for g in grads.state]
        return Grads(grads.params, grads.x, self.cell.state_type(*before))
