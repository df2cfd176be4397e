"""A cell as the scans see it: its `Form`, found by the type of its `Params`.

A cell is its point function: what one unit does with its pre-activations and its old state, written once, on scalars or on
`Vec`, without buffers, and its vector-Jacobian product. The scans and single steps (`step.py`) and the step Jacobians of
`flow` (`derivatives.py`) are built from these two.

    new, saved = point_forward(options, a, old, extra)
    da, dold   = point_backward(options, saved, old, new, extra, dnew)

`a` are the pre-activations, one for each column of a working row, `old` and `new` the states (h first), `extra` the unit's
own parameters, `saved` what the tape stores of the step; all are tuples. `dold` is the part of the error that reaches the
old state directly, not through W.
"""
from __future__ import annotations

from typing import Any, NamedTuple

from numba import types

from ..engine.jit import njit, overload
from ..engine.tuples import tuple_kind


class Layout(NamedTuple):
    """The columns of a working row; a column is one gate of all H units."""

    columns: int
    input_columns: int
    """How many, from the first on, receive U x + b: column p from gate ``(p + first_gate) % input_columns`` of U."""
    first_gate: int
    recurrent_first: int
    """The first of the columns that receive W h, one for each gate of W in order."""
    recurrent: int
    """Their number."""


class SecondProduct(NamedTuple):
    """A second product with W inside the step: W's last gate multiplies an operand computed from h, not h itself.

    It is added to the last column that receives W h; the working row has one more column, for the operand.
    """

    forward: Any
    """(options, a, old) → (activated first gate, operand)."""
    backward: Any
    """(saved, old, ∂L/∂operand) → (∂L/∂a of the first gate, its direct part of ∂L/∂(old h))."""
    value: Any
    """(saved, old) → operand."""


class Form(NamedTuple):
    """What the scans need of a cell."""

    layout: Layout
    states: int
    saved: int
    """Vectors that the tape stores of a step besides the states."""
    point_forward: Any
    point_backward: Any
    direct: Any
    """(options) → whether `dold` of h can differ from 0."""
    extra: str = ""
    """The field of `Params` with the unit's own parameters, (extra_count · H) numbers; "" if there are none."""
    extra_count: int = 0
    extra_backward: Any = None
    """(da, old, new) → the gradients of the unit's own parameters."""
    second_product: SecondProduct | None = None

    @property
    def extra_field(self) -> str:
        """The field of `Params` passed for `extra`: b, of which nothing is used, if units have no parameters of their own."""
        return self.extra or "b"


FORMS: dict[type, Form] = {}
"""The forms by the type of the parameters; every cell's file adds its own."""


def form_of(params: types.Type) -> Form | None:
    """The `Form` for the Numba type of a cell's `Params`, or of its address."""
    kind = tuple_kind(params)
    return None if kind is None else FORMS.get(kind)


@njit
def always(options):
    """For `Form.direct`."""
    return True


@njit
def never(options):
    """For `Form.direct`."""
    return False


def layout(params: Any) -> Any:
    """The cell's `Layout`, a compile-time constant."""
    raise NotImplementedError


@overload(layout)
def _layout(params):
    form = form_of(params)
    if form is None:
        return None
    columns, input_columns, first_gate, recurrent_first, recurrent = form.layout
    return lambda params: Layout(columns, input_columns, first_gate, recurrent_first, recurrent)


def extra_count(params: Any) -> Any:
    """The number of parameters of a unit's own."""
    raise NotImplementedError


@overload(extra_count)
def _extra_count(params):
    form = form_of(params)
    if form is None:
        return None
    count = form.extra_count
    return lambda params: count


def block_gates(params: Any) -> Any:
    """The number of W's gates that multiply h itself: all, or all but the last if that has a second product."""
    raise NotImplementedError


@overload(block_gates)
def _block_gates(params):
    form = form_of(params)
    if form is None:
        return None
    gates = form.layout.recurrent - (form.second_product is not None)
    return lambda params: gates


@njit(forceinline=True)
def has_second_product(params):
    """Whether the cell has a second product, a compile-time constant."""
    return block_gates(params) < layout(params).recurrent
