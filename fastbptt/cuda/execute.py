"""The loop over a plan, for arrays on a GPU: every layer forward, and back, in one or two directions."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array, Grads
from ..bptt.execute import Execution
from ..bptt.truncation import FULL, Truncation
from ..errors import check_one_direction
from .gradients import ScanGradients
from .libraries import Library
from .scans import DeviceScan, reverse_on_device


def groups_of(cell: Any, lengths: Array, truncation: Truncation) -> list[Array]:
    """The passes of a backward call, (n, 4): sequence, end, end before it, stop; no step is in two passes of one group."""
    if truncation is not FULL:
        check_one_direction(cell, "truncation")
    if truncation.horizon < int(lengths.max()):
        return truncation.groups(lengths)
    rows = np.zeros((lengths.size, 4), np.int64)
    rows[:, 0], rows[:, 1] = np.arange(lengths.size), lengths
    return [rows]


class DeviceExecution(Execution):
    """A call under way on a GPU."""

    scans: Any

    def __init__(self, cell: Any, scans: list[DeviceScan], batch: Any, library: Library):
        super().__init__(cell, scans, batch)           # type: ignore[arg-type]
        self.library = library

    def _arrays(self, k: int, steps: int) -> Any:
        return self.scans[k].empty_tape(steps, len(self.batch.lengths))

    def output(self) -> Any:
        """h of the last layer that ran, (T, B, H), with two directions (T, B, 2H)."""
        last = len(self.runs)
        return output_of(self.library, self.scans[last - self.directions:last])

    def back(self, dh: Any, dfinal: list[Any], groups: list[Array]) -> Grads:
        """Take all groups of passes back through all layers, and add up their gradients."""
        found = [ScanGradients(scan, final) for scan, final in zip(self.scans, dfinal, strict=True)]
        for rows in groups:
            error = dh
            for i in reversed(range(len(self.scans) // self.directions)):
                own = rows
                if (i + 1) * self.directions < len(self.scans):      # the errors of a pass reach lower layers at all of its steps
                    own = rows.copy()
                    own[:, 2] = own[:, 3]
                error = self._back_through(found[i * self.directions:(i + 1) * self.directions], own, error, i > 0)
        dx = [g.input_error() for g in found[:self.directions]]
        x = None if dx[0] is None else self.library.give(sum(dx[1:], start=dx[0]))
        return Grads(self.cell.per_layer([g.params() for g in found]), x, self.cell.per_layer([g.states() for g in found]))

    def _back_through(self, layer: list[ScanGradients], rows: Array, error: Any, separate: bool) -> Any:
        """One layer; the errors of the layer below where there is one."""
        H = layer[0].scan.cell.hidden_size
        parts = []
        for k, found in enumerate(layer):
            own = error if self.directions == 1 else error[:, :, k * H:(k + 1) * H]
            if found.scan.backwards:
                own = reverse_on_device(self.library, own, self.batch.lengths)
            parts.append(found.add_passes(rows, own, separate))
        return sum(parts[1:], start=parts[0]) if separate else None


def output_of(library: Library, scans: list[DeviceScan]) -> Any:
    """h of a layer, (T, B, H), with two directions (T, B, 2H)."""
    parts = [scan.output() for scan in scans]
    return parts[0] if len(parts) == 1 else library.xp.concatenate(parts, axis=2)
