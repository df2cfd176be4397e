"""The cells' own arithmetic on a GPU: their point functions, with the operations of the device in place of the engine's.

A point function is Python code on names: `simd.fma`, `tanh`, `activate_any`. It is compiled for the CPU with one meaning of
these, and here with another; its text stays where it is, in `fastbptt.cells`.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import CellType, FunctionType
from typing import Any, NamedTuple

from ..arrays import Options
from ..cells.form import FORMS, Form
from ..engine import activations, simd
from .target import device, operations


class Points(NamedTuple):
    """The functions of a cell's `Form` for a GPU."""

    forward: Any
    backward: Any
    extra_backward: Any
    second_forward: Any
    second_backward: Any


class _Retargeting:
    """Functions of the engine and of cells, and what they call, for the device."""

    def __init__(self, form: Form, dtype: Any):
        operators, tanh, sigmoid = operations(dtype)
        self.extra = (0.0,) * form.extra_count
        self.made: dict[int, Any] = {id(simd): operators, id(activations.tanh): tanh, id(activations.sigmoid): sigmoid}

    def of(self, value: Any) -> Any:
        """What stands for a global or enclosed variable of a function."""
        if id(value) in self.made:
            return self.made[id(value)]
        if hasattr(value, "implementation"):        # chosen by the types of the arguments; here by the number of `extra`
            function = value.implementation(self.extra, None, None, None)
        else:
            function = getattr(value, "py_func", value)
        if not isinstance(function, FunctionType):
            return value
        self.made[id(value)] = made = device(self.rebuilt(function))
        return made

    def rebuilt(self, function: FunctionType) -> Callable[..., Any]:
        """The function, with what it refers to replaced."""
        code, scope = function.__code__, function.__globals__
        names = {name: self.of(scope[name]) for name in code.co_names if name in scope}
        enclosed = tuple(CellType(self.of(cell.cell_contents)) for cell in function.__closure__ or ())
        return FunctionType(code, names, function.__name__, function.__defaults__, enclosed)


@cache
def points_of(params_type: type, options: Options, dtype: str) -> Points:
    """The point functions of a cell, without the argument `options`, which is constant here."""
    form = FORMS[params_type]
    to = _Retargeting(form, dtype)
    forward, backward = to.of(form.point_forward), to.of(form.point_backward)
    second = form.second_product
    second_forward: Any = to.of(second.forward) if second else None
    return Points(
        device(lambda a, old, extra: forward(options, a, old, extra)),
        device(lambda saved, old, new, extra, dnew: backward(options, saved, old, new, extra, dnew)),
        to.of(form.extra_backward) if form.extra_backward else device(lambda da, old, new: ()),
        device(lambda a, old: second_forward(options, a, old)) if second else None,
        to.of(second.backward) if second else None)
