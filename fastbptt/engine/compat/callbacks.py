"""A building block as a C function, which threads call by its address.

Numba compiles C functions for Python's use (`numba.cfunc`); the address of one is a constant of the process, and code with
such a constant cannot be kept on disk. Done without it: the calling thread works alone, with the same results.
"""
from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..atomics import BYTES, CALLBACK
from ..vectors import I32, I64
from .pointers import gep, load, pointer_to, store
from .references import Ref, written


def compiled(cx: Any, block: Any, arguments: tuple[types.Type, ...]) -> Any:
    """A block for these types of arguments, linked with what is being compiled."""
    block.compile(arguments)
    found = block.overloads[arguments]
    cx.active_code_library.add_linking_library(found.library)
    return found


def called(cx: Any, b: ir.IRBuilder, found: Any, arguments: tuple[types.Type, ...], values: list[ir.Value]) -> Any:
    """IR of a call of a compiled block; whether it raised."""
    function = cx.declare_function(b.module, found.fndesc)
    return cx.call_conv.call_function(b, function, types.none, arguments, values)[0].is_error


def _callback(cx: Any, module: ir.Module, found: Any, data_type: ir.Type, job: Ref) -> ir.Function:
    """The C function of a piece: data points to (error flag, address of the job)."""
    f = ir.Function(module, CALLBACK, module.get_unique_name(f"piece_of_{found.fndesc.mangled_name}"))
    f.linkage = "internal"
    piece, data = f.args
    b = ir.IRBuilder(f.append_basic_block("entry"))
    struct = b.bitcast(data, pointer_to(data_type))
    place = load(b, gep(b, struct, [I32(0), I32(1)], data_type), data_type.elements[1])
    with b.if_then(called(cx, b, found, (types.intp, job), [piece, place]), likely=False):
        store(b, I32(1), gep(b, struct, [I32(0), I32(0)], data_type))
    b.ret_void()
    return f


def sharing(share: Any) -> Any:
    """The intrinsic `run_pieces` that has a block share(pool, function, data, count) call the function for every piece."""

    @intrinsic
    def run_pieces(ctx, function, job, count, pool):
        """function(piece, job) for piece = 0 … count−1, on the threads of a pool; here if pool = 0.

        The job is a NamedTuple, or the address of one, which is what `function` sees. An exception in a piece (there is
        none but under NUMBA_BOUNDSCHECK=1) is raised again when all are done.
        """
        given, seen = job, job if isinstance(job, Ref) else Ref(job)

        def codegen(cx, b, sig, args):
            _, place, n, address = args
            place = place if given == seen else written(b, place)
            data_type = ir.LiteralStructType([I32, cx.get_value_type(seen)])
            found = compiled(cx, function.dispatcher, (types.intp, seen))
            callback = _callback(cx, b.module, found, data_type, seen)
            data = cgutils.alloca_once(b, data_type)
            flag = gep(b, data, [I32(0), I32(0)], data_type)
            b.store(I32(0), flag)
            b.store(place, gep(b, data, [I32(0), I32(1)], data_type))
            four = (types.intp,) * 4
            called(cx, b, compiled(cx, share, four), four,
                   [address, b.ptrtoint(callback, I64), b.ptrtoint(b.bitcast(data, BYTES), I64), n])
            with b.if_then(b.icmp_signed("!=", load(b, flag, I32), I32(0)), likely=False):
                cx.call_conv.return_user_exc(b, IndexError, ("a vector access leaves its array",))
            return cx.get_dummy_value()
        return types.void(function, given, types.intp, types.intp), codegen
    return run_pieces
