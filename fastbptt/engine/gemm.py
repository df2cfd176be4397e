"""Register-blocked matrix products on packed panels.

A product C += A B reads A in place (rows or columns of a working buffer) and B packed into *panels*: the columns of B,
padded with zeros to whole vectors, are cut into groups of `PANEL` vectors, and each group is stored front to back,
``panel[k, column]``. The working buffers are padded to whole vectors as well, so no product needs a masked tail: ragged
sizes of the user's arrays are handled once, where these are packed and unpacked (`panels.py`).

The block of C that one tile computes stays in vector registers over the whole sum; each step of k is one vector load of
B per column vector, one broadcast of A per row, and a fused multiply-add for every pair. The number of rows times vectors
hides the latency of the multiply-add (4 cycles, 2 per cycle: at least 8); where there are fewer, k is split into chains.
The order of every sum depends on the sizes alone, not on how a product is cut by rows or columns.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import llvmlite.ir as ir
from numba import types
from numba.extending import intrinsic

from . import simd
from .compat import PLAIN, compiler
from .compat.pointers import gep, load, pointer_to, store
from .jit import njit
from .primitives import maximum, minimum
from .simd import BOOL, I64
from .vectors import nothing

MAX_ROWS = 6
PANEL = 4 if simd.REGISTERS == 32 else 2        # vectors per panel: 6 x 4 or 6 x 2 accumulators fit the register file
# Panels taken at once if there are few rows, for at least 8 independent sums.
_WIDE = {1: 8 // PANEL, 2: 2}
_CHAINS = 8                                     # independent sums that hide the latency of a multiply-add
SLAB = 96                                       # rows of C whose part of A (SLAB columns of a block of k) stays in L2


class _Shape(NamedTuple):
    rows: int
    panels: int
    vectors: int


def _row_shapes() -> list[_Shape]:
    """The tiles that a product over batch rows may need."""
    shapes = []
    for rows in range(1, MAX_ROWS + 1):
        panels = _WIDE.get(rows, 1)
        while panels > 1:
            shapes.append(_Shape(rows, panels, PANEL))
            panels //= 2
        shapes += [_Shape(rows, 1, vectors) for vectors in range(1, PANEL + 1)]
    return shapes


def _column_shapes() -> list[_Shape]:
    """The tiles that a product over columns may need: their number is a multiple of 4, hence never cut into fewer than 4."""
    return [_Shape(rows, 1, vectors) for rows in (4, 5, 6) for vectors in range(1, PANEL + 1)]


class _Operand(NamedTuple):
    """Base addresses and strides of one tile, as LLVM values."""
    a: list[ir.Value]
    a_step: ir.Value
    b: list[ir.Value]
    c: list[list[ir.Value]]


def _emit_sums(b: ir.IRBuilder, at: _Operand, shape: _Shape, k_n: ir.Value, init: list[ir.Value],
               dtype: types.Float) -> list[ir.Value]:
    """The loop over k of one tile: returns the sums, rows x (panels · vectors)."""
    vt, align, suffix = llvm_types(dtype)
    width = shape.panels * shape.vectors
    count = shape.rows * width
    # Of three rows and more it depends on the vectors alone: so a product may be cut by rows anywhere, to the same bits.
    chains = max(1, _CHAINS // (min(shape.rows, 3) * width))
    zero = ir.Constant(vt, None)

    def step(k: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        vectors = []
        for base in at.b:
            row = gep(b, base, [b.mul(k, I64(shape.vectors * vt.count))], vt.element)
            for v in range(shape.vectors):
                vectors.append(load(b, gep(b, row, [I64(v * vt.count)], vt.element), vt, align))
        out = []
        offset = b.mul(k, at.a_step)
        for r, base in enumerate(at.a):
            s = simd.broadcast(b, load(b, gep(b, base, [offset], vt.element), vt.element), vt)
            out += [simd.call_fma(b, s, vectors[j], sums[r * width + j], suffix) for j in range(width)]
        return out

    def loop(start: ir.Value, stop: ir.Value, by: int, sums: list[ir.Value]) -> list[ir.Value]:
        """sums after the steps start … stop-1 (a multiple of `by` steps), chain c taking every by-th step from start + c on."""
        entry, body, done = b.basic_block, b.append_basic_block("k"), b.append_basic_block("done")
        b.cbranch(b.icmp_signed("<", start, stop), body, done)
        b.position_at_end(body)
        k = b.phi(I64)
        k.add_incoming(start, entry)
        phis = []
        for value in sums:
            phi = b.phi(vt)
            phi.add_incoming(value, entry)
            phis.append(phi)
        new: list[ir.Value] = []
        for c in range(by):
            new += step(b.add(k, I64(c)), phis[c * count:(c + 1) * count])
        following = b.add(k, I64(by))
        k.add_incoming(following, b.basic_block)
        for phi, value in zip(phis, new, strict=True):
            phi.add_incoming(value, b.basic_block)
        last = b.basic_block
        b.cbranch(b.icmp_signed("<", following, stop), body, done)
        b.position_at_end(done)
        out = []
        for before, after in zip(sums, new, strict=True):
            phi = b.phi(vt)
            phi.add_incoming(before, entry)
            phi.add_incoming(after, last)
            out.append(phi)
        return out

    if chains == 1:
        return loop(I64(0), k_n, 1, init)
    whole = b.and_(k_n, I64(-chains))
    sums = loop(I64(0), whole, chains, init + [zero] * (count * (chains - 1)))
    while len(sums) > count:                     # add the chains in pairs
        half = len(sums) // 2
        sums = [b.fadd(x, y) for x, y in zip(sums[:half], sums[half:], strict=True)]
    return loop(whole, k_n, 1, sums)


def llvm_types(dtype: types.Float) -> tuple[ir.VectorType, int, str]:
    """Vector type, alignment and intrinsic suffix of a dtype."""
    vt = simd.llvm_vector(dtype)
    return vt, simd.alignment(dtype), f"v{vt.count}f{32 if dtype == types.float32 else 64}"


def _emit_tile(b: ir.IRBuilder, at: _Operand, shape: _Shape, k_n: ir.Value, add: ir.Value, dtype: types.Float) -> None:
    """C (rows, vectors) = [C where `add`] + sum over k."""
    vt, align, _ = llvm_types(dtype)
    zero = ir.Constant(vt, None)
    places = [p for row in at.c for p in row]
    init = [b.select(add, load(b, place, vt, align), zero) for place in places]
    for place, value in zip(places, _emit_sums(b, at, shape, k_n, init, dtype), strict=True):
        store(b, value, place, align)


def _tile_function(module: ir.Module, shape: _Shape, by_rows: bool, dtype: types.Float) -> ir.Function:
    """The function of one tile, declared: (add, K, A, lda, B, C, ldc), pointers and element strides."""
    element = simd.llvm_float(dtype)
    name = f"{_tiles_name(by_rows, dtype)}_{shape.rows}_{shape.panels}_{shape.vectors}"
    if name in module.globals:
        return module.globals[name]
    ptr = pointer_to(element)
    f = ir.Function(module, ir.FunctionType(ir.VoidType(), [BOOL, I64, ptr, I64, ptr, ptr, I64]), name)
    for attribute in ("argmemonly", "noinline", "norecurse", "nounwind"):
        f.attributes.add(attribute)
    if PLAIN:       # no loop is unrolled further: there every function that uses a tile compiles it
        f.attributes.add("optsize")
    return f


def _tiles_name(by_rows: bool, dtype: types.Float) -> str:
    return f"fastbptt_tile_{'rows' if by_rows else 'columns'}_{simd.BITS}_{simd.llvm_float(dtype)}"


def _define_tile(f: ir.Function, shape: _Shape, by_rows: bool, dtype: types.Float) -> None:
    """The body of one tile."""
    element = simd.llvm_float(dtype)
    add, k_n, a, lda, panel, c, ldc = f.args
    b = ir.IRBuilder(f.append_basic_block("entry"))
    lanes = simd.lane_count(dtype)
    at = _Operand(
        a=[gep(b, a, [b.mul(I64(r), lda) if by_rows else I64(r)], element) for r in range(shape.rows)],
        a_step=I64(1) if by_rows else lda,
        b=[gep(b, panel, [b.mul(k_n, I64(q * PANEL * lanes))], element) for q in range(shape.panels)],
        c=[[gep(b, c, [b.add(b.mul(I64(r), ldc), I64(v * lanes))], element) for v in range(shape.panels * shape.vectors)]
           for r in range(shape.rows)])
    _emit_tile(b, at, shape, k_n, add, dtype)
    b.ret_void()


def _tile_intrinsic(shapes: list[_Shape], by_rows: bool) -> Any:
    """An intrinsic that computes one tile, its shape chosen at run time among `shapes`."""

    @intrinsic
    def tile(ctx, rows, panels, vectors, add, K, A, a0, lda, B, b0, C, c0, ldc):
        signature = types.void(types.intp, types.intp, types.intp, types.boolean, types.intp,
                               A, types.intp, types.intp, B, types.intp, C, types.intp, types.intp)

        def codegen(cx, b, sig, args):
            rows_, panels_, vectors_, add_, k_n, a, a_off, a_ld, bb, b_off, c, c_off, c_ld = args
            width = b.mul(b.mul(panels_, vectors_), I64(simd.lane_count(A.dtype)))
            last_row, last_k = b.sub(rows_, I64(1)), b.sub(k_n, I64(1))
            a_count = b.add(b.mul(last_row, a_ld), k_n) if by_rows else b.add(b.mul(last_k, a_ld), rows_)
            operands = [add_, k_n,
                        simd.pointer(cx, b, A, a, a_off, a_count), a_ld,
                        simd.pointer(cx, b, B, bb, b_off, b.mul(k_n, width)),
                        simd.pointer(cx, b, C, c, c_off, b.add(b.mul(last_row, c_ld), width)), c_ld]

            def define(module: ir.Module, linkage: str) -> None:
                for shape in shapes:
                    f = _tile_function(module, shape, by_rows, A.dtype)
                    if f.is_declaration:
                        f.linkage = linkage
                        _define_tile(f, shape, by_rows, A.dtype)
            compiler.functions(cx, b.module, _tiles_name(by_rows, A.dtype), define)
            done, other = b.append_basic_block("tiled"), b.append_basic_block("no_such_tile")
            switch = b.switch(b.add(b.shl(rows_, I64(8)), b.add(b.shl(panels_, I64(4)), vectors_)), other)
            for shape in shapes:
                case = b.append_basic_block(f"tile_{shape.rows}_{shape.panels}_{shape.vectors}")
                switch.add_case(I64((shape.rows << 8) + (shape.panels << 4) + shape.vectors), case)
                b.position_at_end(case)
                b.call(_tile_function(b.module, shape, by_rows, A.dtype), operands)
                b.branch(done)
            b.position_at_end(other)
            b.unreachable()
            b.position_at_end(done)
            return nothing(cx)
        return signature, codegen
    return tile


_row_tile = _tile_intrinsic(_row_shapes(), by_rows=True)
_column_tile = _tile_intrinsic(_column_shapes(), by_rows=False)
_WIDE_1, _WIDE_2 = _WIDE[1], _WIDE[2]


@njit(forceinline=True)
def group_size(left):
    """Rows of the next tile when `left` rows are left: as equal as possible, at most MAX_ROWS."""
    groups = (left + MAX_ROWS - 1) // MAX_ROWS
    return (left + groups - 1) // groups


@njit(forceinline=True)
def row_range(rows, piece, pieces):
    """From which row to which one of `pieces` cuts of a product by rows goes: three rows or more, or none."""
    whole = maximum(1, minimum(pieces, rows // 3))
    return rows * minimum(piece, whole) // whole, rows * minimum(piece + 1, whole) // whole


@njit(forceinline=True)
def rows_times_panels(C, c0, ldc, A, a0, lda, M, K, B, b0, vectors, add, piece=0, pieces=1):
    """C (M, vectors) = [C where `add`] + A (M, K) B: A row after row, B in panels of K rows. Of `pieces` cuts by columns one."""
    n_lanes = simd.lanes(A)
    full = vectors // PANEL
    unit = _WIDE_1 if M == 1 else _WIDE_2 if M == 2 else 1
    units = (vectors + unit * PANEL - 1) // (unit * PANEL)
    panel = units * piece // pieces * unit
    last = minimum(vectors, units * (piece + 1) // pieces * unit * PANEL)
    while panel * PANEL < last:
        wide = 1
        if M <= 2:
            limit = _WIDE_1 if M == 1 else _WIDE_2
            while wide * 2 <= limit and panel + wide * 2 <= full:
                wide *= 2
        width = PANEL if panel < full else vectors - full * PANEL
        i = 0
        while i < M:
            rows = group_size(M - i)
            _row_tile(rows, wide, width, add, K, A, a0 + i * lda, lda, B, b0 + panel * PANEL * n_lanes * K,
                      C, c0 + i * ldc + panel * PANEL * n_lanes, ldc)
            i += rows
        panel += wide


@njit
def columns_times_panels(C, c0, ldc, A, a0, lda, M, K, B, b0, vectors, piece=0, pieces=1):
    """C (M, vectors) += Aᵀ B: A (K, M) with M a multiple of 4, B in panels of K rows. Of `pieces` cuts by rows of C one."""
    n_lanes = simd.lanes(A)
    last = M // 4 * (piece + 1) // pieces * 4
    for slab in range(M // 4 * piece // pieces * 4, last, SLAB):
        stop = minimum(last, slab + SLAB)
        for panel in range(0, (vectors + PANEL - 1) // PANEL):
            width = minimum(PANEL, vectors - panel * PANEL)
            i = slab
            while i < stop:
                rows = group_size(stop - i)
                _column_tile(rows, 1, width, True, K, A, a0 + i, lda, B, b0 + panel * PANEL * n_lanes * K,
                             C, c0 + i * ldc + panel * PANEL * n_lanes, ldc)
                i += rows
