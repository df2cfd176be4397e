"""Files that are written in one piece: complete under their names, or not there."""
from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO
from uuid import uuid4

from ..errors import check_regular

TEMPORARY = ".fastbptt-{}.tmp"      # short, however long the name of the file is
ABANDONED = 3600.0                  # seconds after which nobody writes to a temporary file any more


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write to, that gets its name when the block ends well: flushed to the disk, then renamed.

    A symbolic link stays, and what it leads to is replaced; a file that was there leaves its permissions. An error, a full disk
    or Ctrl-C leaves the old file as it was and nothing beside it.

    Raises
    ------
    FileError
        A ValueError: the path is that of a pipe or a device.
    OSError
        If the file cannot be written; its `filename` is `path`.
    """
    check_regular(path)
    whole = Path(os.path.realpath(path))
    _tidy(whole.parent)
    temporary = whole.with_name(TEMPORARY.format(uuid4().hex[:16]))     # unlike those of tempfile, with the user's umask
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if whole.exists():
            shutil.copymode(whole, temporary)
        os.replace(temporary, whole)
    except OSError as error:
        if error.errno is None or error.filename not in (None, os.fspath(temporary)):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    finally:
        with suppress(OSError):
            temporary.unlink()


@lru_cache(maxsize=64)
def _tidy(folder: Path) -> None:
    """Once for a folder and process: remove what killed processes left there."""
    remove_temporary(folder, ABANDONED)


def remove_temporary(folder: Path, older: float = 0.0) -> None:
    """Remove temporary files of `replacing` in a folder that nobody has written to for `older` seconds."""
    with suppress(OSError):
        for path in folder.glob(TEMPORARY.format("*")):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime >= older:
                    path.unlink()
