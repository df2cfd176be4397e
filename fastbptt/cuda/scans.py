"""One scan of a call on a GPU: its parameters as kernels take them, its tape, and its forward pass."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, Batch
from .libraries import Library
from .scan import Variant, scans
from .shape import shape_for
from .small import BLOCK, blocks, pack_kernel


class DeviceTapeArrays(NamedTuple):
    """What the forward scan saves."""

    states: Any
    """(S, T+1, B, H): h, and c of an LSTM; row 0 the initial state."""
    saved: Any
    """(T, B, n·H), as the cell's own tape has it; or (1,)."""


def reverse_on_device(library: Library, array: Any, lengths: Array, before: int = 0) -> Any:
    """Each sequence's valid steps in reverse order, the padded ones where they were; a copy.

    With `before` = 1 of what stands before a step, as a reset does: it separates t−1 and t, and comes before t−1 in reverse.
    """
    T, B = array.shape[:2]
    t = np.arange(T)[:, None]
    rows = np.minimum(np.where(t < lengths, lengths - 1 - t + before, t), T - 1)
    return library.xp.ascontiguousarray(array[library.xp.asarray(rows), library.xp.asarray(np.arange(B))])


class DeviceScan:
    """One cell of a call, in one direction."""

    reverse = False      # for `Execution`: this scan reverses its own batch

    def __init__(self, library: Library, cell: Any, backwards: bool, params: Any, initial: Any, dtype: str):
        xp, form, H = library.xp, cell.form, cell.hidden_size
        self.library, self.cell, self.backwards, self.dtype = library, cell, backwards, dtype
        given = {name: library.load(array) for name, array in zip(cell.params_type._fields, params, strict=True)}
        self.turn = form.layout.first_gate * H
        self.U, self.b = xp.roll(given["U"], -self.turn, 0), xp.roll(given["b"], -self.turn, 0)
        self.own = given[form.extra_field]
        self.mask = None if cell.mask is None else xp.asarray(np.array(cell.mask))
        self.W = given["W"] if self.mask is None else given["W"] * self.mask
        self.initial = xp.ascontiguousarray(xp.concatenate([library.load(a).reshape(1, -1, H) for a in initial], axis=0))
        self.shape = shape_for(H, form.layout.recurrent, np.dtype(dtype).itemsize, form.extra_count)
        self.batch: Any = None
        self.arrays: Any = None

    def kernels(self) -> Any:
        """The compiled scans for this batch."""
        variant = Variant(self.cell.params_type, self.cell.options, self.cell._saves, self.batch.resets is not None, self.dtype)
        return scans(variant, self.shape)

    def packed(self, transposed: bool) -> Any:
        """W in the order of the threads."""
        gates = self.cell.form.layout.recurrent
        size = gates * self.shape.weights * self.shape.threads
        found = self.library.xp.empty(size, self.dtype)
        pack = pack_kernel(self.shape, gates, self.dtype)
        self.library.launch(pack, blocks(size), BLOCK, self.W, transposed, found)
        return found

    def resets(self) -> Any:
        """As kernels take them; one zero where there are none."""
        xp = self.library.xp
        return xp.zeros(1, "uint8") if self.batch.resets is None else self.batch.resets

    def steps(self) -> Any:
        """The lengths on the device."""
        return self.library.xp.asarray(self.batch.lengths)

    def empty_tape(self, T: int, B: int) -> DeviceTapeArrays:
        """An uninitialised tape."""
        form, H, xp = self.cell.form, self.cell.hidden_size, self.library.xp
        saved = (T, B, form.saved * H) if self.cell._saves else (1,)
        return DeviceTapeArrays(xp.empty((form.states, T + 1, B, H), self.dtype), xp.empty(saved, self.dtype))

    def forward(self, batch: Batch, arrays: DeviceTapeArrays) -> DeviceScan:
        """All steps of a batch into the arrays of a tape, which this scan then has."""
        self.batch, self.arrays = self._own_order(batch), arrays
        T, B = self.batch.x.shape[:2]
        z = self._input_products()
        self.library.launch(self.kernels().forward, B, self.shape.threads, z, self.packed(False), self.b, self.own, self.initial,
                            self.resets(), self.steps(), arrays.states, arrays.saved, int(B), int(T))
        return self

    def _input_products(self) -> Any:
        """U x of all steps, (T·B, Gin·H)."""
        x, xp = self.batch.x, self.library.xp
        if x.ndim == 2:
            z = xp.ascontiguousarray(xp.ascontiguousarray(self.U.T)[x.reshape(-1)])
        else:
            z = x.reshape(-1, x.shape[2]) @ self.U.T
        if self.batch.noise is not None:
            z += self.batch.noise.reshape(z.shape)
        return z

    def _own_order(self, batch: Batch) -> Batch:
        """The batch in the direction of this scan."""
        if not self.backwards:
            return batch
        resets = batch.resets
        if resets is not None:
            resets = reverse_on_device(self.library, resets, batch.lengths, before=1)
        return batch._replace(x=reverse_on_device(self.library, batch.x, batch.lengths), resets=resets)

    def output(self) -> Any:
        """h of all steps in the order of time, (T, B, H)."""
        h = self.arrays.states[0, 1:]
        return reverse_on_device(self.library, h, self.batch.lengths) if self.backwards else h
