"""Loads and stores between flat arrays and vectors, of whole vectors or of the first few lanes."""
from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
from numba import config, types
from numba.extending import intrinsic, lower_builtin, overload, type_callable

from .compat import PLAIN, arrays, pointers
from .vectors import I32, I64, Vec, alignment, lane_count, llvm_float, llvm_vector, nothing


def pointer(cx: Any, b: ir.IRBuilder, array_type: types.Array, array: ir.Value, index: ir.Value, count: ir.Value) -> ir.Value:
    """IR of the address of element `index` of a flat array; with NUMBA_BOUNDSCHECK=1, `count` elements must lie inside."""
    data, size = pointers.data_and_size(cx, b, array_type, array)
    if config.BOUNDSCHECK:
        zero = ir.Constant(I64, 0)
        low = b.icmp_signed("<", index, zero)
        high = b.icmp_signed(">", b.add(index, count), size)
        empty = b.icmp_signed("<=", count, zero)
        with b.if_then(b.and_(b.not_(empty), b.or_(low, high)), likely=False):
            arrays.raise_index_error(cx, b, "a vector access leaves its array")
    return pointers.gep(b, data, [index], llvm_float(array_type.dtype))


def lanes(arr: Any) -> int:
    """Elements of the array's dtype in one vector, a compile-time constant."""
    return lane_count(arr.dtype)


@type_callable(lanes)
def _type_lanes(ctx):
    return lambda arr: types.intp if isinstance(arr, types.Array) else None


@lower_builtin(lanes, types.Array)
def _lower_lanes(cx, b, sig, a):
    return I64(lane_count(sig.args[0].dtype))


@intrinsic
def _flat(ctx, arr):
    one = types.Array(arr.dtype, 1, "C", readonly=not arr.mutable)
    return one(arr), lambda cx, b, sig, a: arrays.flat_view(cx, b, arr, one, a[0])


def flat(arr: Any) -> Any:
    """A C-contiguous array as a one-dimensional view, at no cost; no reference is counted, so `arr` must outlive it."""
    return arr.reshape(-1)


@overload(flat)
def _flat_nopython(arr):
    return lambda arr: arr.reshape(arr.size)


if not PLAIN:
    flat = _flat


def emit_load(cx: Any, b: ir.IRBuilder, array_type: types.Array, array: ir.Value, i: ir.Value) -> ir.Value:
    """IR of the vector that begins at element i of a flat array."""
    dtype = array_type.dtype
    return pointers.load(b, pointer(cx, b, array_type, array, i, I64(lane_count(dtype))), llvm_vector(dtype), alignment(dtype))


def emit_store(cx: Any, b: ir.IRBuilder, array_type: types.Array, array: ir.Value, i: ir.Value, value: ir.Value) -> None:
    """IR that stores a vector at element i of a flat array."""
    dtype = array_type.dtype
    pointers.store(b, value, pointer(cx, b, array_type, array, i, I64(lane_count(dtype))), alignment(dtype))


def emit_load_part(cx: Any, b: ir.IRBuilder, array_type: types.Array, array: ir.Value, i: ir.Value, n: ir.Value) -> ir.Value:
    """IR of the vector whose first n elements begin at element i, the others zero."""
    v = Vec(array_type.dtype)
    return arrays.masked_load(b, pointer(cx, b, array_type, array, i, _clamped(b, n, v.lanes)), n, v)


def emit_store_part(cx: Any, b: ir.IRBuilder, array_type: types.Array, array: ir.Value, i: ir.Value, value: ir.Value,
                    n: ir.Value) -> None:
    """IR that stores the first n elements of a vector at element i."""
    v = Vec(array_type.dtype)
    arrays.masked_store(b, value, pointer(cx, b, array_type, array, i, _clamped(b, n, v.lanes)), n, v)


@intrinsic
def load(ctx, arr, i):
    """The vector arr[i : i + lanes] of a flat array."""
    return Vec(arr.dtype)(arr, types.intp), lambda cx, b, sig, a: emit_load(cx, b, arr, a[0], a[1])


@intrinsic
def store(ctx, arr, i, value):
    """arr[i : i + lanes] = value."""
    def codegen(cx, b, sig, a):
        emit_store(cx, b, arr, *a)
        return nothing(cx)
    return types.void(arr, types.intp, value), codegen


def _clamped(b: ir.IRBuilder, n: ir.Value, lanes: int) -> ir.Value:
    return b.select(b.icmp_signed(">", n, I64(lanes)), I64(lanes), n)


@intrinsic
def load_part(ctx, arr, i, n):
    """The first n elements from arr[i] on and zeros after them; memory beyond them is not read."""
    return Vec(arr.dtype)(arr, types.intp, types.intp), lambda cx, b, sig, a: emit_load_part(cx, b, arr, *a)


@intrinsic
def store_part(ctx, arr, i, value, n):
    """arr[i : i + n] = the first n lanes of value; memory beyond them is not written."""
    def codegen(cx, b, sig, a):
        emit_store_part(cx, b, arr, *a)
        return nothing(cx)
    return types.void(arr, types.intp, value, types.intp), codegen


def _interleave(b: ir.IRBuilder, rows: list[ir.Value], lanes: int) -> list[ir.Value]:
    """IR of the transpose of a square of vectors: log2(lanes) rounds, each of which swaps blocks across the diagonal."""
    pick = lambda x, y, chosen: b.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, lanes), chosen))  # noqa: E731
    size = 1
    while size < lanes:
        for i in (i for i in range(lanes) if not i & size):
            low, high = rows[i], rows[i + size]
            rows[i] = pick(low, high, [lane if not lane & size else lanes + lane - size for lane in range(lanes)])
            rows[i + size] = pick(low, high, [lane + size if not lane & size else lanes + lane for lane in range(lanes)])
        size *= 2
    return rows


@intrinsic
def store_transposed(ctx, out, o, step, arr, i, leading, rows, columns):
    """out[o + k · step + r] = arr[i + r · leading + k] for r < rows, 0 for rows ≤ r < lanes, for k < columns ≤ lanes."""
    v = Vec(arr.dtype)

    def codegen(cx, b, sig, a):
        _, at, out_step, _, first, ld, row_n, col_n = a
        vectors = []
        for r in range(v.lanes):
            n = b.select(b.icmp_signed("<", I64(r), row_n), _clamped(b, col_n, v.lanes), I64(0))
            p = pointer(cx, b, arr, a[3], b.add(first, b.mul(I64(r), ld)), n)
            vectors.append(arrays.masked_load(b, p, n, v))
        for k, value in enumerate(_interleave(b, vectors, v.lanes)):
            with b.if_then(b.icmp_signed("<", I64(k), col_n)):
                p = pointer(cx, b, out, a[0], b.add(at, b.mul(I64(k), out_step)), I64(v.lanes))
                pointers.store(b, value, p, alignment(v.dtype))
        return nothing(cx)
    return types.void(out, types.intp, types.intp, arr, types.intp, types.intp, types.intp, types.intp), codegen
