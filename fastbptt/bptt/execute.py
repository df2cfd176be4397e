"""The one loop over a plan: every segment through all layers, forward and back, with masks, dropout, clipping and threads."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, Batch, Grads, Passes
from ..cells.cell import scans_of
from ..engine.shards import enter_threads, leave_threads
from ..errors import check_array
from .directions import reverse_batch, reverse_sequences
from .dropout import draw_mask, dropped
from .kernels import empty_sums, kernels_of
from .plan import BACKWARD, FORWARD, RESTORE, SAVE, Action

DhFunction = Callable[[int, int, Array], Any]


class Run(NamedTuple):
    """What one scan over a segment read and wrote."""

    batch: Batch
    arrays: Any
    """The cell's tape tuple."""


class Scan:
    """One cell of a call, in one direction."""

    __slots__ = ("buffer", "cell", "dparams", "dstate", "initial", "kernels", "params", "reverse", "sums")

    def __init__(self, cell: Any, reverse: bool, params: Any, initial: Any):
        self.cell, self.reverse, self.initial = cell, reverse, initial
        self.params = tuple(cell.apply_mask(params))
        self.kernels = kernels_of(cell.tape_type, cell.state_type, cell.params_type)
        self.buffer: Any = None

    @property
    def dtype(self) -> Any:
        return self.params[0].dtype

    def tape(self, steps: int, longest: int | None) -> Any:
        """Room for the steps of a segment: of its own, or where there are several the same again and again."""
        B = self.initial[0].shape[0]
        if longest is None:
            return self.cell.empty_tape(steps, B, self.dtype)
        if self.buffer is None:
            self.buffer = self.cell.empty_tape(longest, B, self.dtype)
        states = len(self.initial)
        return self.cell.tape_type(*[a[:steps + (k < states)] if a.size else a for k, a in enumerate(self.buffer)])

    def threads(self, T: int, per_step: int, rows: int) -> tuple[int, int]:
        """Threads and launcher for `rows` rows together, with `per_step` products with W and with U a step."""
        cell, B = self.cell, self.initial[0].shape[0]
        hidden = cell.hidden_size
        return enter_threads(2 * per_step * T * B * cell.gates * hidden * (hidden + cell.input_size), rows)

    def forward(self, batch: Batch, state: Any, longest: int | None) -> Run:
        """The scan over a segment that begins with this state."""
        T, B = batch.x.shape[:2]
        arrays = self.tape(T, longest)
        if batch.start > 0:
            for saved, first in zip(arrays, state, strict=False):
                saved[0] = first
        threads, launcher = self.threads(T, 1, B)
        try:
            self.kernels.forward(tuple(arrays), tuple(batch), tuple(self.initial), self.params, tuple(self.cell.options), threads,
                                 launcher)
        finally:
            leave_threads(launcher)
        return Run(batch, arrays)

    def start_gradients(self, dx_shape: Any = None) -> None:
        """Zeros for a backward call to add to."""
        dtype = self.dtype
        self.dparams = tuple([np.zeros(a.shape, dtype) for a in self.params])
        self.dstate = tuple([np.zeros(a.shape, dtype) for a in self.initial])

    def backward(self, run: Run, passes: Passes, dx: Array, dh: Array, incoming: Any, clip: float, first: bool,
                 last: bool) -> Any:
        """The error that leaves the segment; `first` and `last` say whether it is the first or last of its passes to be gone through."""
        cell, batch = self.cell, run.batch
        if first:
            self.sums = empty_sums(cell, batch, passes, self.dtype)
        outgoing = self.dstate if last else tuple([np.zeros_like(a) for a in self.initial])
        options = cell.options if clip == 0 else cell.options._replace(clip=clip)
        threads, launcher = self.threads(batch.x.shape[0], 2, len(passes.sequence))
        try:
            self.kernels.backward(self.sums, (self.dparams, dx, self.dstate), (dh, tuple(incoming), outgoing), tuple(run.arrays),
                                  tuple(batch), tuple(self.initial), self.params, tuple(options), tuple(passes),
                                  (last, threads, launcher))
        finally:
            leave_threads(launcher)
        return outgoing


class Execution:
    """A call under way: its scans, and the states that the last action left."""

    def __init__(self, cell: Any, params: Any, batch: Batch, initial: Any, seed: int | None = None, longest: int | None = None):
        self.cell, self.batch, self.seed, self.longest = cell, batch, seed, longest
        self.scans = [Scan(own, reverse, p, s) for (own, reverse), p, s in
                      zip(scans_of(cell), cell.flatten(params), cell.flatten(initial), strict=True)]
        self.states: list[Any] = [scan.initial for scan in self.scans]
        self.checkpoints: list[Any] = []
        self.runs: list[Run] = []
        self.masks: list[Array | None] = []
        self.h: Any = None

    def run(self, actions: Iterable[Action]) -> None:
        """The loop over a plan."""
        for action in actions:
            if action.kind == FORWARD:
                self._forward(action.start, action.stop)
            elif action.kind == BACKWARD:
                self._backward(action)
            elif action.kind == SAVE:
                self.checkpoints.append(self.states)
            elif action.kind == RESTORE:
                self.states = self.checkpoints.pop()

    # ------------------------------------------------------------------ forward

    def _segment(self, start: int, stop: int) -> Batch:
        """The batch of steps start+1 … stop."""
        batch = self.batch
        if stop - start == batch.x.shape[0]:
            return batch
        resets, noise = (a[start:stop] if a.size else a for a in (batch.resets, batch.noise))
        return batch._replace(x=np.ascontiguousarray(batch.x[start:stop]), resets=resets, noise=noise, start=start)

    def _forward(self, start: int, stop: int) -> None:
        cell, inputs = self.cell, self._segment(start, stop)
        self.runs, self.masks = [], []
        scans = zip(self.scans, self.states, strict=True)
        for i in range(len(cell.layers)):
            h: Any = None
            for scan, state in (next(scans) for _ in range(1 + cell.bidirectional)):
                run = scan.forward(reverse_batch(inputs) if scan.reverse else inputs, state, self.longest)
                self.runs.append(run)
                own = run.arrays[0][1:]
                h = np.concatenate([h, reverse_sequences(own, inputs.lengths)], axis=2) if scan.reverse else own
            self.h = h
            mask = draw_mask(cell, self.seed, i, h.shape, start)
            self.masks.append(mask)
            inputs = inputs._replace(x=dropped(cell, h, mask))
        if self.longest is not None:
            self.states = [tuple([a[-1].copy() for a in run.arrays[:len(scan.initial)]])
                           for scan, run in zip(self.scans, self.runs, strict=True)]

    # ------------------------------------------------------------------ backward

    def start_backward(self, dh: Array | DhFunction, dfinal: list[Any], clip: float) -> None:
        """What the BACKWARD actions of a call share."""
        x, dtype = self.batch.x, self.scans[0].dtype
        self.dh, self.dfinal, self.clip = dh, dfinal, clip
        self.carry = list(dfinal)
        self.dx = np.zeros((0, 0, 0) if x.ndim == 2 else x.shape, dtype)
        for scan in self.scans:
            scan.start_gradients()

    def _error(self, start: int, stop: int) -> Array:
        """dh of the steps of a segment."""
        if isinstance(self.dh, np.ndarray):
            return self.dh if stop - start == len(self.dh) else self.dh[start:stop]
        h = self.h.view()
        h.flags.writeable = False       # a function that works in place would spoil the tape
        return check_array("dh", self.dh(start, stop, h), h.shape, self.scans[0].dtype, self.cell)

    def _backward(self, action: Action) -> None:
        start, stop, cell = action.start, action.stop, self.cell
        first, last = stop == self.batch.x.shape[0], start == 0
        error = self._error(start, stop)
        ways = 1 + cell.bidirectional
        for i in reversed(range(len(cell.layers))):
            error = dropped(cell, error, self.masks[i])
            below = self._dx(start, stop) if i == 0 else np.zeros(self.runs[i * ways].batch.x.shape, error.dtype)
            H = cell.layers[i].hidden_size
            for k in range(i * ways, (i + 1) * ways):
                scan, run = self.scans[k], self.runs[k]
                own, dx = error, below
                if ways == 2:
                    own = np.ascontiguousarray(reverse_sequences(error[..., H:], run.batch.lengths) if scan.reverse else error[..., :H])
                if scan.reverse:
                    dx = np.zeros_like(below)
                incoming = self.dfinal[k] if first else self.carry[k]
                self.carry[k] = scan.backward(run, action.passes[k], dx, own, incoming, self.clip, first, last)
                if scan.reverse and dx.size:
                    below += reverse_sequences(dx, run.batch.lengths)
            error = below

    def _dx(self, start: int, stop: int) -> Array:
        return self.dx[start:stop] if self.dx.size and stop - start < len(self.dx) else self.dx

    def gradients(self) -> Grads:
        """What the BACKWARD actions added up to."""
        for scan in self.scans:
            scan.cell.mask_gradient(scan.dparams[1])
        per_layer = self.cell.per_layer
        return Grads(per_layer(scan.cell.params_type(*scan.dparams) for scan in self.scans), self.dx if self.dx.size else None,
                     per_layer(scan.cell.state_type(*scan.dstate) for scan in self.scans))
