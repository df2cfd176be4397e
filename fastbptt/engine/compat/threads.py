"""Numba's threading layer, called as Numba's own parallel loops call it.

`prange` would compile the loop's body once more for each of its wrappers, seconds for kernels like ours, and once more
again for a serial twin. Done without it: the calling thread works alone, with the same results.
"""
from __future__ import annotations

import re
import warnings
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numba
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..switches import jit_enabled
from ..vectors import I32, I64
from .pointers import gep, load, pointer_to
from .references import Ref, written

BYTES = pointer_to(ir.IntType(8))
# Numba's gufunc callback: (pointers, counts, steps, data), for a range of counts[0] indices starting at pointers[0].
CALLBACK = ir.FunctionType(ir.VoidType(), [pointer_to(BYTES), pointer_to(I64), pointer_to(I64), BYTES])
PARALLEL_FOR = ir.FunctionType(ir.VoidType(), [BYTES] * 5 + [I64] * 3)
TESTED = ((0, 61), (0, 68))      # first and last Numba whose `numba_parallel_for` is known to be PARALLEL_FOR
DECLARED = re.compile(r"declare void @numba_parallel_for\((.*?)\)")


def parallel_for() -> int:
    """The address of the parallel loop of the threading layer, which runs; 0 where it cannot be used."""
    return int(llvm.address_of_symbol("numba_parallel_for") or 0) if _known() else 0


@cache
def _known() -> bool:
    """Whether the parallel loop is called as `run_shards` calls it: a call with other arguments would be a crash."""
    if TESTED[0] <= version() <= TESTED[1] or declared() == ["p"] * 5 + ["i64"] * 3:
        return True
    warnings.warn(f"fastbptt: the threads of Numba {numba.__version__} are started in another way than this version knows; "
                  "all work is done by the calling thread, with the same results. A newer fastbptt may know it.",
                  RuntimeWarning, stacklevel=2)
    return False


def version() -> tuple[int, int]:
    """Numba's version without its last part."""
    major, minor = re.findall(r"\d+", numba.__version__)[:2]
    return int(major), int(minor)


def declared() -> list[str]:
    """The types of the arguments with which a parallel loop of Numba's own making calls `numba_parallel_for`; p: a pointer."""
    def fill(out):
        for i in numba.prange(out.size):
            out[i] = i
    try:
        with jit_enabled():
            loop = numba.njit(parallel=True)(fill)
            loop.compile((types.Array(types.int64, 1, "C"),))
        found = DECLARED.search("".join(loop.inspect_llvm().values()))
    except Exception:      # of whatever kind: then it is not known
        return []
    return ["p" if t.startswith("ptr") or t.endswith("*") else t for t in found[1].split(", ")] if found else []


def _callback(cx: Any, module: ir.Module, compiled: Any, data_type: ir.Type, job: Ref) -> ir.Function:
    """The C function that runs a range of shards: data points to (error flag, address of the job)."""
    f = ir.Function(module, CALLBACK, module.get_unique_name(f"shards_of_{compiled.fndesc.mangled_name}"))
    f.linkage = "internal"
    pointers, counts, _, data = f.args
    b = ir.IRBuilder(f.append_basic_block("entry"))
    struct = b.bitcast(data, pointer_to(data_type))
    place = load(b, gep(b, struct, [I32(0), I32(1)], data_type), data_type.elements[1])
    begin = b.ptrtoint(load(b, pointers, BYTES), I64)
    with cgutils.for_range(b, load(b, counts, I64), intp=I64) as loop:
        fn = cx.declare_function(module, compiled.fndesc)
        status, _ = cx.call_conv.call_function(b, fn, types.none, (types.intp, job), (b.add(begin, loop.index), place))
        with b.if_then(status.is_error, likely=False):
            b.store(I32(1), gep(b, struct, [I32(0), I32(0)], data_type))
    b.ret_void()
    return f


@intrinsic
def run_shards(ctx, function, job, count, threads, parallel_for):
    """function(shard, job) for shard = 0 … count−1, spread over `threads` threads; here if parallel_for = 0 or count = 1.

    The arguments are a NamedTuple, or the address of one, which is what `function` sees.

    Static shares, one fork and one join. An exception in a shard (there is none but under NUMBA_BOUNDSCHECK=1) is raised
    again after the join.
    """
    given, job = job, job if isinstance(job, Ref) else Ref(job)
    compiled_types = (types.intp, job)
    function.dispatcher.compile(compiled_types)
    compiled = function.dispatcher.overloads[compiled_types]

    def codegen(cx, b, sig, args):
        _, place, n, n_threads, address = args
        place = place if given == job else written(b, place)
        cx.active_code_library.add_linking_library(compiled.library)
        data_type = ir.LiteralStructType([I32, cx.get_value_type(job)])
        callback = _callback(cx, b.module, compiled, data_type, job)
        data = cgutils.alloca_once(b, data_type)
        flag = gep(b, data, [I32(0), I32(0)], data_type)
        b.store(I32(0), flag)
        b.store(place, gep(b, data, [I32(0), I32(1)], data_type))
        pointers, counts, steps = (cgutils.alloca_once(b, t) for t in (BYTES, I64, I64))
        b.store(ir.Constant(BYTES, None), pointers)
        b.store(n, counts)
        b.store(I64(1), steps)
        raw = b.bitcast(data, BYTES)
        with b.if_else(b.or_(b.icmp_signed("==", address, I64(0)), b.icmp_signed("<", n, I64(2)))) as (here, forked):
            with here:
                b.call(callback, [pointers, counts, steps, raw])
            with forked:
                layer = b.inttoptr(address, PARALLEL_FOR.as_pointer())
                b.call(layer, [b.bitcast(callback, BYTES), b.bitcast(pointers, BYTES), b.bitcast(counts, BYTES),
                               b.bitcast(steps, BYTES), raw, I64(0), I64(1), n_threads])
        with b.if_then(b.icmp_signed("!=", load(b, flag, I32), I32(0)), likely=False):
            cx.call_conv.return_user_exc(b, IndexError, ("a vector access leaves its array",))
        return cx.get_dummy_value()
    return types.void(function, given, types.intp, types.intp, types.intp), codegen
