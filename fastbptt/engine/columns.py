"""The vectors of one unit, loaded and stored together as a tuple: its gates, its states, what is saved of it.

`columns` lie in one flat array, a fixed step apart; `each` lie in arrays of their own, at one index. Only the
first `left` elements of each vector belong to the row: lanes beyond them are read as zero and not written.
The number of vectors is a compile-time constant, so a tuple stays in registers.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.extending import intrinsic

from .memory import emit_load, emit_load_part, emit_store, emit_store_part
from .vectors import I64, Vec, llvm_vector, nothing

Index = Callable[[ir.IRBuilder, int], tuple[types.Array, ir.Value, ir.Value]]
"""From the number of a vector to its array (type and value) and its first index."""


def _tuple(cx: Any, b: ir.IRBuilder, kind: types.UniTuple, values: list[ir.Value]) -> ir.Value:
    """IR of a tuple of vectors."""
    made = ir.Constant(cx.get_value_type(kind), ir.Undefined)
    for k, value in enumerate(values):
        made = b.insert_value(made, value, k)
    return made


def _load(cx: Any, b: ir.IRBuilder, count: int, where: Index, left: ir.Value, lanes: int) -> list[ir.Value]:
    """IR of `count` vectors, with one branch for all between whole vectors and a tail."""
    at = [where(b, k) for k in range(count)]
    with b.if_else(b.icmp_signed(">=", left, I64(lanes))) as (whole, tail):
        with whole:
            full = [emit_load(cx, b, *place) for place in at]
            after_full = b.basic_block
        with tail:
            part = [emit_load_part(cx, b, *place, left) for place in at]
            after_part = b.basic_block
    out = []
    for f, p in zip(full, part, strict=True):
        phi = b.phi(f.type)
        phi.add_incoming(f, after_full)
        phi.add_incoming(p, after_part)
        out.append(phi)
    return out


def _store(cx: Any, b: ir.IRBuilder, values: ir.Value, count: int, where: Index, left: ir.Value, lanes: int) -> None:
    vectors = [b.extract_value(values, k) for k in range(count)]
    at = [where(b, k) for k in range(count)]
    with b.if_else(b.icmp_signed(">=", left, I64(lanes))) as (whole, tail):
        with whole:
            for place, value in zip(at, vectors, strict=True):
                emit_store(cx, b, *place, value)
        with tail:
            for place, value in zip(at, vectors, strict=True):
                emit_store_part(cx, b, *place, value, left)


def _steps(array_type: types.Array, array: ir.Value, i: ir.Value, step: ir.Value) -> Index:
    return lambda b, k: (array_type, array, b.add(i, b.mul(step, I64(k))))


def _arrays(array_type: types.Array, arrays: ir.Value, i: ir.Value) -> Index:
    return lambda b, k: (array_type, b.extract_value(arrays, k), i)


@intrinsic(prefer_literal=True)
def load_columns(ctx, arr, i, step, left, count):
    """(arr[i:], arr[i + step:], …), `count` vectors; `count` is a literal or a global constant."""
    v, n = Vec(arr.dtype), count.literal_value
    result = types.UniTuple(v, n)

    def codegen(cx, b, sig, a):
        return _tuple(cx, b, result, _load(cx, b, n, _steps(arr, a[0], a[1], a[2]), a[3], v.lanes))
    return result(arr, types.intp, types.intp, types.intp, count), codegen


@intrinsic
def store_columns(ctx, arr, i, step, values, left):
    """arr[i:], arr[i + step:], … = values."""
    lanes = values.dtype.lanes

    def codegen(cx, b, sig, a):
        _store(cx, b, a[3], len(values), _steps(arr, a[0], a[1], a[2]), a[4], lanes)
        return nothing(cx)
    return types.void(arr, types.intp, types.intp, values, types.intp), codegen


@intrinsic
def add_columns(ctx, arr, i, step, values):
    """arr[i:], arr[i + step:], … += values, whole vectors."""
    def codegen(cx, b, sig, a):
        for k in range(len(values)):
            place = _steps(arr, a[0], a[1], a[2])(b, k)
            emit_store(cx, b, *place, b.fadd(emit_load(cx, b, *place), b.extract_value(a[3], k)))
        return nothing(cx)
    return types.void(arr, types.intp, types.intp, values), codegen


@intrinsic
def load_each(ctx, arrays, i, left):
    """(arrays[0][i:], arrays[1][i:], …)."""
    v = Vec(arrays.dtype.dtype)
    result = types.UniTuple(v, len(arrays))

    def codegen(cx, b, sig, a):
        return _tuple(cx, b, result, _load(cx, b, len(arrays), _arrays(arrays.dtype, a[0], a[1]), a[2], v.lanes))
    return result(arrays, types.intp, types.intp), codegen


@intrinsic
def store_each(ctx, arrays, i, values, left):
    """arrays[0][i:], arrays[1][i:], … = values."""
    def codegen(cx, b, sig, a):
        _store(cx, b, a[2], len(arrays), _arrays(arrays.dtype, a[0], a[1]), a[3], values.dtype.lanes)
        return nothing(cx)
    return types.void(arrays, types.intp, values, types.intp), codegen


@intrinsic
def unit_vector(ctx, like, k):
    """The tuple of vectors of the type of `like` with ones in entry k and zeros in all others."""
    def codegen(cx, b, sig, a):
        vt = llvm_vector(like.dtype.dtype)
        one, zero = (ir.Constant(vt, [value] * vt.count) for value in (1.0, 0.0))
        return _tuple(cx, b, like, [b.select(b.icmp_signed("==", a[1], I64(i)), one, zero) for i in range(len(like))])
    return like(like, types.intp), codegen
