"""Undocumented ways to handle arrays and vectors in intrinsics: new arrays, views, masked access, exceptions."""
from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import _empty_nd_impl, make_array, populate_array

from ..vectors import I32, I64, alignment, broadcast, call_intrinsic, llvm_vector, suffix
from .pointers import pointer_to


def new_array(cx: Any, b: ir.IRBuilder, array: types.Array, shape: types.Type, given: ir.Value, zeros: bool) -> ir.Value:
    """IR of a new array, zeroed or uninitialised, counted as one reference.

    Numba's `np.empty` compiles a function for each kernel, type and number of axes, which together take as long as the
    scans. Without `_empty_nd_impl`: `np.empty` and `np.zeros`.
    """
    sizes = cgutils.unpack_tuple(b, given) if isinstance(shape, types.BaseTuple) else [given]
    kinds = shape.types if isinstance(shape, types.BaseTuple) else [shape]
    made = _empty_nd_impl(cx, b, array, [cx.cast(b, n, kind, types.intp) for n, kind in zip(sizes, kinds, strict=True)])
    if zeros:
        cgutils.memset(b, made.data, b.mul(made.itemsize, made.nitems), 0)
    return made._getvalue()


def flat_view(cx: Any, b: ir.IRBuilder, arr: types.Array, one: types.Array, value: ir.Value) -> ir.Value:
    """IR of the one-dimensional array `one` over the elements of a contiguous array; no reference is counted.

    `reshape` would count one, and every block that calls it would have to count too. Without `populate_array`:
    `reshape`.
    """
    given = make_array(arr)(cx, b, value)
    out = make_array(one)(cx, b)
    populate_array(out, given.data, [given.nitems], [given.itemsize], given.itemsize, None)
    return out._getvalue()


def raise_index_error(cx: Any, b: ir.IRBuilder, message: str) -> None:
    """Leave the function with an IndexError.

    There is no documented way to raise from an intrinsic. Without `call_conv.return_user_exc`: vector accesses are not
    checked under NUMBA_BOUNDSCHECK=1.
    """
    cx.call_conv.return_user_exc(b, IndexError, (message,))


def first_lanes(b: ir.IRBuilder, n: ir.Value, lanes: int) -> ir.Value:
    """IR of the mask of the first n lanes; n may be negative, or larger than the vector."""
    iv = ir.VectorType(I32, lanes)
    limit = b.select(b.icmp_signed(">", n, I64(lanes)), I64(lanes), n)
    return b.icmp_signed("<", ir.Constant(iv, list(range(lanes))), broadcast(b, b.trunc(limit, I32), iv))


def masked_load(b: ir.IRBuilder, p: ir.Value, n: ir.Value, v: Any) -> ir.Value:
    """IR of the first n elements at p as a `Vec` of type v, zeros after them.

    LLVM has an intrinsic for it, whose signature varies: the alignment is an argument in some versions and an attribute in
    others. Without it: a branch and a load for each lane.
    """
    vt = llvm_vector(v.dtype)
    place = b.bitcast(p, pointer_to(vt))
    return call_intrinsic(b, f"llvm.masked.load.{suffix(v)}.p0", vt,
                          [place, I32(alignment(v.dtype)), first_lanes(b, n, v.lanes), ir.Constant(vt, None)])


def masked_store(b: ir.IRBuilder, value: ir.Value, p: ir.Value, n: ir.Value, v: Any) -> None:
    """IR of writing the first n lanes of a value of type v to p; see `masked_load`."""
    place = b.bitcast(p, pointer_to(value.type))
    call_intrinsic(b, f"llvm.masked.store.{suffix(v)}.p0", ir.VoidType(),
                   [value, place, I32(alignment(v.dtype)), first_lanes(b, n, v.lanes)])
