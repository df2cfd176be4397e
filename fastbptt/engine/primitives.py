"""What kernels need of NumPy and Python, as intrinsics: `empty`, `zeros`, `minimum`, `maximum`.

Numba has them all, but compiles a function for each in every kernel, for every type and number of axes: together they
would take as long as the scans themselves.
"""
from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, lower_builtin, overload, type_callable

from . import heap  # noqa: F401   (what these functions allocate is freed with the call)
from .compat import PLAIN, arrays


def _fast(zero: bool) -> Any:
    @intrinsic
    def new(ctx, shape, dtype):
        axes = len(shape) if isinstance(shape, types.BaseTuple) else 1
        array = types.Array(dtype.dtype, axes, "C")
        return array(shape, dtype), lambda cx, b, sig, args: arrays.new_array(cx, b, array, shape, args[0], zero)
    return new


def _plain(zero: bool) -> Any:
    numpy = np.zeros if zero else np.empty

    def new(shape, dtype):
        return numpy(shape, dtype)

    @overload(new)
    def implementation(shape, dtype):
        return lambda shape, dtype: numpy(shape, dtype)
    return new


_new = _plain if PLAIN else _fast
empty = _new(False)
"""empty(shape, dtype): a new, uninitialised array; `dtype` is that of an array, or a class such as np.int64."""
zeros = _new(True)
"""zeros(shape, dtype): a new array of zeros."""


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
