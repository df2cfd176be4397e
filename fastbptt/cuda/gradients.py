"""One scan of a backward call on a GPU: δ of all steps from the passes, then the products that make gradients of it."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array
from .scans import DeviceScan, reverse_on_device
from .small import BLOCK, blocks, collect, compiled, scatter


class ScanGradients:
    """What the passes over one scan add up to."""

    def __init__(self, scan: DeviceScan, dfinal: Any):
        self.scan, self.dfinal = scan, dfinal
        library, form, H = scan.library, scan.cell.form, scan.cell.hidden_size
        self.T, self.B = scan.batch.x.shape[:2]
        layout = form.layout
        self.first, self.last = layout.recurrent_first * H, (layout.recurrent_first + layout.recurrent) * H
        self.inputs, self.stored = layout.input_columns * H, max(layout.input_columns * H, self.last)
        self.packed = scan.packed(True)
        self.delta = library.xp.zeros((self.T * self.B, self.stored), scan.dtype)
        self.units = library.xp.zeros((layout.input_columns + form.extra_count) * H, scan.dtype)
        self.state = library.xp.zeros((form.states, self.B, H), scan.dtype)

    def add_passes(self, rows: Array, dh: Any, separate: bool) -> Any:
        """Take passes (n, 4) back, no two of which share a step; the ∂L/∂x of these alone where `separate`."""
        scan, library, n = self.scan, self.scan.library, len(rows)
        xp, H, S = library.xp, scan.cell.hidden_size, scan.cell.form.states
        delta = xp.zeros((self.T * self.B, self.stored), scan.dtype) if separate else self.delta
        units, left = xp.empty((n, len(self.units)), scan.dtype), xp.empty((S, n, H), scan.dtype)
        library.launch(scan.kernels().backward, n, scan.shape.threads, xp.ascontiguousarray(dh), self.packed, scan.own,
                       scan.initial, self.dfinal, scan.resets(), scan.steps(), xp.asarray(np.ascontiguousarray(rows)),
                       scan.arrays.states, scan.arrays.saved, delta, units, left, not separate, int(self.B), int(self.T))
        self.units += units.sum(0)
        bounds = np.append(0, np.cumsum(np.bincount(rows[:, 0], minlength=self.B)))
        library.launch(compiled(collect), blocks(S * self.B * H), BLOCK, left, xp.asarray(bounds), self.state, S, n,
                       int(self.B), H)
        if not separate:
            return None
        self.delta += delta
        return self._input_error(delta)

    def input_error(self) -> Any:
        """∂L/∂x of all passes; None for ids."""
        return None if self.scan.batch.x.ndim == 2 else self._input_error(self.delta)

    def _input_error(self, delta: Any) -> Any:
        scan = self.scan
        dx = (delta[:, :self.inputs] @ scan.U).reshape(self.T, self.B, -1)
        return reverse_on_device(scan.library, dx, scan.batch.lengths) if scan.backwards else dx

    def params(self) -> Any:
        """Gradients of the parameters, by the cell's own type."""
        scan, xp = self.scan, self.scan.library.xp
        cell, form, split = scan.cell, scan.cell.form, self.inputs
        found = {"U": xp.roll(self._inputs(), scan.turn, 0), "W": self._recurrent(),
                 "b": xp.roll(self.units[:split], scan.turn, 0)}
        if form.extra:
            found[form.extra] = self.units[split:].reshape(cell.shapes[form.extra])
        return cell.params_type(*[scan.library.give(xp.ascontiguousarray(found[name])) for name in cell.params_type._fields])

    def _inputs(self) -> Any:
        """δᵀ x, by the columns of a step; padded steps of x are not read, whatever they hold."""
        scan, xp, x = self.scan, self.scan.library.xp, self.scan.batch.x
        if x.ndim == 2:
            return self._of_ids(x.reshape(-1))
        lengths = scan.batch.lengths
        if lengths.min() < self.T:
            valid = xp.asarray((np.arange(self.T)[:, None] < lengths)[:, :, None])
            x = xp.where(valid, x, xp.zeros((1, 1, 1), scan.dtype))
        return self.delta[:, :self.inputs].T @ x.reshape(-1, x.shape[2])

    def _of_ids(self, ids: Any) -> Any:
        """Sums of the rows of δ for each symbol, in the order of steps."""
        scan, library, xp, symbols = self.scan, self.scan.library, self.scan.library.xp, self.scan.cell.input_size
        order = xp.argsort(ids, kind="stable")
        starts = xp.searchsorted(ids[order], xp.asarray(np.arange(symbols + 1)))
        sums = xp.zeros((symbols, self.inputs), scan.dtype)
        library.launch(compiled(scatter), blocks(symbols * self.inputs), BLOCK, self.delta, order, starts, sums, self.inputs,
                       self.stored, symbols)
        return sums.T

    def _recurrent(self) -> Any:
        """δᵀ times what W's gates multiplied: the state before each step, or the operand of the second product."""
        scan, xp, form, H = self.scan, self.scan.library.xp, self.scan.cell.form, self.scan.cell.hidden_size
        before = scan.arrays.states[:, :self.T]
        if scan.batch.resets is not None:
            before = xp.where(scan.batch.resets[None, :, :, None] != 0, scan.initial[:, None], before)
        rows, first, last = self.T * self.B, self.first, self.last
        h = before[0].reshape(rows, H)
        if form.second_product is None:
            dW = self.delta[:, first:last].T @ h
        else:
            saved = scan.arrays.saved.reshape(rows, -1)
            operand = form.second_product.value.py_func([saved[:, k * H:(k + 1) * H] for k in range(form.saved)], [h])
            dW = xp.concatenate([self.delta[:, first:last - H].T @ h, self.delta[:, last - H:last].T @ operand], axis=0)
        return dW if scan.mask is None else dW * scan.mask

    def states(self) -> Any:
        """Gradient of the initial state."""
        scan = self.scan
        return scan.cell.state_type(*[scan.library.give(self.state[k]) for k in range(len(self.state))])
