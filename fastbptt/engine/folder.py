"""The folders in which compiled kernels are kept between processes.

Numba's own cache is keyed by one file and its time stamp, blind to edits in the files it imports from; ours lies in a folder
named by a hash of all sources that Numba compiles and of what else affects the code: versions, vector width, bounds checking.
"""
from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

import llvmlite
import numba
from numba import config

from . import cpu

PACKAGE = Path(__file__).resolve().parents[1]
COMPILED = ("arrays.py", "engine", "cells", "bptt/kernels.py")     # the folders and files of code for Numba
KEPT_CACHES = 8      # folders of other versions or settings that stay: two checkouts in all widths and modes


def is_compiled(path: Path) -> bool:
    """Whether a file, by its path inside the package, holds code for Numba."""
    return any(path.is_relative_to(part) for part in COMPILED)


def source_hash(mode: str) -> str:
    """A hash of all sources that Numba compiles and of what else changes the generated code; `mode` is "fast" or "plain"."""
    digest = hashlib.sha256(repr((mode, numba.__version__, llvmlite.__version__, sys.implementation.cache_tag, cpu.BITS,
                                  cpu.REGISTERS, config.BOUNDSCHECK, config.OPT)).encode())
    for path in sorted(p for p in PACKAGE.rglob("*.py") if is_compiled(p.relative_to(PACKAGE))):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class Folders(NamedTuple):
    """Where kernels are looked for, in this order, and where new ones go: one of those, or None."""

    read: tuple[Path, ...]
    write: Path | None


def cache_roots() -> list[Path]:
    """Where compiled kernels may live, best first: NUMBA_CACHE_DIR alone if set, else the package, else the user's cache.

    All are absolute, so they do not depend on the working directory. A user without a home has no cache of their own.
    """
    if config.CACHE_DIR:
        return [Path(config.CACHE_DIR).absolute() / "fastbptt"]
    user = [Path(os.environ.get("XDG_CACHE_HOME", "")), Path(os.path.expanduser("~")) / ".cache"]
    return [PACKAGE / "__pycache__" / "kernels", *[p / "fastbptt" for p in user if p.is_absolute()][:1]]


def open_folders(mode: str) -> Folders:
    """The folders of this version's kernels; the one for new kernels is created if needed."""
    name = source_hash(mode)
    roots = cache_roots()
    write = next((root for root in roots if _writable(root / name)), None)
    if write is not None:
        _drop_old(write, keep=name)
    return Folders(tuple(root / name for root in roots if (root / name).is_dir()), None if write is None else write / name)


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _drop_old(root: Path, keep: str) -> None:
    """Remove the folders of earlier sources, so that development does not fill the disk."""
    try:
        old = sorted((p for p in root.iterdir() if p.is_dir() and p.name != keep), key=lambda p: p.stat().st_mtime)
    except OSError:
        return
    for folder in old[:-KEPT_CACHES]:
        shutil.rmtree(folder, ignore_errors=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: others that read or write it at the same time see all of the old or all of the new one.

    Raises OSError if the disk is full or read-only. The folder is created if it is gone: another process may have taken it
    for an old one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o666 & ~_UMASK)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    now = os.umask(0o022)
    os.umask(now)
    return now


_UMASK = _umask()      # mkstemp makes files private; a shared cache must be readable by others
_warned = False


def warn_not_kept(why: str) -> None:
    """Say, once in a process, that compiled kernels cannot be kept."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"fastbptt: compiled kernels cannot be kept ({why}); every process will compile anew what it does not "
                      "find. Set NUMBA_CACHE_DIR to a writable folder.", RuntimeWarning, stacklevel=2)
