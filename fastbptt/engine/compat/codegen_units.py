"""Codegen units: parts of a kernel that LLVM compiles in threads, while Numba finds the types of what calls them.

Half of the time of compiling is Numba's, in Python; the other half is LLVM's, which needs nothing of Python and costs nothing
where there is a second core. LLVM may run in any number of threads that share neither a context nor a target machine. llvmlite,
whose functions mostly share one context, lets one thread in at a time, by a lock around each of its functions
(https://github.com/numba/llvmlite/pull/318). The two functions that take long are called here without that lock, in a context
of their own. Done without it, where llvmlite keeps the bare functions elsewhere: they are called with the lock, in turn.

A unit is an object file, loaded once in a process and kept in the file of every kernel that calls it (`cache`).
"""
from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite.binding import ffi
from numba import config

MOST_THREADS = 4
_pool: ThreadPoolExecutor | None = None
_loaded: set[str] = set()


class Compiled(NamedTuple):
    """What LLVM makes of a module."""

    code: bytes
    """The object file."""
    fixed: bool
    """Whether it holds addresses of this process, so that no other can use it."""


class CodegenUnit:
    """A module that LLVM compiles as soon as a thread is free, at the latest when its code is asked for."""

    def __init__(self, module: Any, codegen: Any, unroll: bool):
        self._work = partial(_compile, module.as_bitcode(), machine_of(codegen), unroll)
        self._future: Future[Compiled] = Future()
        if _pool is not None:
            try:
                self._future = _pool.submit(self._work)
            except RuntimeError:      # no thread can be started: there are too many, or the interpreter is about to end
                pass

    def help(self) -> None:
        """Compile it here unless a thread has begun."""
        if self._future.cancel():
            self._future = Future()
            self._future.set_result(self._work())

    def result(self) -> Compiled:
        """What became of it."""
        self.help()
        return self._future.result()


@contextmanager
def side_by_side() -> Iterator[None]:
    """Within it, units are compiled by threads, which have ended when it is left; Numba lets one thread in at a time."""
    global _pool
    threads = min(MOST_THREADS, config.NUMBA_NUM_THREADS - 1)
    if threads < 1:
        yield
        return
    before, _pool = _pool, ThreadPoolExecutor(threads, "fastbptt-llvm")
    try:
        yield
    finally:
        _pool.shutdown(cancel_futures=True)      # none is waiting but after an error
        _pool = before


def threads_run() -> bool:
    """Whether units are compiled by threads."""
    return _pool is not None


@contextmanager
def garbage_later() -> Iterator[None]:
    """Within it, no search for cyclic garbage but that of `collect_garbage`: it would go through all that Numba makes."""
    global _collects
    before, _collects = _collects, gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if _collects:
            gc.enable()
        _collects = before


_collects = False


def collect_garbage() -> None:
    """Search what was made since `garbage_later`, for a moment at which there is nothing to do but to wait for LLVM."""
    if _collects:
        gc.collect(0)


def machine_of(codegen: Any) -> Any:
    """A target machine like Numba's own."""
    options = {"opt": config.OPT}
    codegen._customize_tm_options(options)
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(**options)


def optimise(module: Any, machine: Any, unroll: bool = False) -> None:
    """LLVM's passes, once, without those that have nothing to do or only make the code longer.

    Numba optimises the whole twice, the first time to find reference counts that cancel each other out, of which blocks have
    few; and lets LLVM look for loops to vectorise, of which kernels that say themselves what is a vector have none. Loops are
    unrolled where that gains something, in the tiles of products: half of all other code would be made of copies.
    """
    options = llvm.create_pipeline_tuning_options(int(config.OPT))
    options.loop_vectorization = options.loop_interleaving = options.slp_vectorization = False
    options.loop_unrolling = unroll
    builder = llvm.create_pass_builder(machine, options)
    passes = builder.getModulePassManager()
    passes.add_refprune_pass()
    _without_lock(ffi.lib.LLVMPY_RunNewModulePassManager)(passes, module, builder)


def _without_lock(function: Any) -> Any:
    """A function of LLVM, as llvmlite itself calls it once it has its lock."""
    return getattr(function, "_cfn", function)


def _compile(bitcode: bytes, machine: Any, unroll: bool) -> Compiled:
    module = llvm.parse_bitcode(bitcode, llvm.create_context())
    optimise(module, machine, unroll)
    fixed = any(variable.name.startswith("numba.dynamic.globals") for variable in module.global_variables)
    return Compiled(_emitted(module, machine), fixed)


def _emitted(module: Any, machine: Any) -> bytes:
    """`machine.emit_object(module)`."""
    with ffi.OutputString() as error:
        buffer = _without_lock(ffi.lib.LLVMPY_TargetMachineEmitToMemory)(machine, module, 1, error)
        if not buffer:
            raise RuntimeError(str(error))
    try:
        return ctypes.string_at(ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer))
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


def load(codes: dict[str, bytes], codegen: Any) -> None:
    """Make units callable by what is loaded after them. A name, with its types, means the same code throughout a folder."""
    for name, code in codes.items():
        if name not in _loaded:
            codegen._engine._ee.add_object_file(llvm.ObjectFileRef.from_data(code))
            _loaded.add(name)
