"""Pointers in LLVM IR, and the parts of an array, in every llvmlite: used with and without FASTBPTT_PLAIN."""
from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils


def _opaque(p: ir.Value) -> bool:
    return bool(getattr(p.type, "is_opaque", True))


def pointer_to(t: ir.Type) -> ir.Type:
    """The type of a pointer to `t`.

    llvmlite's `as_pointer` will go with its typed pointers, which LLVM has given up. Without it pointers are opaque, and
    `load` and `gep` are told the type.
    """
    return t.as_pointer() if hasattr(t, "as_pointer") else ir.PointerType()


def gep(b: ir.IRBuilder, p: ir.Value, indices: list[ir.Value], t: ir.Type, inbounds: bool = False) -> ir.Value:
    """IR of the address that `indices` lead to from the `t` at p."""
    return b.gep(p, indices, inbounds, source_etype=t) if _opaque(p) else b.gep(p, indices, inbounds)


def load(b: ir.IRBuilder, p: ir.Value, t: ir.Type, align: int | None = None) -> ir.Value:
    """IR of the `t` at p."""
    return b.load(p, align=align, typ=t) if _opaque(p) else b.load(b.bitcast(p, t.as_pointer()), align=align)


def load_atomic(b: ir.IRBuilder, p: ir.Value, t: ir.Type) -> ir.Value:
    """IR of the `t` at p, which other threads write to."""
    return b.load_atomic(p, "seq_cst", 8, typ=t) if _opaque(p) else b.load_atomic(p, "seq_cst", 8)


def store(b: ir.IRBuilder, value: ir.Value, p: ir.Value, align: int | None = None) -> None:
    """IR of writing a value to p."""
    b.store(value, p if _opaque(p) else b.bitcast(p, value.type.as_pointer()), align=align)


def data_and_size(cx: Any, b: ir.IRBuilder, array_type: types.Array, array: ir.Value) -> tuple[ir.Value, ir.Value]:
    """IR of the address of the first element of an array, and of the number of elements.

    Numba's guide to extensions unpacks values with `create_struct_proxy`, imported from an internal module; it does not say
    that an array has the fields `data` and `nitems`. There is no way to do without: no intrinsic could reach an array.
    """
    struct = cgutils.create_struct_proxy(array_type)(cx, b, array)
    return struct.data, struct.nitems
