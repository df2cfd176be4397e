"""safetensors files, by the library of that name: it compares what they claim with what they are before anything is read."""
from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..errors import FileError, check_regular, printable
from .files import replacing

SUFFIX = ".safetensors"
METADATA = "fastbptt"       # the entry of a file's metadata that has our header
DTYPES = {"F64": np.float64, "F32": np.float32, "U32": np.uint32}


def is_safetensors(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a safetensors file."""
    return os.fsdecode(path).lower().endswith(SUFFIX)


def _library() -> Any:
    """The library, or an ImportError that says how to get it."""
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("path: expected the library safetensors to be installed for a .safetensors file, got none; "
                          "install it with: pip install 'fastbptt[interop]', or use a path that ends in .npz") from error
    return safetensors


def write_safetensors(path: str | os.PathLike[str], arrays: dict[str, Array], header: str) -> None:
    """Arrays by their names and a header of JSON, in one piece."""
    data = _library().numpy.save({name: np.ascontiguousarray(a) for name, a in arrays.items()}, {METADATA: header})
    with replacing(path) as file:
        file.write(data)


class Entry(NamedTuple):
    """An array of a file, of which the header alone is read."""

    shape: tuple[int, ...]
    dtype: Any
    """Its name in the file where it is none of DTYPES."""


class Safetensors:
    """The arrays of a file, each read when it is asked for, and its header: what `Npz` is of an npz file."""

    def __init__(self, file: Any):
        self._file = file
        self._metadata = file.metadata() or {}
        self.members = {name: self._entry(name) for name in file.keys()}

    def _entry(self, name: str) -> Entry:
        part = self._file.get_slice(name)
        kind = part.get_dtype()
        return Entry(tuple(part.get_shape()), np.dtype(DTYPES[kind]) if kind in DTYPES else kind)

    def read(self, name: str) -> Array:
        """An array of its own memory."""
        return np.array(self._file.get_tensor(name))

    def read_json(self, name: str) -> dict[str, Any]:
        """The header that `write_safetensors` wrote."""
        if METADATA not in self._metadata:
            raise FileError(f"{name}: expected one in the metadata, got a file of other weights; "
                            "fastbptt.interop.safetensors.read reads those of PyTorch")
        header = json.loads(self._metadata[METADATA])
        if not isinstance(header, dict):
            raise FileError(f"{name}: expected a mapping, got {type(header).__name__}")
        return header


@contextmanager
def open_safetensors(path: str | os.PathLike[str], wanted: str) -> Iterator[Safetensors]:
    """A safetensors file for reading; whatever its bytes make of the block is a FileError that names the file.

    Raises
    ------
    FileError
        A ValueError.
    ImportError
        If the library is not installed.
    OSError
        If the file cannot be opened.
    """
    library = _library()
    check_regular(path)
    with open(path, "rb"):      # the library's error of a file that is not there has no number
        pass
    try:
        with library.safe_open(os.fsdecode(path), framework="numpy") as file:
            yield Safetensors(file)
    except FileError as error:
        raise FileError(f"{os.fsdecode(path)}: {error}") from None
    except Exception as error:
        what = printable(str(error)) or type(error).__name__
        raise FileError(f"{os.fsdecode(path)}: expected {wanted}, got a damaged or foreign file ({what})") from None
