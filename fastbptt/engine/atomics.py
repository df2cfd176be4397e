"""Words of memory that several threads read and write, by their address; and calls of C functions by theirs."""
from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import llvmlite.ir as ir
from numba import types
from numba.extending import intrinsic

from .compat.pointers import load_atomic, pointer_to
from .vectors import I32, I64, nothing

X86 = llvm.get_process_triple().startswith(("x86_64", "amd64", "i686"))


def _word(b: ir.IRBuilder, address: ir.Value) -> ir.Value:
    return b.inttoptr(address, pointer_to(I64))


@intrinsic
def read(ctx, address):
    """The word at an address; what another thread wrote before this word can be read after it."""
    return types.intp(types.intp), lambda cx, b, sig, args: load_atomic(b, _word(b, args[0]), I64)


@intrinsic
def write(ctx, address, value):
    """Set the word at an address, after all that was written before."""
    def codegen(cx, b, sig, args):
        b.store_atomic(args[1], _word(b, args[0]), "seq_cst", 8)
        return nothing(cx)
    return types.void(types.intp, types.intp), codegen


@intrinsic
def add(ctx, address, value):
    """Add to the word at an address; what it was before."""
    def codegen(cx, b, sig, args):
        return b.atomic_rmw("add", _word(b, args[0]), args[1], "seq_cst")
    return types.intp(types.intp, types.intp), codegen


@intrinsic
def swap(ctx, address, old, new):
    """Set the word at an address to `new` if it is `old`; whether it was."""
    def codegen(cx, b, sig, args):
        found = b.cmpxchg(_word(b, args[0]), args[1], args[2], "seq_cst", "seq_cst")
        return b.extract_value(found, 1)
    return types.boolean(types.intp, types.intp, types.intp), codegen


@intrinsic
def pause(ctx):
    """Tell the CPU that this thread waits for another: a few dozen cycles on x86, nothing elsewhere."""
    def codegen(cx, b, sig, args):
        if X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            b.call(b.module.globals.get("llvm.x86.sse2.pause") or ir.Function(b.module, kind, "llvm.x86.sse2.pause"), [])
        return nothing(cx)
    return types.void(), codegen


def _call(arguments: list[ir.Type], result: ir.Type) -> Any:
    """Code of a call of the C function whose address is the first argument."""
    kind = ir.FunctionType(result, arguments)

    def codegen(cx: Any, b: ir.IRBuilder, sig: Any, args: Any) -> Any:
        given = [b.trunc(a, t) if t == I32 else b.inttoptr(a, t) if isinstance(t, ir.PointerType) else a
                 for a, t in zip(args[1:], arguments, strict=True)]
        b.call(b.inttoptr(args[0], pointer_to(kind)), given)
        return nothing(cx)
    return codegen


BYTES = pointer_to(ir.IntType(8))
CALLBACK = ir.FunctionType(ir.VoidType(), [I64, BYTES])


@intrinsic
def call_piece(ctx, function, piece, data):
    """void function(int64_t piece, void *data)."""
    return types.void(types.intp, types.intp, types.intp), _call(list(CALLBACK.args), CALLBACK.return_type)


@intrinsic
def acquire(ctx, function, lock):
    """int PyThread_acquire_lock(lock, 1): wait until it is released."""
    codegen = _call([BYTES, I32], I32)
    return types.void(types.intp, types.intp), lambda cx, b, sig, args: codegen(cx, b, sig, [*args, I64(1)])


@intrinsic
def release(ctx, function, lock):
    """void PyThread_release_lock(lock)."""
    return types.void(types.intp, types.intp), _call([BYTES], ir.VoidType())
