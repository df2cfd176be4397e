"""What the scans know of a cell: its `Form`, found by the type of its `Params`.

A cell is its point function: what one unit does with its pre-activations and its old state, written once, on scalars or on
`Vec`, without buffers, and beside it the vector-Jacobian product. From these two the scans, the step Jacobians of `flow`
and single steps are made (`step.py`, `derivatives.py`).

    new, saved = point_forward(options, a, old, extra)
    da, dold   = point_backward(options, saved, old, new, extra, dnew)

`a` are the pre-activations, one for each column of a working row, `old` and `new` the states (h first), `extra` the unit's
own parameters, `saved` what the tape keeps of the step; all of them tuples. `dold` is the part of the error that reaches
the old state directly, not through W.
"""
from __future__ import annotations

from typing import Any, NamedTuple

from numba import types

from ..engine.jit import njit, overload
from ..engine.tuples import tuple_kind


class Layout(NamedTuple):
    """The columns of a working row, each of a gate's H units."""

    columns: int
    input_columns: int
    """The first columns receive U x + b: column p that of gate ``(p + first_gate) % input_columns`` of U."""
    first_gate: int
    recurrent_first: int
    """From this column on, the columns receive W h, of W's gates in their order …"""
    recurrent: int
    """… so many."""


class SecondProduct(NamedTuple):
    """A second product inside the step: W's last gate multiplies what the cell makes of h, not h itself.

    It is added to the last column that receives W h; the working row has one column more, for what is multiplied.
    """

    forward: Any
    """(options, a, old) to (activated first gate, what is multiplied)."""
    backward: Any
    """(saved, old, error of what is multiplied) to (∂L/∂a of the first gate, its direct part of ∂L/∂old h)."""
    value: Any
    """(saved, old) to what was multiplied."""


class Form(NamedTuple):
    """A cell for the scans."""

    layout: Layout
    states: int
    saved: int
    """Vectors that the tape keeps of a step besides the states."""
    point_forward: Any
    point_backward: Any
    direct: Any
    """(options) to whether `dold` of h can be anything but 0."""
    extra: str = ""
    """The field of `Params` with the unit's own parameters, (extra_count · H) numbers; "": there are none."""
    extra_count: int = 0
    extra_backward: Any = None
    """(da, old, new) to the gradients of the unit's own parameters."""
    second_product: SecondProduct | None = None

    @property
    def extra_field(self) -> str:
        """The field that is read for `extra`: b where a unit has no parameters of its own, of which nothing is then used."""
        return self.extra or "b"


FORMS: dict[type, Form] = {}
"""By the type of the parameters; every cell's file adds its own."""


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
    """How many parameters of its own a unit has."""
    raise NotImplementedError


@overload(extra_count)
def _extra_count(params):
    form = form_of(params)
    if form is None:
        return None
    count = form.extra_count
    return lambda params: count


def block_gates(params: Any) -> Any:
    """W's gates that multiply h itself: all, or all but the last where that has a product of its own."""
    raise NotImplementedError


@overload(block_gates)
def _block_gates(params):
    form = form_of(params)
    if form is None:
        return None
    gates = form.layout.recurrent - (form.second_product is not None)
    return lambda params: gates
