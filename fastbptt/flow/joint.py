"""A tape as linear steps: of one cell, or of the joint state of a stack of them."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array
from ..bptt.checkpoint import CheckpointTape
from ..bptt.dropout import dropped
from ..bptt.tape import Tape
from ..errors import check_finite_states, check_kept_steps, check_one_direction, check_params, check_tape, is_stack
from ..tree import first_array
from .linear import Deltas, Linear, Span
from .steps import STEPS


class Joint:
    """The steps of a stack: the layers' states side by side, first layer first. One cell is a stack of one."""

    def __init__(self, layers: list[Linear], passed: list[Any], stack: bool):
        self.layers, self.passed, self.stack = layers, passed, stack
        self.T, self.B, self.dtype = layers[0].T, layers[0].B, layers[0].dtype
        self.edges = np.cumsum([0, *[layer.size for layer in layers]]).tolist()
        self.size: int = self.edges[-1]

    def first_sequence(self) -> Joint:
        """The same steps of the first sequence alone, for products."""
        passed = [None if kept is None else kept[:, :1] for kept in self.passed]
        return Joint([layer.first_sequence() for layer in self.layers], passed, self.stack)

    def injected(self, dh: Array) -> Array:
        """∂L/∂h_t of the last layer (n, B, H) as errors of the joint state, (n, B, 1, S)."""
        errors = np.zeros((*dh.shape[:2], 1, self.size), self.dtype)
        top = self.edges[-2]
        errors[:, :, 0, top:top + self.layers[-1].H] = dh
        return errors

    def _parts(self, rows: Array) -> list[Array]:
        """Copies, which `back` adds to: of one row a slice is contiguous as it is."""
        return [rows] if len(self.layers) == 1 else [
            rows[..., a:b].copy() for a, b in zip(self.edges[:-1], self.edges[1:], strict=True)]

    def back(self, at: Span, errors: Array) -> tuple[list[Deltas], Array]:
        """From ∂L/∂state after the steps to ∂L/∂(gates) of every layer and ∂L/∂state before them."""
        parts = self._parts(errors)
        deltas: list[Deltas] = []
        for i in reversed(range(len(parts))):
            own, parts[i] = self.layers[i].back(at, parts[i])
            deltas.insert(0, own)
            if i > 0:
                below = self.layers[i].inputs_back(own)
                below = below if self.passed[i - 1] is None else below * self.passed[i - 1][at]
                parts[i - 1][..., :self.layers[i - 1].H] += below
        return deltas, parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def ahead(self, at: Span, vectors: Array) -> Array:
        """What a change of the joint state before the steps makes of the one after them."""
        parts = self._parts(vectors)
        dx = None
        for i, layer in enumerate(self.layers):
            parts[i] = layer.ahead(at, parts[i], dx)
            dx = np.ascontiguousarray(parts[i][..., :layer.H])
            if self.passed[i] is not None:
                dx = dx * self.passed[i][at]          # not in place: dx may be a view of the layer's own state
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def jacobians(self, at: Span = slice(None)) -> Array:
        """(n, B, S, S)."""
        if len(self.layers) == 1:
            return self.layers[0].jacobians(at)
        n = len(range(*at.indices(self.T)))
        unit = np.broadcast_to(np.eye(self.size, dtype=self.dtype), (n, self.B, self.size, self.size))
        return np.ascontiguousarray(self.ahead(at, unit).swapaxes(2, 3))

    def gradients(self, at: Span, deltas: list[Deltas]) -> Any:
        """The gradients of the parameters from the steps' use of them."""
        own = tuple(layer.gradients(at, part) for layer, part in zip(self.layers, deltas, strict=True))
        return own if self.stack else own[0]


def linear_steps(cell: Any, params: Any, tape: Any, dtype: Any = None) -> Joint:
    """The steps of a checked tape, in its own dtype or another."""
    params = check_params(cell, params)
    check_one_direction(cell, "gradient flow")
    kept = first_array(params).dtype
    check_tape(cell, tape, Tape, kept)
    check_kept_steps(tape, CheckpointTape)
    dtype = kept if dtype is None else dtype
    if not is_stack(cell):
        check_finite_states(tape.arrays.h)
        return Joint([_linear(cell, params, tape, dtype)], [None], False)
    layers, passed = [], []
    for i, own in enumerate(cell.cells):
        run = tape.layers[i]
        check_finite_states(run.arrays.h, f"tape.layers[{i}]")
        layers.append(_linear(own, params[i], run, dtype))
        kept_units = tape.kept[i]
        passed.append(None if kept_units is None else dropped(cell, np.ones(kept_units.shape, dtype), kept_units)[:, :, None])
    return Joint(layers, passed, True)


def _linear(cell: Any, params: Any, tape: Any, dtype: Any) -> Linear:
    return STEPS[cell.params_type](cell, params, tape, dtype)
