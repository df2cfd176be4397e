"""What kernels need of NumPy and Python, as intrinsics: `empty`, `zeros`, `minimum`, `maximum`.

Numba has them all, but compiles a function for each in every kernel, and for every type and number of axes anew: together
they would take as long as the scans themselves.
"""
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, type_callable
from numba.np.arrayobj import _empty_nd_impl


def _allocated(shape: types.Type, dtype: Any) -> types.Array:
    """The type of a new array; `dtype` is that of an array, or a class such as np.int64."""
    axes = len(shape) if isinstance(shape, types.BaseTuple) else 1
    return types.Array(dtype.dtype, axes, "C")


def _new(cx: Any, b: ir.IRBuilder, array: types.Array, shape: types.Type, given: ir.Value) -> Any:
    sizes = cgutils.unpack_tuple(b, given) if isinstance(shape, types.BaseTuple) else [given]
    kinds = shape.types if isinstance(shape, types.BaseTuple) else [shape]
    return _empty_nd_impl(cx, b, array, [cx.cast(b, n, kind, types.intp) for n, kind in zip(sizes, kinds, strict=True)])


@intrinsic
def empty(ctx, shape, dtype):
    """A new array of any content."""
    array = _allocated(shape, dtype)
    return array(shape, dtype), lambda cx, b, sig, args: _new(cx, b, array, shape, args[0])._getvalue()


@intrinsic
def zeros(ctx, shape, dtype):
    """A new array of zeros."""
    array = _allocated(shape, dtype)

    def codegen(cx, b, sig, args):
        made = _new(cx, b, array, shape, args[0])
        cgutils.memset(b, made.data, b.mul(made.itemsize, made.nitems), 0)
        return made._getvalue()
    return array(shape, dtype), codegen


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
