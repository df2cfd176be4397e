"""The same by documented means alone: `numba.njit` with its own cache, and LLVM IR that every version understands.

Chosen by FASTBPTT_PLAIN=1, and automatically if the self-check finds that Numba has changed. Results have the same bits.
Compiling takes longer, scans of few rows run slower, all work is done by the calling thread, and vector accesses are not
checked under NUMBA_BOUNDSCHECK=1.
"""
from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llvmlite.ir as ir
import numba
from numba import config, extending

from ..folder import Folders, warn_not_kept
from ..progress import shown
from ..switches import dispatcher, jit_enabled
from ..vectors import I64, alignment, llvm_float, llvm_vector, suffix
from .pointers import gep, load, pointer_to, store

try:
    import fcntl
except ImportError:      # Windows
    fcntl = None  # type: ignore[assignment]


def _always() -> dict[str, Any]:
    """Options to compile even under NUMBA_DISABLE_JIT=1: by Numba's own pipeline, whose name is not documented."""
    if not config.DISABLE_JIT:
        return {}
    from numba.core.compiler import Compiler

    class Always(Compiler):
        def compile_extra(self, function: Any) -> Any:
            with jit_enabled():
                return super().compile_extra(function)
    return {"pipeline_class": Always}


_ALWAYS = _always()


def block(f: Callable[..., Any], flags: dict[str, Any], *, allocates: bool, python: bool, forceinline: bool, once: bool) -> Any:
    """A building block, see `jit.njit`: it counts references, and LLVM decides what else is inlined.

    Numba optimises and assembles a function together with all that it calls, hence the end of a chain of calls ten deep
    ten times. So a block that is called `once` becomes part of its caller before types are known. Any other is an overload:
    that one is compiled once, whatever constants its callers pass, and without a wrapper for Python.
    """
    if once or python:
        return dispatcher(f, inline="always" if once else "never", no_cfunc_wrapper=True, **flags, **_ALWAYS)
    options = overload_options(flags, allocates=allocates)
    extending.overload(f, jit_options=options, strict=False)(lambda *args: f)
    return f


def overload_options(flags: dict[str, Any], *, allocates: bool) -> dict[str, Any]:
    """Options with which the implementation of an overload is compiled: without the wrapper for those who take its address."""
    return {**flags, **_ALWAYS, "no_cfunc_wrapper": True}


def kernel(f: Callable[..., Any], flags: dict[str, Any], folders: Folders, *, allocates: bool) -> Any:
    """An entry point, see `jit.kernel`."""
    return _Kernel(f, {**flags, **_ALWAYS}, folders.write)


def functions(cx: Any, module: ir.Module, name: str, define: Callable[[ir.Module, str], None]) -> None:
    """Have the block that is being lowered call functions that `define` writes into its module, in LLVM IR."""
    define(module, "linkonce_odr")


class _Kernel:
    """A function with Numba's cache, which one process uses at a time and which is emptied if damaged."""

    def __init__(self, f: Callable[..., Any], options: dict[str, Any], folder: Path | None):
        self.py_func, self._options, self._folder = f, options, folder
        self._compiled: set[tuple[Any, ...]] = set()
        self._dispatcher = self._made()

    def __call__(self, *args: Any) -> Any:
        signature = tuple(map(numba.typeof, args))
        if signature not in self._compiled:
            self._compile(signature)
            self._compiled.add(signature)
        return self._dispatcher(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dispatcher, name)

    def _made(self) -> Any:
        if self._folder is None:
            return dispatcher(self.py_func, **self._options)
        before, config.CACHE_DIR = config.CACHE_DIR, str(self._folder)
        try:
            return dispatcher(self.py_func, cache=True, **self._options)
        finally:
            config.CACHE_DIR = before

    def _compile(self, signature: tuple[Any, ...]) -> None:
        """Load or compile; if the cache fails, remove its entries of this function, then do without it."""
        if self._folder is None:
            warn_not_kept("no folder can be written")
        for attempt in ("cached", "emptied", "without"):
            try:
                with shown(), _alone_in(self._folder, self.py_func.__name__), _no_collection():
                    self._dispatcher.compile(signature)
                return
            except numba.NumbaError:
                raise
            except Exception as error:      # whatever `pickle` or LLVM raises for a damaged file, or the disk for a full one
                if attempt == "without" or self._folder is None:
                    raise
                for file in self._folder.rglob(f"*.{self.py_func.__name__}-*"):
                    file.unlink(missing_ok=True)
                if attempt == "emptied":
                    warn_not_kept(str(error))
                    self._folder = None
                self._dispatcher = self._made()


@contextmanager
def _no_collection() -> Iterator[None]:
    """No search for cyclic garbage meanwhile, which takes one second in twenty."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def _alone_in(folder: Path | None, name: str) -> Iterator[None]:
    """While this process compiles a function of this name, or reads what was compiled, no other one does: they share an index."""
    if folder is None or fcntl is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def raise_index_error(cx: Any, b: ir.IRBuilder, message: str) -> None:
    """Nothing: no intrinsic can raise by documented means."""


def masked_load(b: ir.IRBuilder, p: ir.Value, n: ir.Value, v: Any) -> ir.Value:
    """IR of the first n elements at p as a `Vec` of type v, zeros after them: a call of a loop over the lanes."""
    name = f"fastbptt_load_part_{suffix(v)}"
    f = b.module.globals.get(name)
    if f is None:
        element, vt = llvm_float(v.dtype), llvm_vector(v.dtype)
        f = _function(b.module, name, vt, [pointer_to(element), I64])
        _each_lane(f, v, ir.Constant(vt, [0.0] * v.lanes), lambda body, place, k, vector: body.insert_element(
            vector, load(body, place, element, alignment(v.dtype)), k))
    return b.call(f, [p, n])


def masked_store(b: ir.IRBuilder, value: ir.Value, p: ir.Value, n: ir.Value, v: Any) -> None:
    """IR of writing the first n lanes of a value of type v to p: a call of a loop over the lanes."""
    name = f"fastbptt_store_part_{suffix(v)}"
    f = b.module.globals.get(name)
    if f is None:
        f = _function(b.module, name, llvm_vector(v.dtype), [pointer_to(llvm_float(v.dtype)), I64, llvm_vector(v.dtype)])

        def body(b: ir.IRBuilder, place: ir.Value, k: ir.Value, vector: ir.Value) -> ir.Value:
            store(b, b.extract_element(vector, k), place, alignment(v.dtype))
            return vector
        _each_lane(f, v, f.args[2], body)
    b.call(f, [p, n, value])


def _function(module: ir.Module, name: str, result: ir.Type, args: list[ir.Type]) -> ir.Function:
    f = ir.Function(module, ir.FunctionType(result, args), name)
    f.linkage = "linkonce_odr"
    f.attributes.add("noinline")
    f.attributes.add("nounwind")
    return f


def _each_lane(f: ir.Function, v: Any, start: ir.Value, body: Any) -> None:
    """The code of f(p, n, …): vector = body(…, address of element k, k, vector) for k < min(n, lanes); returns the vector."""
    p, n = f.args[:2]
    b = ir.IRBuilder(f.append_basic_block("entry"))
    entry, test, turn, done = b.basic_block, *(f.append_basic_block(name) for name in ("test", "turn", "done"))
    b.branch(test)
    b.position_at_end(test)
    k, vector = b.phi(I64), b.phi(start.type)
    b.cbranch(b.and_(b.icmp_signed("<", k, n), b.icmp_signed("<", k, I64(v.lanes))), turn, done)
    b.position_at_end(turn)
    after = body(b, gep(b, p, [k], llvm_float(v.dtype)), k, vector)
    following = b.add(k, I64(1))
    b.branch(test)
    for phi, first, later in ((k, I64(0), following), (vector, start, after)):
        phi.add_incoming(first, entry)
        phi.add_incoming(later, turn)
    b.position_at_end(done)
    b.ret(vector)
