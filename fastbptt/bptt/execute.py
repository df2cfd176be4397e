"""The one loop over a plan: every segment through all layers, forward and back, with masks, dropout, clipping and threads."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..arrays import NONE, Array, Batch, Grads, Passes, read_only
from ..engine.threads import pool_for
from ..errors import check_array
from .directions import reverse_batch, reverse_sequences
from .dropout import draw_mask, dropped
from .kernels import empty_sums, kernels_of
from .plan import BACKWARD, FORWARD, RESTORE, SAVE, Action
from .tape import Tape

NO_SUMS = {dtype: (np.empty((0, 0), dtype),) * 3 for dtype in NONE}
DhFunction = Callable[[int, int, Array], Any]


class Scan:
    """One cell of a call, in one direction: what does not change while the call goes on."""

    __slots__ = ("cell", "initial", "params", "reverse")

    def __init__(self, cell: Any, params: Any, initial: Any, reverse: bool = False):
        self.cell, self.initial, self.reverse = cell, initial, reverse
        self.params = tuple(cell.apply_mask(params))

    @property
    def dtype(self) -> Any:
        """That of all arrays."""
        return self.params[0].dtype

    def forward(self, batch: Batch, arrays: Any) -> Tape:
        """All steps of a batch into the arrays of a tape; where it is not the first segment, row 0 has the state before it."""
        cell = self.cell
        with pool_for(cell.row_flops * batch.x.shape[0] * batch.lengths.size) as pool:
            kernels_of(cell).forward(tuple(arrays), tuple(batch), tuple(self.initial), self.params, tuple(cell.options), pool)
        return Tape(cell, arrays, batch, self.initial)

    def backward(self, run: Tape, passes: Passes, sums: Any, grads: Any, errors: Any, clip: float, whole: bool,
                 last: bool) -> None:
        """All passes over a run: of the whole call, or of a segment, added to `sums`, and with the last one to the gradients."""
        cell, batch = self.cell, run.batch
        options = cell.options._replace(clip=clip) if clip else cell.options
        with pool_for(2 * cell.row_flops * batch.x.shape[0] * batch.lengths.size) as pool:
            kernels_of(cell).backward(sums, grads, errors, tuple(run.arrays), tuple(batch), tuple(self.initial),
                                      self.params, tuple(options), tuple(passes), (whole, last, pool))


def scans_of(cell: Any, params: Any, initial: Any) -> list[Scan]:
    """The scans of a call: layer after layer, with two directions forward before reverse."""
    if cell.layers[0] is cell:
        return [Scan(cell, params, initial)]
    scans = [Scan(*entry) for entry in zip(cell.scans, cell.flatten(params), cell.flatten(initial), strict=True)]
    if cell.bidirectional:
        for scan in scans[1::2]:
            scan.reverse = True
    return scans


def output_of(runs: list[Tape], lengths: Array) -> Array:
    """h of a layer from the tapes of its scans, (T, B, H), with two directions (T, B, 2H)."""
    h: Array = runs[0].arrays[0][1:]
    return h if len(runs) == 1 else np.concatenate([h, reverse_sequences(runs[1].arrays[0][1:], lengths)], axis=2)


class Execution:
    """A call under way: its scans, and the states that the last action left."""

    def __init__(self, cell: Any, scans: list[Scan], batch: Batch, seed: int | None = None, longest: int | None = None):
        self.cell, self.scans, self.batch, self.seed = cell, scans, batch, seed
        self.directions = 2 if cell.bidirectional else 1
        self.longest = longest
        """Steps of the longest segment, whose arrays serve one segment after the other; None: one segment, whose arrays stay."""
        self.runs: list[Tape] = []
        """What every scan read and wrote in the segment under way."""
        self.masks: list[Array | None] = []
        if longest is not None:
            self.buffers = [scan.cell.empty_tape(longest, batch.lengths.size, scan.dtype) for scan in scans]
            self.states: list[Any] = [scan.initial for scan in scans]
            self.checkpoints: list[Any] = []

    def run(self, actions: Iterable[Action]) -> None:
        """The loop over a plan."""
        for action in actions:
            if action.kind == FORWARD:
                self._forward(action.start, action.stop)
            elif action.kind == BACKWARD:
                self._backward(action)
            elif action.kind == SAVE:
                self.checkpoints.append(self.states)
            else:
                assert action.kind == RESTORE
                self.states = self.checkpoints.pop()

    # ------------------------------------------------------------------ forward

    def _segment(self, start: int, stop: int) -> Batch:
        """The batch of steps start+1 … stop."""
        batch = self.batch
        if stop - start == batch.x.shape[0]:
            return batch
        resets, noise = (a[start:stop] if a.size else a for a in (batch.resets, batch.noise))
        return batch._replace(x=np.ascontiguousarray(batch.x[start:stop]), resets=resets, noise=noise, start=start)

    def _arrays(self, k: int, steps: int) -> Any:
        """Room for the steps of a segment, whose first state is the current one."""
        scan = self.scans[k]
        if self.longest is None:
            return scan.cell.empty_tape(steps, self.batch.lengths.size, scan.dtype)
        states = len(scan.initial)
        arrays = scan.cell.tape_type(*[a[:steps + (i < states)] if a.size else a for i, a in enumerate(self.buffers[k])])
        for saved, first in zip(arrays, self.states[k], strict=False):
            saved[0] = first
        return arrays

    def _forward(self, start: int, stop: int) -> None:
        cell, inputs, last = self.cell, self._segment(start, stop), len(self.scans) - 1
        self.runs, self.masks = [], []
        for k, scan in enumerate(self.scans):
            self.runs.append(scan.forward(reverse_batch(inputs) if scan.reverse else inputs, self._arrays(k, stop - start)))
            if k < last and k % self.directions == self.directions - 1:      # the layer is complete, and not the last
                h = self.output()
                mask = draw_mask(cell, self.seed, k // self.directions, h.shape, start)
                self.masks.append(mask)
                inputs = inputs._replace(x=dropped(cell, h, mask))
        self.masks.append(None)
        if self.longest is not None:
            self.states = [tuple([a[-1].copy() for a in run.arrays[:len(scan.initial)]])
                           for scan, run in zip(self.scans, self.runs, strict=True)]

    def output(self) -> Array:
        """h of the last layer that ran, (T, B, H), with two directions (T, B, 2H)."""
        return output_of(self.runs[-self.directions:], self.batch.lengths)

    # ------------------------------------------------------------------ backward

    def start_backward(self, dh: Array | DhFunction, dfinal: list[Any], clip: float) -> None:
        """What the BACKWARD actions of a call share."""
        x, dtype = self.batch.x, self.scans[0].dtype
        self.dh, self.clip, self.dfinal = dh, clip, dfinal
        self.carry: list[Any] = [None] * len(self.scans)
        self.sums: list[Any] = [None] * len(self.scans)
        self.dx = np.zeros((0, 0, 0) if x.ndim == 2 else x.shape, dtype)
        self.dparams, self.dstate = [], []
        for scan in self.scans:
            cell = scan.cell
            self.dparams.append(cell.params_type(*[np.zeros(a.shape, dtype) for a in scan.params]))
            self.dstate.append(cell.state_type(*[np.zeros(a.shape, dtype) for a in scan.initial]))

    def _error(self, start: int, stop: int) -> Array:
        """dh of the steps of a segment."""
        if isinstance(self.dh, np.ndarray):
            return self.dh if stop - start == len(self.dh) else self.dh[start:stop]
        h = read_only(self.output())        # a function that works in place would spoil the tape
        return check_array("dh", self.dh(start, stop, h), h.shape, self.scans[0].dtype, self.cell)

    def _backward(self, action: Action) -> None:
        start, stop, cell, directions = action.start, action.stop, self.cell, self.directions
        first, last = stop == self.batch.x.shape[0], start == 0
        error = self._error(start, stop)
        for i in reversed(range(len(self.masks))):
            error = dropped(cell, error, self.masks[i])
            if i > 0:
                dx = np.zeros(self.runs[i * directions].batch.x.shape, error.dtype)
            else:
                dx = self.dx if first and last or not self.dx.size else self.dx[start:stop]
            if directions == 1:
                self._scan_back(i, action.passes[i], dx, error, first, last)
            else:
                self._layer_back(i, action.passes, dx, error, first, last)
            error = dx

    def _layer_back(self, i: int, passes: Any, dx: Array, error: Array, first: bool, last: bool) -> None:
        """Both directions of a layer."""
        forward, reverse, H, lengths = 2 * i, 2 * i + 1, self.scans[2 * i].cell.hidden_size, self.batch.lengths
        self._scan_back(forward, passes[forward], dx, np.ascontiguousarray(error[..., :H]), first, last)
        own = np.zeros_like(dx)
        dh = np.ascontiguousarray(reverse_sequences(error[..., H:], lengths))
        self._scan_back(reverse, passes[reverse], own, dh, first, last)
        if dx.size:
            dx += reverse_sequences(own, lengths)

    def _scan_back(self, k: int, passes: Passes, dx: Array, dh: Array, first: bool, last: bool) -> None:
        """One scan: sums begin with the first segment that is gone back through, and are added up with the last."""
        scan, run = self.scans[k], self.runs[k]
        whole = first and last
        if first:
            self.sums[k] = NO_SUMS[scan.dtype] if whole else empty_sums(scan.cell, run.batch, passes, scan.dtype)
        dstate = tuple(self.dstate[k])
        outgoing = dstate if last else tuple([np.zeros_like(a) for a in dstate])
        errors = (dh, tuple(self.dfinal[k]) if first else self.carry[k], outgoing)
        scan.backward(run, passes, self.sums[k], (tuple(self.dparams[k]), dx, dstate), errors, self.clip, whole, last)
        self.carry[k] = outgoing

    def gradients(self) -> Grads:
        """What the BACKWARD actions added up to."""
        for scan, dparams in zip(self.scans, self.dparams, strict=True):
            scan.cell.mask_gradient(dparams.W)
        return Grads(self.cell.per_layer(self.dparams), self.dx if self.dx.size else None, self.cell.per_layer(self.dstate))
