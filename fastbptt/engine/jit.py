"""The one policy by which kernels are compiled: flags, the pipeline, the cache on disk.

`njit` compiles a building block (no cache of its own: it becomes part of its callers), `kernel` an entry point that Python
calls, cached on disk. Numba's own cache is keyed by one file and its time stamp, blind to edits in the files it imports
from; ours lives in a folder named by a hash of all sources that Numba compiles and of what else decides the code: the
vector width and bounds checking.
"""
from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import config, extending

from . import cpu
from .compat import cache, compiler

PACKAGE = Path(__file__).resolve().parents[1]
COMPILED = ("arrays.py", "engine", "cells", "bptt/kernels.py")     # the rooms and files that hold what Numba compiles
KEPT_CACHES = 4      # folders of other versions or settings that stay: two checkouts' worth of wide and narrow lanes
# No fast-math flag: results then depend neither on what LLVM chose to fuse nor on scalar or vector form, and NaN survives.
_FLAGS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def is_compiled(path: Path) -> bool:
    """Whether Numba compiles what a file holds; its path inside the package."""
    return any(path.is_relative_to(part) for part in COMPILED)


def source_hash() -> str:
    """A hash of all sources that Numba compiles and of the settings that change the generated code."""
    digest = hashlib.sha256(f"{numba.__version__} {cpu.BITS} {cpu.REGISTERS} {config.BOUNDSCHECK}".encode())
    for path in sorted(p for p in PACKAGE.rglob("*.py") if is_compiled(p.relative_to(PACKAGE))):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _cache_roots() -> list[Path]:
    """Where compiled kernels may live, best first: NUMBA_CACHE_DIR alone if set, else the package, else the user cache."""
    if config.CACHE_DIR:
        return [Path(config.CACHE_DIR) / "fastbptt"]
    user = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return [PACKAGE / "__pycache__" / "kernels", Path(user) / "fastbptt"]


def _open_cache() -> Path | None:
    """The folder of this version's kernels, made if need be; None (and one warning) where no folder can be written."""
    name = source_hash()
    for root in _cache_roots():
        if _writable(root / name):
            _drop_old(root, keep=name)
            return root / name
    warnings.warn(
        f"fastbptt: no folder for compiled kernels can be written ({', '.join(map(str, _cache_roots()))}); every process will "
        "compile anew. Set NUMBA_CACHE_DIR to a writable folder.", RuntimeWarning, stacklevel=2)
    return None


def _drop_old(root: Path, keep: str) -> None:
    """Remove the folders of earlier sources, so that development does not fill the disk."""
    try:
        old = sorted((p for p in root.iterdir() if p.is_dir() and p.name != keep), key=lambda p: p.stat().st_mtime)
    except OSError:
        return
    for folder in old[:-KEPT_CACHES]:
        shutil.rmtree(folder, ignore_errors=True)


CACHE_DIR = _open_cache()


def njit(function: Callable[..., Any] | None = None, *, allocates: bool = False, python: bool = False,
         forceinline: bool = False) -> Any:
    """A building block, callable from kernels and from any @njit code; with `python` from Python as well.

    A block does not count references to its arrays: its caller holds them. Counting is an atomic operation for every
    array that is taken out of a tuple, a third of the time of a small scan. Only a block that `allocates`, or calls one
    that does, counts; an array that it makes lives at least until its last mention there. What it is given by a block
    that does not count it would release once too often: such a block returns arrays only to its like.
    """
    def decorate(f: Callable[..., Any]) -> Any:
        return compiler.block(f, _FLAGS, allocates=allocates, python=python, forceinline=forceinline)
    return decorate if function is None else decorate(function)


def overload(function: Callable[..., Any], *, allocates: bool = False, prefer_literal: bool = False) -> Any:
    """`numba.extending.overload` whose implementations are building blocks, inlined into the one place that calls each."""
    options = compiler.overload_options(_FLAGS, allocates=allocates)
    return extending.overload(function, prefer_literal=prefer_literal, jit_options=options)


def kernel(function: Callable[..., Any] | None = None, *, allocates: bool = True) -> Any:
    """An entry point that Python calls: `njit` with the cache on disk. One that neither makes nor returns arrays says so."""
    def decorate(f: Callable[..., Any]) -> Any:
        dispatcher = compiler.kernel(f, _FLAGS, allocates=allocates)
        if CACHE_DIR is not None:
            cache.attach(dispatcher, CACHE_DIR)
        KERNELS.append(dispatcher)
        return dispatcher
    return decorate if function is None else decorate(function)


KERNELS: list[Any] = []
"""Every entry point, for `fastbptt info` and the tests of the cache."""
