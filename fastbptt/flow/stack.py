"""The steps of a tape, of one cell or of the joint state of a stack, as linear maps."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array
from ..bptt.dropout import dropped
from ..bptt.tape import CheckpointTape, Tape
from ..errors import check_finite_states, check_kept_steps, check_one_direction, check_params, check_tape
from ..tree import first_array
from .steps import CellSteps, Deltas, Span


class StackSteps:
    """The steps of a stack: the layers' states side by side, first layer first. One cell is a stack of one."""

    def __init__(self, cell: Any, layers: list[CellSteps], dropout: list[Any]):
        self.cell, self.layers, self.dropout = cell, layers, dropout
        self.T, self.B, self.dtype = layers[0].T, layers[0].B, layers[0].dtype
        self.edges = np.cumsum([0, *[layer.size for layer in layers]]).tolist()
        self.size: int = self.edges[-1]

    def first_sequence(self) -> StackSteps:
        """The same steps of the first sequence alone, for products."""
        dropout = [None if factor is None else factor[:, :1] for factor in self.dropout]
        return StackSteps(self.cell, [layer.first_sequence() for layer in self.layers], dropout)

    def injected(self, dh: Array) -> Array:
        """∂L/∂h_t of the last layer (n, B, H) as errors of the joint state, (n, B, 1, S)."""
        errors = np.zeros((*dh.shape[:2], 1, self.size), self.dtype)
        top = self.edges[-2]
        errors[:, :, 0, top:top + self.layers[-1].H] = dh
        return errors

    def _parts(self, rows: Array) -> list[Array]:
        """The layers' parts, copied because `vjp` adds to them, even where a slice is contiguous."""
        return [rows] if len(self.layers) == 1 else [
            rows[..., a:b].copy() for a, b in zip(self.edges[:-1], self.edges[1:], strict=True)]

    def vjp(self, at: Span, errors: Array) -> tuple[list[Deltas], Array]:
        """From ∂L/∂state after the steps to ∂L/∂a of every layer and ∂L/∂state before them."""
        parts = self._parts(errors)
        deltas: list[Deltas] = []
        for i in reversed(range(len(parts))):
            own, parts[i] = self.layers[i].vjp(at, parts[i])
            deltas.insert(0, own)
            if i > 0:
                below, factor = self.layers[i].input_errors(own), self.dropout[i - 1]
                parts[i - 1][..., :self.layers[i - 1].H] += below if factor is None else below * factor[at]
        return deltas, parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def jvp(self, at: Span, vectors: Array) -> Array:
        """From a change of the joint state before the steps to the change after them."""
        parts = self._parts(vectors)
        dx = None
        for i, layer in enumerate(self.layers):
            parts[i] = layer.jvp(at, parts[i], dx)
            dx = np.ascontiguousarray(parts[i][..., :layer.H])
            if self.dropout[i] is not None:
                dx = dx * self.dropout[i][at]          # not in place: dx may be a view of the layer's own state
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def jacobians(self, at: Span = slice(None)) -> Array:
        """(n, B, S, S)."""
        if len(self.layers) == 1:
            return self.layers[0].jacobians(at)
        n = len(range(*at.indices(self.T)))
        unit = np.broadcast_to(np.eye(self.size, dtype=self.dtype), (n, self.B, self.size, self.size))
        return np.ascontiguousarray(self.jvp(at, unit).swapaxes(2, 3))

    def gradients(self, at: Span, deltas: list[Deltas]) -> Any:
        """The gradients of the parameters from these steps."""
        return self.cell.per_layer(layer.gradients(at, part) for layer, part in zip(self.layers, deltas, strict=True))


def linear_steps(cell: Any, params: Any, tape: Any, dtype: Any = None) -> StackSteps:
    """The steps of a tape, checked and linearised, in its own dtype or another."""
    params = check_params(cell, params)
    check_one_direction(cell, "gradient flow")
    own = first_array(params).dtype
    check_tape(cell, tape, Tape, own)
    check_kept_steps(tape, CheckpointTape)
    dtype = own if dtype is None else dtype
    single = cell.layers[0] is cell
    layers, dropout = [], []
    for i, (layer, scan, part, mask) in enumerate(zip(cell.layers, tape.scans, cell.flatten(params), tape.masks, strict=True)):
        check_finite_states(scan.arrays.h, *([] if single else [f"tape.layers[{i}]"]))
        layers.append(CellSteps(layer, part, scan, dtype))
        dropout.append(None if mask is None else dropped(cell, np.ones(mask.shape, dtype), mask)[:, :, None])
    return StackSteps(cell, layers, dropout)
