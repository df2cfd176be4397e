"""What a forward call stores for the backward call."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array, Batch, read_only
from ..errors import check_has_cell_state
from .checkpoints import Schedule
from .directions import reverse_sequences


class Tape:
    """What `forward` stored: the states of all steps, and what `backward` needs of the call.

    It refers to the x that was passed, without a copy. `h` and `c` are read-only views of what the backward
    pass reads (copy them to change them); `final` is a copy, which outlives the tape.
    """

    def __init__(self, cell: Any, arrays: Any, batch: Batch, initial: Any):
        self.cell, self.arrays, self.batch, self.initial = cell, arrays, batch, initial
        self.checked: Any = (None, None)
        """The parameters as passed, and the scans made from them, which `backward` with the same ones need not check again."""
        self._final: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "checked": (None, None)}

    @property
    def h(self) -> Array:
        """(T, B, H): h_t of steps 1 … T; at padded steps the last valid one. Read-only: copy it to change it."""
        return read_only(self.arrays.h[1:])

    @property
    def c(self) -> Array:
        """(T, B, H): c_t of steps 1 … T of an LSTM. Read-only: copy it to change it."""
        return read_only(check_has_cell_state(self.cell, self.arrays).c[1:])

    @property
    def final(self) -> Any:
        """State after the last valid step of every sequence."""
        if self._final is None:
            kind = self.cell.state_type
            self._final = kind(*[getattr(self.arrays, name)[-1].copy() for name in kind._fields])
        return self._final

    @property
    def scans(self) -> list[Tape]:
        """The tape of every scan: layer by layer, forward before reverse."""
        return [self]

    @property
    def masks(self) -> list[Array | None]:
        """The dropout mask of every layer's outputs; None: nothing is dropped."""
        return [None]


class StackTape(Tape):
    """What `forward` of a stack stored: the tape of every layer, and the dropout masks between them."""

    def __init__(self, cell: Any, batch: Batch, scans: list[Tape], masks: list[Array | None], h: Array):
        self.cell, self.batch = cell, batch
        self._scans, self._masks, self._h, self.checked = scans, masks, h, (None, None)
        self._final: Any = None

    @property
    def layers(self) -> Any:
        """The tape of every layer, with two directions a pair of them."""
        return self.cell.per_layer(iter(self._scans))

    @property
    def scans(self) -> list[Tape]:
        """The tape of every scan: layer by layer, forward before reverse."""
        return self._scans

    @property
    def masks(self) -> list[Array | None]:
        """The dropout mask of every layer's outputs; None: nothing is dropped."""
        return self._masks

    @property
    def h(self) -> Array:
        """(T, B, H): output of the last layer at steps 1 … T; with two directions (T, B, 2H). Read-only: copy it to change it."""
        return read_only(self._h)

    @property
    def c(self) -> Array:
        """(T, B, H): c_t of the last layer, where it is an LSTM; with two directions (T, B, 2H). Read-only."""
        if not self.cell.bidirectional:
            return self._scans[-1].c
        forward, reverse = self._scans[-2:]
        return read_only(np.concatenate([forward.c, reverse_sequences(reverse.c, self.batch.lengths)], axis=2))

    @property
    def initial(self) -> Any:
        """The State that every layer began with."""
        return self.cell.per_layer(tape.initial for tape in self._scans)

    @property
    def final(self) -> Any:
        """State of every layer after the last valid step of every sequence; of a reverse direction, after its last, step 1."""
        if self._final is None:
            self._final = self.cell.per_layer(tape.final for tape in self._scans)
        return self._final


class CheckpointTape(Tape):
    """What `forward` stored within a memory budget: a few states, from which the others are recomputed."""

    def __init__(self, cell: Any, batch: Batch, initial: Any, seed: int | None, schedule: Schedule, checkpoints: list[Any],
                 final: Any):
        self.cell, self.batch, self.initial, self.seed, self.schedule = cell, batch, initial, seed, schedule
        self.checkpoints, self._final, self.checked = checkpoints, final, (None, None)

    @property
    def h(self) -> Array:
        """Not stored."""
        raise AttributeError("tape.h: expected a tape of all steps, got one of checkpoints, which memory_budget asks for; "
                             "take h from the arguments of a function dh(start, stop, h), or call forward without a budget")

    @property
    def c(self) -> Array:
        """Not stored."""
        raise AttributeError("tape.c: expected a tape of all steps, got one of checkpoints; call forward without memory_budget")
