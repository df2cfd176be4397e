"""SIMD arithmetic in Python syntax: `Vec`, as wide as this CPU, and the same functions on scalars.

Numba leaves LLVM's SLP vectoriser off and has no vector type of its own, so what is to run on vector registers says so
here. A kernel loads a `Vec` from a flat array, computes with ``+ - * /``, comparisons, `fma`, `select` …, and stores it:

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
import os
from typing import Any

import llvmlite.binding as llvm
import llvmlite.ir as ir
from numba import types
from numba.core import cgutils, config
from numba.core.datamodel import models
from numba.extending import intrinsic, lower_builtin, register_model, type_callable
from numba.np.arrayobj import populate_array

I32, I64, BOOL = ir.IntType(32), ir.IntType(64), ir.IntType(1)


def _host_features() -> dict[str, bool]:
    """The CPU features that Numba compiles for (NUMBA_CPU_FEATURES where it is set)."""
    if config.CPU_FEATURES is not None:
        return {name[1:]: name[0] == "+" for name in config.CPU_FEATURES.split(",") if name}
    return dict(llvm.get_host_cpu_features())


def _simd_bits(features: dict[str, bool]) -> int:
    """Width of a vector register in bits: FASTBPTT_SIMD_BITS, or the widest that the CPU has."""
    wanted = os.environ.get("FASTBPTT_SIMD_BITS", "")
    if wanted:
        if wanted not in ("128", "256", "512"):
            raise ValueError(f"FASTBPTT_SIMD_BITS: expected 128, 256 or 512, got {wanted!r}; unset it to use what this CPU has")
        return int(wanted)
    return 512 if features.get("avx512f") else 256 if features.get("avx2") else 128


FEATURES = _host_features()
BITS = _simd_bits(FEATURES)
# AVX-512 and NEON have 32 vector registers, the x86 sets before them 16: this decides how large a register block can be.
REGISTERS = 32 if FEATURES.get("avx512f") or FEATURES.get("neon") else 16


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
    """Bytes to which an array of `dtype` is certainly aligned: those of one element."""
    return 4 if dtype == types.float32 else 8


@register_model(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vec):
        super().__init__(dmm, fe_type, llvm_vector(fe_type.dtype))


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Mask):
        super().__init__(dmm, fe_type, ir.VectorType(BOOL, fe_type.lanes))


def _is_float(t: types.Type) -> bool:
    return isinstance(t, Vec) or t in (types.float32, types.float64)


def _element(t: types.Type) -> types.Float:
    return t.dtype if isinstance(t, Vec) else t


def _suffix(t: types.Type) -> str:
    """How LLVM names the overload of an intrinsic for `t`."""
    bits = 32 if _element(t) == types.float32 else 64
    return f"v{t.lanes}f{bits}" if isinstance(t, Vec) else f"f{bits}"


def broadcast(builder: ir.IRBuilder, scalar: ir.Value, vector: ir.VectorType) -> ir.Value:
    """IR of a vector with `scalar` in every lane."""
    undef = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undef, scalar, I32(0))
    return builder.shuffle_vector(one, undef, ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count))


def call_fma(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value, suffix: str) -> ir.Value:
    """IR of a * b + c, in one rounding where the CPU has the instruction (else it would be a slow library call)."""
    fn = cgutils.get_or_insert_function(builder.module, ir.FunctionType(a.type, [a.type] * 3), f"llvm.fmuladd.{suffix}")
    return builder.call(fn, [a, b, c])


def pointer(context: Any, builder: ir.IRBuilder, array_type: types.Array, array: ir.Value, index: ir.Value,
            count: ir.Value) -> ir.Value:
    """IR of the address of element `index` of a flat array; with NUMBA_BOUNDSCHECK=1, `count` elements must lie inside."""
    struct = context.make_array(array_type)(context, builder, array)
    if config.BOUNDSCHECK:
        zero = ir.Constant(I64, 0)
        low = builder.icmp_signed("<", index, zero)
        high = builder.icmp_signed(">", builder.add(index, count), struct.nitems)
        empty = builder.icmp_signed("<=", count, zero)
        with builder.if_then(builder.and_(builder.not_(empty), builder.or_(low, high)), likely=False):
            context.call_conv.return_user_exc(builder, IndexError, ("a vector access leaves its array",))
    return builder.gep(struct.data, [index])


# ---------------------------------------------------------------------------------------------- loads and stores

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
def flat(ctx, arr):
    """A C-contiguous array as one of a single axis, for nothing; no reference is counted, so `arr` must outlive it."""
    one = types.Array(arr.dtype, 1, "C", readonly=not arr.mutable)

    def codegen(cx, b, sig, a):
        given = cx.make_array(arr)(cx, b, a[0])
        out = cx.make_array(one)(cx, b)
        populate_array(out, given.data, [given.nitems], [given.itemsize], given.itemsize, None)
        return out._getvalue()
    return one(arr), codegen


def emit_load(cx: Any, b: ir.IRBuilder, array_type: types.Array, array: ir.Value, i: ir.Value) -> ir.Value:
    """IR of the vector that begins at element i of a flat array."""
    vt = llvm_vector(array_type.dtype)
    out = b.load(b.bitcast(pointer(cx, b, array_type, array, i, I64(vt.count)), vt.as_pointer()))
    out.align = alignment(array_type.dtype)
    return out


def emit_store(cx: Any, b: ir.IRBuilder, array_type: types.Array, array: ir.Value, i: ir.Value, value: ir.Value) -> None:
    """IR that stores a vector at element i of a flat array."""
    p = pointer(cx, b, array_type, array, i, I64(value.type.count))
    b.store(value, b.bitcast(p, value.type.as_pointer())).align = alignment(array_type.dtype)


@intrinsic
def load(ctx, arr, i):
    """The vector arr[i : i + lanes] of a flat array."""
    return Vec(arr.dtype)(arr, types.intp), lambda cx, b, sig, a: emit_load(cx, b, arr, a[0], a[1])


@intrinsic
def store(ctx, arr, i, value):
    """arr[i : i + lanes] = value."""
    def codegen(cx, b, sig, a):
        emit_store(cx, b, arr, *a)
        return cx.get_dummy_value()
    return types.void(arr, types.intp, value), codegen


def _first(b: ir.IRBuilder, n: ir.Value, lanes: int) -> ir.Value:
    """IR of the mask of the first n lanes; n may be larger than the vector or negative."""
    iv = ir.VectorType(I32, lanes)
    limit = b.select(b.icmp_signed(">", n, I64(lanes)), I64(lanes), n)
    return b.icmp_signed("<", ir.Constant(iv, list(range(lanes))), broadcast(b, b.trunc(limit, I32), iv))


def _clamped(b: ir.IRBuilder, n: ir.Value, lanes: int) -> ir.Value:
    return b.select(b.icmp_signed(">", n, I64(lanes)), I64(lanes), n)


def emit_load_tail(cx: Any, b: ir.IRBuilder, array_type: types.Array, array: ir.Value, i: ir.Value, n: ir.Value) -> ir.Value:
    """IR of the vector whose first n elements begin at element i, the others zero."""
    v = Vec(array_type.dtype)
    vt = llvm_vector(v.dtype)
    p = b.bitcast(pointer(cx, b, array_type, array, i, _clamped(b, n, v.lanes)), vt.as_pointer())
    ft = ir.FunctionType(vt, [vt.as_pointer(), I32, ir.VectorType(BOOL, v.lanes), vt])
    fn = cgutils.get_or_insert_function(b.module, ft, f"llvm.masked.load.{_suffix(v)}.p0")
    return b.call(fn, [p, I32(alignment(v.dtype)), _first(b, n, v.lanes), ir.Constant(vt, [0.0] * v.lanes)])


def emit_store_tail(cx: Any, b: ir.IRBuilder, array_type: types.Array, array: ir.Value, i: ir.Value, value: ir.Value,
                    n: ir.Value) -> None:
    """IR that stores the first n elements of a vector at element i."""
    v = Vec(array_type.dtype)
    vt = llvm_vector(v.dtype)
    p = b.bitcast(pointer(cx, b, array_type, array, i, _clamped(b, n, v.lanes)), vt.as_pointer())
    ft = ir.FunctionType(ir.VoidType(), [vt, vt.as_pointer(), I32, ir.VectorType(BOOL, v.lanes)])
    fn = cgutils.get_or_insert_function(b.module, ft, f"llvm.masked.store.{_suffix(v)}.p0")
    b.call(fn, [value, p, I32(alignment(v.dtype)), _first(b, n, v.lanes)])


@intrinsic
def load_part(ctx, arr, i, n):
    """The first n elements from arr[i] on and zeros after them; memory beyond them is not read."""
    return Vec(arr.dtype)(arr, types.intp, types.intp), lambda cx, b, sig, a: emit_load_tail(cx, b, arr, *a)


@intrinsic
def store_part(ctx, arr, i, value, n):
    """arr[i : i + n] = the first n lanes of value; memory beyond them is not written."""
    def codegen(cx, b, sig, a):
        emit_store_tail(cx, b, arr, *a)
        return cx.get_dummy_value()
    return types.void(arr, types.intp, value, types.intp), codegen


def _interleave(b: ir.IRBuilder, rows: list[ir.Value], lanes: int) -> list[ir.Value]:
    """IR of the transpose of a square of vectors: log2(lanes) rounds, each swaps blocks across the diagonal."""
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
        vt = llvm_vector(v.dtype)
        ft = ir.FunctionType(vt, [vt.as_pointer(), I32, ir.VectorType(BOOL, v.lanes), vt])
        fn = cgutils.get_or_insert_function(b.module, ft, f"llvm.masked.load.{_suffix(v)}.p0")
        zeros, none = ir.Constant(vt, [0.0] * v.lanes), I64(0)
        vectors = []
        for r in range(v.lanes):
            n = b.select(b.icmp_signed("<", I64(r), row_n), _clamped(b, col_n, v.lanes), none)
            p = pointer(cx, b, arr, a[3], b.add(first, b.mul(I64(r), ld)), n)
            vectors.append(b.call(fn, [b.bitcast(p, vt.as_pointer()), I32(alignment(v.dtype)), _first(b, n, v.lanes), zeros]))
        for k, value in enumerate(_interleave(b, vectors, v.lanes)):
            with b.if_then(b.icmp_signed("<", I64(k), col_n)):
                p = pointer(cx, b, out, a[0], b.add(at, b.mul(I64(k), out_step)), I64(v.lanes))
                b.store(value, b.bitcast(p, vt.as_pointer())).align = alignment(v.dtype)
        return cx.get_dummy_value()
    return types.void(out, types.intp, types.intp, arr, types.intp, types.intp, types.intp, types.intp), codegen


# ---------------------------------------------------------------------------------------------- constants and casts

@intrinsic(prefer_literal=True)
def const(ctx, like, c):
    """The number c in the type of `like`: every lane of a Vec, or a scalar (where a bare literal would become float64)."""
    def codegen(cx, b, sig, a):
        scalar = cx.cast(b, a[1], c, _element(like))
        return broadcast(b, scalar, llvm_vector(like.dtype)) if isinstance(like, Vec) else scalar
    return like(like, c), codegen


@intrinsic
def splat(ctx, scalar, arr):
    """The vector with `scalar` in every lane, in the array's dtype."""
    v = Vec(arr.dtype)

    def codegen(cx, b, sig, a):
        return broadcast(b, cx.cast(b, a[0], scalar, v.dtype), llvm_vector(v.dtype))
    return v(scalar, arr), codegen


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
    if not (_is_float(a) and a == b == c):
        return None
    return a(a, a, a), lambda cx, bd, sig, args: call_fma(bd, args[0], args[1], args[2], _suffix(a))


@intrinsic
def polynomial(ctx, x, c):
    """c[0] + c[1] x + c[2] x² + …, two halves joined by a power of x (Estrin): few operations wait for each other."""
    if not _is_float(x):
        return None

    def codegen(cx, b, sig, args):
        constants = [cx.cast(b, b.extract_value(args[1], i), c.types[i], _element(x)) for i in range(len(c))]
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
            return call_fma(b, power(half), high, value(first, half), _suffix(x))
        return value(0, len(c))
    return x(x, c), codegen


@intrinsic
def select(ctx, mask, a, b):
    """a where the mask is true, else b."""
    if not (_is_float(a) and a == b):
        return None
    return a(mask, a, a), lambda cx, bd, sig, args: bd.select(*args)


@intrinsic
def vmin(ctx, a, b):
    """The smaller of a and b, and b where either is NaN (one instruction): keep the value that may be NaN in b."""
    if not (_is_float(a) and a == b):
        return None
    return a(a, a), lambda cx, bd, sig, args: bd.select(bd.fcmp_ordered("<", *args), *args)


@intrinsic
def vmax(ctx, a, b):
    """The larger of a and b, and b where either is NaN (one instruction): keep the value that may be NaN in b."""
    if not (_is_float(a) and a == b):
        return None
    return a(a, a), lambda cx, bd, sig, args: bd.select(bd.fcmp_ordered(">", *args), *args)


def _unary(name: str) -> Any:
    @intrinsic
    def f(ctx, a):
        if not _is_float(a):
            return None

        def codegen(cx, b, sig, args):
            t = args[0].type
            fn = cgutils.get_or_insert_function(b.module, ir.FunctionType(t, [t]), f"llvm.{name}.{_suffix(a)}")
            return b.call(fn, args)
        return a(a), codegen
    return f


vabs = _unary("fabs")


@intrinsic
def copysign(ctx, magnitude, sign):
    """|magnitude| with the sign of `sign`."""
    if not (_is_float(magnitude) and magnitude == sign):
        return None

    def codegen(cx, b, sig, args):
        t = args[0].type
        fn = cgutils.get_or_insert_function(b.module, ir.FunctionType(t, [t, t]), f"llvm.copysign.{_suffix(magnitude)}")
        return b.call(fn, args)
    return magnitude(magnitude, magnitude), codegen


@intrinsic
def exponent(ctx, z):
    """2**n for z = 1.5 * 2**m + n, where 2**m is the weight beyond which the format has no fraction (m = 23 or 52).

    Adding 1.5 * 2**m rounds a number to an integer and leaves it in the low bits, from which they are shifted into the
    exponent field: no conversion that a NaN could spoil. n must lie in the range of normal exponents.
    """
    if not _is_float(z):
        return None
    bits, fraction, bias = (32, 23, 127) if _element(z) == types.float32 else (64, 52, 1023)

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
