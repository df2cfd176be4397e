"""What a forward call keeps for the backward one."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array, Batch, read_only
from ..errors import check_has_cell_state
from .checkpoints import Schedule
from .directions import reverse_sequences


class Tape:
    """What `forward` kept: the states of all steps, and what `backward` needs of the call.

    It refers to x as it was passed; it does not copy it. `h` and `c` are read-only views of what the backward
    pass reads (copy them to change them); `final` is a copy of its own, which outlives the tape.
    """

    def __init__(self, cell: Any, arrays: Any, batch: Batch, initial: Any):
        self.cell, self.arrays, self.batch, self.initial = cell, arrays, batch, initial
        self.checked: Any = (None, None)
        """The parameters as they were passed, and the scans made of them: not to be checked again when they come back."""
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
        """The tape of every scan: layer after layer, forward before reverse."""
        return [self]

    @property
    def masks(self) -> list[Array | None]:
        """What dropout let through of every layer's outputs; None: all."""
        return [None]


class StackTape(Tape):
    """What `forward` of a stack kept: the tape of every layer, and what was dropped between them."""

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
        """The tape of every scan: layer after layer, forward before reverse."""
        return self._scans

    @property
    def masks(self) -> list[Array | None]:
        """What dropout let through of every layer's outputs; None: all."""
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
        """State of every layer after the last valid step of every sequence; of a reverse direction after its own last, step 1."""
        if self._final is None:
            self._final = self.cell.per_layer(tape.final for tape in self._scans)
        return self._final


class CheckpointTape(Tape):
    """What `forward` kept within a memory budget: the states at the ends of a few long stretches of steps."""

    def __init__(self, cell: Any, batch: Batch, initial: Any, seed: int | None, schedule: Schedule, checkpoints: list[Any],
                 final: Any):
        self.cell, self.batch, self.initial, self.seed, self.schedule = cell, batch, initial, seed, schedule
        self.checkpoints, self._final, self.checked = checkpoints, final, (None, None)

    @property
    def h(self) -> Array:
        """Not kept."""
        raise AttributeError("tape.h: expected a tape of all steps, got one of checkpoints, which memory_budget asks for; "
                             "take h from the arguments of a function dh(start, stop, h), or call forward without a budget")

    @property
    def c(self) -> Array:
        """Not kept."""
        raise AttributeError("tape.c: expected a tape of all steps, got one of checkpoints; call forward without memory_budget")
