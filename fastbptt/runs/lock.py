"""One run at a time writes to a folder."""
from __future__ import annotations

import json
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import FileError

try:
    import fcntl
except ModuleNotFoundError:         # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "run.lock"


class FolderLock:
    """A lock on a folder, from now until `release` or the end of the process, however it ends.

    It is a lock of the operating system on a file that says who holds it; a file that a killed process left locks nothing.
    Without such locks (Windows, some network folders) nothing is held.

    Raises
    ------
    FileError
        A ValueError: another run holds it; the message says which process.
    OSError
        If the folder cannot be written.
    """

    def __init__(self, folder: Path, option: str):
        self._path = folder / LOCK
        self._file: Any = None
        while fcntl is not None and self._file is None:
            file = open(self._path, "a+")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(file)
                file.close()
                raise FileError(f"{option}: expected a folder that no other run writes to, got {folder}, held by {holder}; "
                                "wait for it, stop it, or choose another") from None
            except OSError:         # a folder of a kind that has no locks
                file.close()
                self._path.unlink(missing_ok=True)
                return
            if self._still_there(file):
                self._file = file
            else:                   # its holder removed it between `open` and `flock`
                file.close()
        if self._file is not None:
            self._file.truncate(0)
            self._file.write(json.dumps({"process": os.getpid(), "machine": platform.node()}))
            self._file.flush()

    def _still_there(self, file: Any) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), os.stat(self._path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let others write; may be called again."""
        if self._file is not None:
            with suppress(OSError):
                self._path.unlink()
            self._file.close()
            self._file = None


def _holder(file: Any) -> str:
    """Who holds a lock, as its file says."""
    file.seek(0)
    try:
        found = json.loads(file.read(4096))
        return f"process {int(found['process'])} on {ascii(str(found['machine']))}"
    except (ValueError, KeyError, TypeError):
        return "another process"
