"""How kernels are compiled: the flags, and where compiled code is kept.

`njit` compiles a building block (no cache of its own: it becomes part of its callers), `kernel` an entry point that Python
calls, cached on disk (`folder.py`).
"""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import extending

from .compat import FOLDERS, compiler
from .folder import is_compiled

__all__ = ["CACHE_DIR", "KERNELS", "is_compiled", "jitable", "kernel", "njit", "overload"]

# No fast-math flag: results then depend neither on what LLVM chose to fuse nor on scalar or vector form, and NaN survives.
_FLAGS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
CACHE_DIR: Path | None = FOLDERS.write or next(iter(FOLDERS.read), None)
"""The folder of compiled kernels, or None where there is none."""


def njit(function: Callable[..., Any] | None = None, *, allocates: bool = False, python: bool = False,
         forceinline: bool = False, once: bool = False) -> Any:
    """A building block, callable from kernels and from any @njit code; with `python` from Python as well.

    A block does not count references to its arrays: its caller holds them. Counting is an atomic operation for every
    array that is taken out of a tuple, a third of the time of a small scan. Only a block that `allocates`, or calls one
    that does, counts; an array that it makes lives at least until its last use there. A block that counts would release an
    array once too often if it got it from one that does not: the latter may return arrays only to blocks that do not count.

    `once` marks a large block that is called from one place: under FASTBPTT_PLAIN=1 it is inlined there, or Numba would compile
    all that it calls once more for it.
    """
    def decorate(f: Callable[..., Any]) -> Any:
        return compiler.block(f, _FLAGS, allocates=allocates, python=python, forceinline=forceinline, once=once)
    return decorate if function is None else decorate(function)


def overload(function: Callable[..., Any], *, allocates: bool = False, prefer_literal: bool = False) -> Any:
    """`numba.extending.overload` whose implementations are building blocks, inlined into what calls them.

    `function.implementation` is what chooses one, for those who compile it for something else.
    """
    options = compiler.overload_options(_FLAGS, allocates=allocates)
    register = extending.overload(function, prefer_literal=prefer_literal, jit_options=options)

    def decorate(implementation: Callable[..., Any]) -> Any:
        function.implementation = implementation        # type: ignore[attr-defined]
        return register(implementation)
    return decorate


def jitable(function: Callable[..., Any]) -> Any:
    """A plain Python function that building blocks may call too: Python plans by the same rules as the kernels."""
    options = compiler.overload_options(_FLAGS, allocates=False)
    extending.overload(function, jit_options=options, strict=False)(lambda *args: function)
    return function


def kernel(function: Callable[..., Any] | None = None, *, allocates: bool = True) -> Any:
    """An entry point that Python calls: `njit` with the cache on disk. `allocates=False`: it neither makes nor returns arrays."""
    def decorate(f: Callable[..., Any]) -> Any:
        dispatcher = compiler.kernel(f, _FLAGS, FOLDERS, allocates=allocates)
        KERNELS.append(dispatcher)
        return dispatcher
    return decorate if function is None else decorate(function)


KERNELS: list[Any] = []
"""Every entry point, for `fastbptt info` and the tests of the cache."""
