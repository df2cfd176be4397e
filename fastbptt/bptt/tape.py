"""What a forward call keeps for the backward one."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array, Batch, Grads
from ..errors import check_has_cell_state


class Tape:
    """What `forward` kept: the states of all steps, and what `backward` needs of the call.

    It refers to x and lengths as they were passed; it does not copy them.
    """

    __slots__ = ("arrays", "batch", "cell", "checked", "initial")

    def __init__(self, cell: Any, arrays: Any, batch: Batch, initial: Any):
        self.cell, self.arrays, self.batch, self.initial = cell, arrays, batch, initial
        self.checked: Any = (None, None)
        """The parameters as they were passed, and as they were found to be: not to be checked again when they come back."""

    @property
    def h(self) -> Array:
        """(T, B, H): h_t of steps 1 … T; at padded steps the last valid one."""
        h: Array = self.arrays.h[1:]
        return h

    @property
    def c(self) -> Array:
        """(T, B, H): c_t of steps 1 … T of an LSTM."""
        c: Array = check_has_cell_state(self.cell, self.arrays).c[1:]
        return c

    @property
    def final(self) -> Any:
        """State after the last valid step of every sequence."""
        kind = self.cell.state_type
        return kind(*[getattr(self.arrays, name)[-1] for name in kind._fields])


def empty_dx(x: Array, dtype: Any) -> Array:
    """Zeros like x; of no size for ids, which have no gradient."""
    return np.zeros((0, 0, 0) if x.ndim == 2 else x.shape, dtype)


def empty_grads(cell: Any, params: Any, tape: Tape) -> Grads:
    """Zeros for a backward scan to add to; x has no size for ids."""
    dtype = params[0].dtype
    return Grads(cell.params_type(*[np.zeros(a.shape, dtype) for a in params]), empty_dx(tape.batch.x, dtype),
                 cell.state_type(*[np.zeros(a.shape, dtype) for a in tape.initial]))
