"""A small kernel that uses each internal once, to check that this Numba works as the package expects.

It finds what importing the other modules here does not: a renamed attribute, another signature. It runs once for each cache
of kernels, before anything else is compiled, and leaves its result there in a file.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import llvmlite.ir as ir
import numpy as np
from numba import types
from numba.extending import intrinsic

from ..atomics import call_piece
from ..folder import Folders, write_whole
from ..vectors import I64, Vec, llvm_float, nothing
from . import arrays, compiler, pointers
from .callbacks import sharing
from .references import named, refer

FILE = "self-check"
FLAGS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
SIZE, SHARDS = 5, 2      # no vector has fewer than two lanes


class Job(NamedTuple):
    """What the shards of the check share: each writes the sum of x, times its own number, to out."""

    x: Any
    out: Any
    at: int


@intrinsic
def _copy_part(ctx, out, x, n):
    """The first n elements of x, once through a vector; an IndexError if n is negative."""
    v = Vec(x.dtype)

    def codegen(cx, b, sig, args):
        with b.if_then(b.icmp_signed("<", args[2], I64(0)), likely=False):
            arrays.raise_index_error(cx, b, "negative")
        (source, _), (target, _) = (pointers.data_and_size(cx, b, t, a) for t, a in ((x, args[1]), (out, args[0])))
        zero = [I64(0)]
        vector = arrays.masked_load(b, pointers.gep(b, source, zero, llvm_float(v.dtype)), args[2], v)
        arrays.masked_store(b, vector, pointers.gep(b, target, zero, llvm_float(v.dtype)), args[2], v)
        return nothing(cx)
    return types.void(out, x, types.intp), codegen


@intrinsic
def _flat(ctx, arr):
    one = types.Array(arr.dtype, 1, "C")
    return one(arr), lambda cx, b, sig, args: arrays.flat_view(cx, b, arr, one, args[0])


@intrinsic
def _zeros(ctx, shape, like):
    array = types.Array(like.dtype, 1, "C")
    return array(shape, like), lambda cx, b, sig, args: arrays.new_array(cx, b, array, shape, args[0], zeros=True)


def _define_same(module: ir.Module, linkage: str) -> None:
    """A function in LLVM IR that returns its argument."""
    same = _declared_same(module)
    same.linkage = linkage
    ir.IRBuilder(same.append_basic_block("entry")).ret(same.args[0])


def _declared_same(module: ir.Module) -> ir.Function:
    return ir.Function(module, ir.FunctionType(I64, [I64]), "fastbptt_same")


@intrinsic
def _same(ctx, n):
    """n, from a unit."""
    def codegen(cx, b, sig, args):
        compiler.functions(cx, b.module, "fastbptt_same", _define_same)
        return b.call(_declared_same(b.module), args)
    return types.intp(types.intp), codegen


def _made(f: Any) -> Any:
    return compiler.block(f, FLAGS, allocates=False, python=False, forceinline=False, once=False)


@_made
def _shard(shard, job):
    total = 0.0
    for i in range(job.x.size):
        total += job.x[i]
    job.out[job.at + shard] = shard * total


@_made
def _one_by_one(pool, function, data, count):
    for piece in range(count):
        call_piece(function, piece, data)


run_pieces = sharing(_one_by_one)


@_made
def _whole(job, count, pool):
    run_pieces(_shard, refer(Job(_flat(job.x), job.out, 1)), count, pool)


def _kernel(values, n):
    job = named(values, Job)
    part = _zeros((n + 1,), job.x)
    _copy_part(part, _flat(job.x), _same(n))
    _whole(job, n, 0)
    return part


def _run(folders: Folders) -> str:
    """What is wrong, or nothing; the kernel is kept in the folder for new ones, and read back."""
    missing = [name for name in compiler.DISPATCHER if not hasattr(type(_whole), name)]
    if missing:
        return f"its dispatchers have no {missing[0]}"
    kept = None if folders.write is None else Folders((folders.write,), folders.write)
    kernels = [compiler.kernel(_kernel, FLAGS, kept, allocates=True) for _ in ("compiled", "read back")]
    if not all(_gives_right_numbers(kernel) for kernel in kernels):
        return "a small kernel gives wrong numbers"
    if kept is not None and not kernels[1]._cache.found and not kernels[0]._cache.refused:
        return "a kernel that was kept is not found"
    return ""


def _gives_right_numbers(kernel: Any) -> bool:
    x, out = np.arange(1.0, SIZE + 1).reshape(1, SIZE), np.zeros(SHARDS + 1)
    part = kernel((x, out, 1), SHARDS)
    return bool(part.tolist() == [1, 2, 0] and out.tolist() == [0, 0, 15])


def result(folders: Folders) -> str:
    """What is wrong with this Numba, or nothing; found once, then read from the folder of kernels."""
    for folder in folders.read:
        if (earlier := _read(folder / FILE)) is not None:
            return earlier
    try:
        found = _run(folders)
    except Exception as error:      # of whatever kind: a changed internal may raise anything
        found = first_line(error)
    if folders.write is not None:
        try:
            write_whole(folders.write / FILE, f"{found}\n".encode())
        except OSError:
            pass      # checked again next time
    return found


def first_line(error: BaseException) -> str:
    """The cause of an error, without the pass of Numba in which it occurred."""
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}".splitlines()[0]


def _read(path: Path) -> str | None:
    """What an earlier check found; None where there was none, or its file is damaged."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return text[:-1] if text.endswith("\n") else None
