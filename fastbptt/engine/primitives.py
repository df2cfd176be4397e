"""What kernels need of NumPy and Python, as intrinsics: `empty`, `zeros`, `minimum`, `maximum`.

Numba has them all, but compiles a function for each in every kernel, and for every type and number of axes anew: together
they would take as long as the scans themselves.
"""
from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, lower_builtin, overload, type_callable

from .compat import PLAIN, arrays


def _allocated(shape: types.Type, dtype: Any) -> types.Array:
    """The type of a new array; `dtype` is that of an array, or a class such as np.int64."""
    axes = len(shape) if isinstance(shape, types.BaseTuple) else 1
    return types.Array(dtype.dtype, axes, "C")


@intrinsic
def _empty(ctx, shape, dtype):
    """A new array of any content."""
    array = _allocated(shape, dtype)
    return array(shape, dtype), lambda cx, b, sig, args: arrays.new_array(cx, b, array, shape, args[0])._getvalue()


@intrinsic
def _zeros(ctx, shape, dtype):
    """A new array of zeros."""
    array = _allocated(shape, dtype)

    def codegen(cx, b, sig, args):
        made = arrays.new_array(cx, b, array, shape, args[0])
        arrays.fill_zeros(b, made)
        return made._getvalue()
    return array(shape, dtype), codegen


def _plain(function: Any) -> Any:
    """NumPy's function of that name, by which a call from nopython code is replaced."""
    def new(shape, dtype):
        raise NotImplementedError

    @overload(new)
    def implementation(shape, dtype):
        return lambda shape, dtype: function(shape, dtype)
    return new


empty, zeros = (_plain(np.empty), _plain(np.zeros)) if PLAIN else (_empty, _zeros)


def minimum(a: int, b: int) -> int:
    """The smaller of two integers."""
    return a if a < b else b


def maximum(a: int, b: int) -> int:
    """The larger of two integers."""
    return a if a > b else b


def _lower_choice(function: Any, symbol: str) -> None:
    @type_callable(function)
    def typing(ctx):
        return lambda a, b: types.intp if isinstance(a, types.Integer) and isinstance(b, types.Integer) else None

    @lower_builtin(function, types.Integer, types.Integer)
    def lower(cx, b, sig, args):
        x, y = (cx.cast(b, value, kind, types.intp) for value, kind in zip(args, sig.args, strict=True))
        return b.select(b.icmp_signed(symbol, x, y), x, y)


_lower_choice(minimum, "<")
_lower_choice(maximum, ">")
