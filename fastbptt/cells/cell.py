"""The base class of all cells: a configuration, with the interface of a stack of one layer."""
from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ..arrays import NONE, Array, Options
from .form import FORMS, Form


class Cell:
    """The configuration of a layer: sizes and options, no arrays (constant masks at most)."""

    state_type: ClassVar[type]
    tape_type: ClassVar[type]
    params_type: ClassVar[Any]
    gates: ClassVar[int]
    """Number of gates in U."""
    candidate: ClassVar[int | None] = None
    """Index, among the saved vectors, of the candidate: the tanh that the step adds to the state."""
    memory_bias: ClassVar[str] = ""
    """Name of the bias that makes the cell keep its state for longer."""
    input_size: int
    hidden_size: int
    mask: Any = None
    bidirectional: ClassVar[bool] = False
    dropout: ClassVar[float] = 0.0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter."""
        raise NotImplementedError

    @property
    def options(self) -> Options:
        """What the scans are told about the configuration."""
        return Options()

    @property
    def form(self) -> Form:
        """The arithmetic of a step."""
        return FORMS[self.params_type]

    @cached_property
    def row_flops(self) -> int:
        """FLOPs of one step of one sequence: its products with W and with U."""
        return 2 * self.gates * self.hidden_size * (self.hidden_size + self.input_size)

    @cached_property
    def sizes(self) -> tuple[int, int, int]:
        """Gates, I and H: what decides how a call is cut."""
        return self.gates, self.input_size, self.hidden_size

    @cached_property
    def scan_sizes(self) -> tuple[tuple[int, int, int], ...]:
        """The sizes of the cell of every scan."""
        return (self.sizes,)

    @property
    def layers(self) -> tuple[Any, ...]:
        """The cell of every layer."""
        return (self,)

    @property
    def scans(self) -> tuple[Any, ...]:
        """The cell of every scan of a call: layer by layer, with two directions forward before reverse."""
        return (self,)

    def params_of(self, arrays: dict[str, Array]) -> Any:
        """The Params from arrays under the names of `shapes`."""
        return self.params_type(*[arrays[name] for name in self.shapes])

    def flatten(self, entries: Any) -> list[Any]:
        """One entry per layer as a list of one entry per scan."""
        return [entries]

    def per_layer(self, entries: Iterable[Any]) -> Any:
        """The inverse of `flatten`."""
        entry, = entries
        return entry

    def apply_mask(self, params: Any) -> Any:
        """The parameters with 0 for connections that do not exist."""
        return params if self.mask is None else params._replace(W=np.where(self.mask, params.W, params.W.dtype.type(0)))

    def mask_gradient(self, dW: Array) -> None:
        """Set the gradient of connections that do not exist to 0."""
        if self.mask is not None:
            dW[~self.mask] = 0

    def project(self, params: Any) -> Any:
        """The nearest parameters that the options allow: the parameters themselves if nothing restricts them."""
        return params

    def empty_tape(self, T: int, B: int, dtype: Any) -> Any:
        """An uninitialised tape for the scans: the states of steps 0 … T, then what is saved of every step."""
        form, H = FORMS[self.params_type], self.hidden_size
        shape = T + 1, B, H
        states = [np.empty(shape, dtype) for _ in range(form.states)]
        return self.tape_type(*states, np.empty((T, B, form.saved * H), dtype) if self._saves else NONE[np.dtype(dtype)])

    @property
    def _saves(self) -> bool:
        return True
