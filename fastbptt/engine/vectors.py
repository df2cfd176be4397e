"""The Numba types of a vector of floats and of a vector of truth values, and LLVM IR for both."""
from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.extending import models, register_model

from .cpu import BITS

I32, I64, BOOL = ir.IntType(32), ir.IntType(64), ir.IntType(1)


def lane_count(dtype: Any) -> int:
    """Elements of `dtype` (a Numba float type or a NumPy dtype) in one vector."""
    return BITS // 64 if str(dtype) == "float64" else BITS // 32


class Vec(types.Type):
    """Numba type of a vector of `lanes` floats."""

    def __init__(self, dtype: types.Float):
        self.dtype, self.lanes = dtype, lane_count(dtype)
        super().__init__(f"Vec({dtype}x{self.lanes})")


class Mask(types.Type):
    """Numba type of a vector of truth values, the result of comparing two `Vec`."""

    def __init__(self, lanes: int):
        self.lanes = lanes
        super().__init__(f"Mask({lanes})")


def llvm_float(dtype: types.Float) -> ir.Type:
    """The LLVM scalar type of a Numba float type."""
    return ir.FloatType() if dtype == types.float32 else ir.DoubleType()


def llvm_vector(dtype: types.Float) -> ir.VectorType:
    """The LLVM vector type of `Vec(dtype)`."""
    return ir.VectorType(llvm_float(dtype), lane_count(dtype))


def alignment(dtype: types.Float) -> int:
    """The alignment in bytes that every array of `dtype` has: that of one element."""
    return 4 if dtype == types.float32 else 8


@register_model(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vec):
        super().__init__(dmm, fe_type, llvm_vector(fe_type.dtype))


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Mask):
        super().__init__(dmm, fe_type, ir.VectorType(BOOL, fe_type.lanes))


def is_float(t: types.Type) -> bool:
    """Whether `t` is what the arithmetic of `simd` takes: a `Vec`, float32 or float64."""
    return isinstance(t, Vec) or t in (types.float32, types.float64)


def element(t: types.Type) -> types.Float:
    """The float type of the lanes of a `Vec`, or of a scalar."""
    return t.dtype if isinstance(t, Vec) else t


def suffix(t: types.Type) -> str:
    """How LLVM names the overload of an intrinsic for `t`."""
    bits = 32 if element(t) == types.float32 else 64
    return f"v{t.lanes}f{bits}" if isinstance(t, Vec) else f"f{bits}"


def call_intrinsic(b: ir.IRBuilder, name: str, result: ir.Type, args: list[ir.Value]) -> ir.Value:
    """IR of a call of the LLVM intrinsic of that name, suffix included."""
    signature = ir.FunctionType(result, [a.type for a in args])
    return b.call(b.module.declare_intrinsic(name, fnty=signature), args)


def broadcast(builder: ir.IRBuilder, scalar: ir.Value, vector: ir.VectorType) -> ir.Value:
    """IR of a vector with `scalar` in every lane."""
    undef = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undef, scalar, I32(0))
    return builder.shuffle_vector(one, undef, ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count))


def call_fma(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value, name: str) -> ir.Value:
    """IR of a * b + c, in one rounding where the CPU has the instruction (else it would be a slow library call)."""
    return call_intrinsic(builder, f"llvm.fmuladd.{name}", a.type, [a, b, c])


def nothing(cx: Any) -> ir.Value:
    """IR of the value of an intrinsic that returns none."""
    return ir.Constant(cx.get_value_type(types.none), None)
