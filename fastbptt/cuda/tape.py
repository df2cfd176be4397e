"""What a forward call on a GPU stores for the backward call."""
from __future__ import annotations

from typing import Any

from ..errors import check_has_cell_state
from .execute import output_of
from .libraries import Library
from .scans import DeviceScan, reverse_on_device


class DeviceTape:
    """What `forward` stored on a GPU: as `Tape`, with arrays of the library that x came from.

    `h` and `c` are views of what the backward pass reads, or copies of it: do not write to them.
    """

    on_device = True

    def __init__(self, cell: Any, library: Library, scans: list[DeviceScan], batch: Any):
        self.cell, self.library, self.scans, self.batch = cell, library, scans, batch

    @property
    def _last(self) -> list[DeviceScan]:
        return self.scans[-2:] if self.cell.bidirectional else self.scans[-1:]

    @property
    def h(self) -> Any:
        """(T, B, H): h_t of steps 1 … T; with two directions (T, B, 2H)."""
        return self.library.give(output_of(self.library, self._last))

    @property
    def c(self) -> Any:
        """(T, B, H): c_t of steps 1 … T of an LSTM; with two directions (T, B, 2H)."""
        parts = []
        for scan in self._last:
            check_has_cell_state(scan.cell, scan.cell.state_type)
            c = scan.arrays.states[1, 1:]
            parts.append(reverse_on_device(self.library, c, self.batch.lengths) if scan.backwards else c)
        return self.library.give(parts[0] if len(parts) == 1 else self.library.xp.concatenate(parts, axis=2))

    @property
    def final(self) -> Any:
        """State after the last valid step of every sequence; a copy."""
        xp = self.library.xp

        def state(scan: DeviceScan) -> Any:
            last = xp.concatenate([scan.arrays.states[:, -1]], axis=0)
            return scan.cell.state_type(*[self.library.give(last[k]) for k in range(len(last))])
        return self.cell.per_layer([state(scan) for scan in self.scans])
