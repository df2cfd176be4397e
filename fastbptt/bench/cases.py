"""The one table of cases: what every benchmark of this package runs, and how many operations it takes.

Letters as everywhere: T steps, B sequences, I inputs, H hidden units, G gates. The command ``fastbptt bench``, the asv suites
and the pytest-benchmark files all use it, so a figure in one can be compared with a figure in another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, int, int, int]

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
CELLS = tuple(GATES)
DTYPES = ("float32", "float64")

# (T, B, I, H). S: one row, the latency of a step counts. M: many rows, W in the first-level cache. L: W in the second.
# odd: neither rows nor units are powers of two.
SHAPES: dict[str, tuple[Shape, ...]] = {
    "S": ((100, 1, 32, 32), (100, 1, 64, 128), (1000, 1, 32, 64)),
    "M": ((100, 16, 32, 32), (100, 16, 64, 64), (1000, 16, 32, 64), (100, 32, 128, 128)),
    "L": ((100, 32, 256, 256), (100, 64, 512, 512)),
    "odd": (
        (100, 3, 48, 48), (100, 20, 48, 48), (100, 5, 100, 100), (100, 12, 100, 100), (100, 3, 200, 200), (100, 40, 200, 200),
        (60, 12, 200, 384), (60, 20, 384, 384), (40, 5, 300, 640), (40, 40, 300, 640)),
    "long": ((1024, 1, 16, 64), (4096, 1, 16, 128)),
}
SIZE_CLASSES = tuple(SHAPES)
MEASURED = ("S", "M", "L", "odd")
"""The size classes that the benchmark takes unless it is told otherwise."""

# (horizon, stride) as in fastbptt.Truncation; None is full backpropagation. Only long sequences are worth truncating.
_LONG_FORMS: tuple[tuple[int, int] | None, ...] = (None, (32, 32), (32, 1))

GROWTH_FORMS: dict[str, tuple[int, int] | None] = {
    "full": None,
    "chunks-16": (16, 16),
    "chunks-64": (64, 64),
    "window-16": (16, 1),
    "window-64": (64, 1),
}
"""Full and truncated backpropagation whose cost is followed as T grows (asv)."""


@dataclass(frozen=True)
class Arrays:
    """Seeded arrays of one case: ``params`` by name, x (T, B, I), dh (T, B, H), state (h0,) or (h0, c0), each (B, H)."""

    params: dict[str, Array]
    x: Array
    dh: Array
    state: tuple[Array, ...]

    def astype(self, dtype: str) -> Arrays:
        """The same arrays in another dtype."""
        return Arrays(
            {name: p.astype(dtype) for name, p in self.params.items()},
            self.x.astype(dtype),
            self.dh.astype(dtype),
            tuple(s.astype(dtype) for s in self.state),
        )


@dataclass(frozen=True)
class Case:
    """One forward and one backward pass of a cell, with the errors dh injected at every step.

    ``cell`` is ``"rnn"`` (tanh), ``"gru"`` (reset gate after the product) or ``"lstm"``; ``truncation`` is
    (horizon, stride), or None for full backpropagation through time.

    Examples
    --------
    >>> from fastbptt.bench.cases import Case
    >>> case = Case("lstm", T=100, B=16, I=64, H=64, dtype="float32", size_class="M")
    >>> case.name
    'lstm-float32-M-T100-B16-I64-H64'
    >>> case.flops == 3 * case.forward_flops
    True
    """

    cell: str
    T: int
    B: int
    I: int  # noqa: E741
    H: int
    dtype: str
    size_class: str
    truncation: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """The case in one word, unique in the table."""
        word = f"{self.cell}-{self.dtype}-{self.size_class}-T{self.T}-B{self.B}-I{self.I}-H{self.H}"
        return word if self.truncation is None else f"{word}-h{self.truncation[0]}-s{self.truncation[1]}"

    @property
    def form(self) -> str:
        """``"full"``, ``"chunks"`` (stride = horizon), ``"window"`` (stride = 1) or ``"mixture"``."""
        if self.truncation is None:
            return "full"
        horizon, stride = self.truncation
        return "chunks" if horizon == stride else "window" if stride == 1 else "mixture"

    @property
    def forward_flops(self) -> float:
        """Floating-point operations of the products U x and W h: 2 T B G H (I + H)."""
        return 2.0 * self.T * self.B * GATES[self.cell] * self.H * (self.I + self.H)

    @property
    def backward_flops(self) -> float:
        """Operations of δW (horizon/stride of them a step, one for full), dW, dU and dx (one each a step)."""
        errors = 1.0
        if self.truncation is not None and self.truncation[0] < self.T:
            errors = self.truncation[0] / self.truncation[1]
        rows = 2.0 * self.T * self.B * GATES[self.cell] * self.H
        return rows * (errors * self.H + self.H + 2 * self.I)

    @property
    def flops(self) -> float:
        """Forward and backward together; gates and sums are not counted."""
        return self.forward_flops + self.backward_flops

    def arrays(self) -> Arrays:
        """Inputs from a seed fixed by the shape: both dtypes see the same numbers, weights have PyTorch's default scale."""
        gates = GATES[self.cell]
        rng = np.random.default_rng([gates, self.T, self.B, self.I, self.H])
        scale = self.H**-0.5
        shapes = {"U": (gates * self.H, self.I), "W": (gates * self.H, self.H), "b": (gates * self.H,)}
        if self.cell == "gru":
            shapes["b_hn"] = (self.H,)

        def normal(*shape: int) -> Array:
            # Always drawn in float32, so that no wider copy of a large array adds to the peak memory that asv records.
            return rng.standard_normal(shape, np.float32).astype(self.dtype, copy=False)

        params = {name: rng.uniform(-scale, scale, shape).astype(np.float32) for name, shape in shapes.items()}
        return Arrays(
            {name: p.astype(self.dtype, copy=False) for name, p in params.items()},
            normal(self.T, self.B, self.I),
            normal(self.T, self.B, self.H),
            tuple(0.5 * normal(self.B, self.H) for _ in range(2 if self.cell == "lstm" else 1)),
        )

    def tiny(self) -> Case:
        """The same cell, dtype and form of truncation at a size that is checked quickly."""
        forms = {"full": None, "chunks": (3, 3), "window": (3, 1), "mixture": (6, 3)}
        return replace(self, T=9, B=2, I=3, H=5, truncation=forms[self.form])


def _table() -> Iterable[Case]:
    for cell in CELLS:
        for dtype in DTYPES:
            for size_class, shapes in SHAPES.items():
                for T, B, I, H in shapes:  # noqa: E741
                    for form in _LONG_FORMS if size_class == "long" else (None,):
                        yield Case(cell, T, B, I, H, dtype, size_class, form)


CASES: tuple[Case, ...] = tuple(_table())


def select(
    cells: Iterable[str] = CELLS, dtypes: Iterable[str] = ("float32",), size_classes: Iterable[str] = MEASURED
) -> tuple[Case, ...]:
    """The cases of the table with these cells, dtypes and size classes, in the order of the table.

    Raises
    ------
    ValueError
        If a name is unknown.

    Examples
    --------
    >>> from fastbptt.bench.cases import select
    >>> [case.H for case in select(["rnn"], size_classes=["L"])]
    [256, 512]
    """
    chosen = {"cells": (set(cells), CELLS), "dtypes": (set(dtypes), DTYPES), "size_classes": (set(size_classes), SIZE_CLASSES)}
    for argument, (given, known) in chosen.items():
        if unknown := sorted(given - set(known)):
            raise ValueError(f"{argument}: expected names among {', '.join(known)}, got {', '.join(unknown)}")
    wanted_cells, wanted_dtypes, wanted_sizes = (given for given, _ in chosen.values())
    return tuple(c for c in CASES if c.cell in wanted_cells and c.dtype in wanted_dtypes and c.size_class in wanted_sizes)


BUSY_CASES: tuple[Case, ...] = (
    Case("rnn", 200, 16, 64, 64, "float32", "busy"),
    Case("lstm", 100, 16, 64, 64, "float32", "busy"),
    Case("gru", 60, 32, 256, 256, "float32", "busy"),
    Case("lstm", 100, 1, 64, 128, "float32", "busy"),
    Case("rnn", 4096, 1, 16, 64, "float32", "busy"),
    Case("rnn", 16_384, 1, 16, 64, "float32", "busy"),
)
"""What is measured beside other processes: many rows, one sequence, and a long one."""


def growth_case(form: str, T: int, B: int, H: int) -> Case:
    """A float32 RNN with 16 inputs for the curves time(T) and memory(T); ``form`` is a key of ``GROWTH_FORMS``."""
    return Case("rnn", T, B, 16, H, "float32", "long", GROWTH_FORMS[form])
