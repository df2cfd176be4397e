"""Compiled kernels on disk: one file for each kernel and signature.

Numba's own cache keeps an index for each function, which two processes may overwrite for each other, and raises whatever a
damaged file makes `pickle` raise. Here files are written atomically, and a damaged one counts as missing. Done without it
(`plain`): Numba's cache, used by one process at a time.
"""
from __future__ import annotations

import hashlib
import pickle
import zlib
from pathlib import Path
from typing import Any

from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from ..folder import Folders, warn_not_kept, write_whole
from . import codegen_units

MAGIC = b"fastbptt kernel 2\n"


class KernelCache:
    """What a dispatcher asks for compiled code, in place of Numba's `FunctionCache`.

    `found` counts what was read; `refused` says that something could not be kept.
    """

    def __init__(self, function: Any, folders: Folders):
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}-{function.__code__.co_firstlineno}"
        closure = [cell.cell_contents for cell in function.__closure__ or ()]
        self._code = hashlib.sha256(function.__code__.co_code + dumps(closure)).hexdigest()
        self._folders, self.found, self.refused = folders, 0, False
        self.cache_path = str(folders.write or folders.read[0]) if folders.read else None

    def _key(self, signature: Any, codegen: Any) -> tuple[Any, ...]:
        return signature, codegen.magic_tuple(), self._code

    def _file(self, key: tuple[Any, ...]) -> str:
        return f"{self._name}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.nbc"

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """The compiled code from the first folder that has it undamaged, or None."""
        target_context.refresh()
        key = self._key(signature, target_context.codegen())
        for folder in self._folders.read:
            if (payload := _read(folder / self._file(key))) is not None:
                try:
                    stored, codes, code = pickle.loads(payload)
                    if stored == key:
                        codegen_units.load(codes, target_context.codegen())
                        compiled = CompileResult._rebuild(target_context, *code)
                        self.found += 1
                        return compiled
                except Exception:      # of whatever kind: an entry that cannot be used is compiled anew and replaced
                    continue
        return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep compiled code; if that is not possible, warn once."""
        if compiled.library.has_dynamic_globals:      # addresses of this process, as NUMBA_OPT=0 leaves them in the code
            self.refused = True
            return
        if self._folders.write is None:
            warn_not_kept("no folder can be written")
            return
        key = self._key(signature, compiled.codegen)
        payload = dumps((key, compiled.library.units, compiled._reduce()))
        try:
            write_whole(self._folders.write / self._file(key), MAGIC + zlib.crc32(payload).to_bytes(4, "little") + payload)
        except OSError as error:
            warn_not_kept(str(error))

    def flush(self) -> None:
        """Nothing: Numba's `recompile` asks to remove all entries of the function, but new ones replace them."""


def _read(path: Path) -> bytes | None:
    """The payload of an undamaged file, or None."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    at = len(MAGIC) + 4
    whole = content[:len(MAGIC)] == MAGIC and content[len(MAGIC):at] == zlib.crc32(content[at:]).to_bytes(4, "little")
    return content[at:] if whole else None


def attach(dispatcher: Any, folders: Folders) -> None:
    """Have a dispatcher keep its compiled code in these folders."""
    dispatcher._cache = KernelCache(dispatcher.py_func, folders)
