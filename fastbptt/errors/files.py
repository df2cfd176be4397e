"""Files, and what is read from them."""
from __future__ import annotations

import os
import stat
from typing import Any

import numpy as np

from .arrays import READABLE_KINDS, shape_text


class FileError(ValueError):
    """A file that is not what it should be."""


def printable(text: str, most: int = 200) -> str:
    """A text for the terminal, of `most` characters: what does not print, such as escape sequences, is written as its code."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:most])
    return shown + " …" if len(text) > most else shown


def check_regular(path: Any) -> None:
    """Refuse pipes and devices: some never end, none can be read twice or replaced. What is not there is left to `open`."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        kind = "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        raise FileError(f"{os.fspath(path)}: expected a file on a disk, got a {kind}; write it to a file first")


def check_file_numbers(name: str, array: np.ndarray[Any, Any], dtype: np.dtype[Any], ids: int) -> np.ndarray[Any, Any]:
    """Data of a file: finite numbers that `dtype` holds, in that dtype; or integers 0 … ids − 1."""
    if array.dtype.kind not in READABLE_KINDS:
        raise FileError(f"{name}: expected real numbers or ids, got {shape_text(array.shape)} of {array.dtype}")
    if array.dtype.kind == "f":
        bad = ~(np.abs(array) <= np.finfo(dtype).max)
        expected, converted = f"finite numbers that {dtype} holds", dtype
    else:
        bad = (array < 0) | (array >= ids)
        expected, converted = f"ids from 0 to {ids - 1:,}", array.dtype
    if bad.any():
        at = np.argwhere(bad)[0]
        raise FileError(f"expected {expected}, got {array[tuple(at)]} in {name}, first at {at.tolist()}")
    return array.astype(converted, copy=False)
