"""SIMD arithmetic in Python syntax: `Vec`, as wide as this CPU, and the same functions on scalars.

Numba leaves LLVM's SLP vectoriser off and has no vector type of its own, so code for vector registers is explicit here.
A kernel loads a `Vec` from a flat array, computes with ``+ - * /``, comparisons, `fma`, `select` …, and stores it:

>>> from fastbptt.engine.jit import njit
>>> from fastbptt.engine import simd
>>> @njit
... def axpy(y, a, x):
...     for i in range(0, y.size, simd.lanes(y)):
...         n = y.size - i
...         v = simd.fma(simd.splat(a, y), simd.load_part(x, i, n), simd.load_part(y, i, n))
...         simd.store_part(y, i, v, n)

Every function of this file also takes scalars (`float32`, `float64`) in place of `Vec`, with the same result in every
lane: there are no fast-math flags, a multiplication is fused with an addition where the code says `fma` and nowhere else.
"""
from __future__ import annotations

import operator
from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.extending import intrinsic, lower_builtin, type_callable

from .cpu import BITS, FEATURES, REGISTERS
from .memory import flat, lanes, load, load_part, pointer, store, store_part, store_transposed
from .vectors import (
    BOOL,
    I32,
    I64,
    Mask,
    Vec,
    alignment,
    broadcast,
    call_fma,
    call_intrinsic,
    element,
    is_float,
    lane_count,
    llvm_float,
    llvm_vector,
    suffix,
)

__all__ = [
    "BITS", "BOOL", "FEATURES", "I32", "I64", "Mask", "REGISTERS", "Vec", "alignment", "broadcast", "call_fma", "const",
    "copysign", "exponent", "flat", "fma", "lane_count", "lanes", "llvm_float", "llvm_vector", "load", "load_part", "pointer",
    "polynomial", "select", "splat", "store", "store_part", "store_transposed", "vabs", "vmax", "vmin", "vsum",
]


# ---------------------------------------------------------------------------------------------- constants and casts

@intrinsic(prefer_literal=True)
def const(ctx, like, c):
    """The number c in the type of `like`: every lane of a Vec, or a scalar (where a bare literal would become float64)."""
    def codegen(cx, b, sig, a):
        return broadcast(b, a[1], llvm_vector(like.dtype)) if isinstance(like, Vec) else a[1]
    return like(like, element(like)), codegen


@intrinsic
def splat(ctx, scalar, arr):
    """The vector with `scalar` in every lane, in the array's dtype."""
    v = Vec(arr.dtype)

    def codegen(cx, b, sig, a):
        return broadcast(b, a[0], llvm_vector(v.dtype))
    return v(v.dtype, arr), codegen


# ---------------------------------------------------------------------------------------------- arithmetic

def _lower_binary(op: Any, instruction: str) -> None:
    @type_callable(op)
    def typing(ctx):
        return lambda a, b: a if isinstance(a, Vec) and a == b else None

    @lower_builtin(op, Vec, Vec)
    def lower(cx, b, sig, a):
        return getattr(b, instruction)(*a)


def _lower_compare(op: Any, symbol: str) -> None:
    @type_callable(op)
    def typing(ctx):
        return lambda a, b: Mask(a.lanes) if isinstance(a, Vec) and a == b else None

    @lower_builtin(op, Vec, Vec)
    def lower(cx, b, sig, a):
        return b.fcmp_unordered("!=", *a) if symbol == "!=" else b.fcmp_ordered(symbol, *a)


for _op, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv")):
    _lower_binary(_op, _instruction)
for _op, _symbol in ((operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">="),
                     (operator.eq, "=="), (operator.ne, "!=")):
    _lower_compare(_op, _symbol)


@type_callable(operator.neg)
def _type_neg(ctx):
    return lambda a: a if isinstance(a, Vec) else None


@lower_builtin(operator.neg, Vec)
def _lower_neg(cx, b, sig, a):
    return b.fneg(a[0])


@intrinsic
def fma(ctx, a, b, c):
    """a * b + c with one rounding (two on a CPU without the instruction)."""
    if not (is_float(a) and a == b == c):
        return None
    return a(a, a, a), lambda cx, bd, sig, args: call_fma(bd, args[0], args[1], args[2], suffix(a))


@intrinsic
def polynomial(ctx, x, c):
    """c[0] + c[1] x + c[2] x² + …, by Estrin's scheme: two halves joined by a power of x, a short dependency chain."""
    if not is_float(x):
        return None

    def codegen(cx, b, sig, args):
        constants = [b.extract_value(args[1], i) for i in range(len(c))]
        powers = {1: args[0]}

        def power(n):
            if n not in powers:
                powers[n] = b.fmul(power(n // 2), power(n // 2))
            return powers[n]

        def value(first, n):
            if n == 1:
                return broadcast(b, constants[first], args[0].type) if isinstance(x, Vec) else constants[first]
            half = 1 << ((n - 1).bit_length() - 1)
            high = value(first + half, n - half)
            return call_fma(b, power(half), high, value(first, half), suffix(x))
        return value(0, len(c))
    return x(x, types.UniTuple(element(x), len(c))), codegen


@intrinsic
def select(ctx, mask, a, b):
    """a where the mask is true, else b."""
    if not (is_float(a) and a == b):
        return None
    return a(mask, a, a), lambda cx, bd, sig, args: bd.select(*args)


@intrinsic
def vmin(ctx, a, b):
    """The smaller of a and b, and b where either is NaN (one instruction): keep the value that may be NaN in b."""
    if not (is_float(a) and a == b):
        return None
    return a(a, a), lambda cx, bd, sig, args: bd.select(bd.fcmp_ordered("<", *args), *args)


@intrinsic
def vmax(ctx, a, b):
    """The larger of a and b, and b where either is NaN (one instruction): keep the value that may be NaN in b."""
    if not (is_float(a) and a == b):
        return None
    return a(a, a), lambda cx, bd, sig, args: bd.select(bd.fcmp_ordered(">", *args), *args)


def _unary(name: str) -> Any:
    @intrinsic
    def f(ctx, a):
        if not is_float(a):
            return None

        def codegen(cx, b, sig, args):
            return call_intrinsic(b, f"llvm.{name}.{suffix(a)}", args[0].type, args)
        return a(a), codegen
    return f


vabs = _unary("fabs")


@intrinsic
def copysign(ctx, magnitude, sign):
    """|magnitude| with the sign of `sign`."""
    if not (is_float(magnitude) and magnitude == sign):
        return None

    def codegen(cx, b, sig, args):
        return call_intrinsic(b, f"llvm.copysign.{suffix(magnitude)}", args[0].type, args)
    return magnitude(magnitude, magnitude), codegen


@intrinsic
def exponent(ctx, z):
    """2**n for z = 1.5 * 2**m + n, where 2**m is the weight beyond which the format has no fraction (m = 23 or 52).

    Adding 1.5 * 2**m rounds a number to an integer and leaves it in the low bits, from which it is shifted into the
    exponent field: no conversion that a NaN could spoil. n must lie in the range of normal exponents.
    """
    if not is_float(z):
        return None
    bits, fraction, bias = (32, 23, 127) if element(z) == types.float32 else (64, 52, 1023)

    def codegen(cx, b, sig, args):
        t = args[0].type
        it = ir.VectorType(ir.IntType(bits), z.lanes) if isinstance(z, Vec) else ir.IntType(bits)
        whole = lambda v: ir.Constant(it, [v] * z.lanes) if isinstance(z, Vec) else ir.Constant(it, v)  # noqa: E731
        return b.bitcast(b.shl(b.add(b.bitcast(args[0], it), whole(bias)), whole(fraction)), t)
    return z(z), codegen


@intrinsic
def vsum(ctx, v):
    """The sum of the lanes, in a fixed order (halves are added until one lane is left)."""
    def codegen(cx, b, sig, a):
        x, n = a[0], v.lanes
        while n > 1:
            n //= 2
            undef = ir.Constant(x.type, ir.Undefined)
            half = lambda start: b.shuffle_vector(x, undef, ir.Constant(ir.VectorType(I32, n), list(range(start, start + n))))  # noqa: E731, B023
            x = b.fadd(half(0), half(n))
        return b.extract_element(x, I32(0))
    return v.dtype(v), codegen
