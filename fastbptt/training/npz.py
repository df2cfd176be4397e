"""npz files, read without trust: what they claim is compared with what they are before anything is allocated."""
from __future__ import annotations

import io
import json
import math
import os
import struct
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from ..arrays import Array
from ..errors import FileError, check_regular, printable
from .files import replacing

ENCRYPTED = 0x1 | 0x40              # flags of a member
DEFLATE_RATIO = 1032                # bytes that one byte of deflated data can stand for at most
LARGEST_ARRAY_HEADER = 2**16
LARGEST_JSON = 2**26
BLOCK = 2**20
LENGTHS = {(1, 0): "<H", (2, 0): "<I"}      # how the length of an array's header is written, by version


def write_npz(path: str | os.PathLike[str], arrays: dict[str, Any]) -> None:
    """Arrays by their names, in one piece."""
    with replacing(path) as file:
        np.savez(file, **arrays)


@contextmanager
def open_npz(path: str | os.PathLike[str], wanted: str, option: str | None = None) -> Iterator[Npz]:
    """An npz file for reading.

    Whatever its bytes make of the block, and a FileError raised in it, is a FileError that names the file: zipfile, NumPy and
    json raise a dozen kinds of errors on damaged data.

    Parameters
    ----------
    path : path
    wanted : str
        What it should be, for the message.
    option : str, optional
        That named the file, for the message.

    Raises
    ------
    FileError
        A ValueError.
    OSError
        If the file cannot be opened.
    """
    check_regular(path)
    before, after = (f"{os.fspath(path)}: ", "") if option is None else (f"{option}: ", f" in {os.fspath(path)}")
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield Npz(archive, os.fstat(file.fileno()).st_size)
        except FileError as error:
            raise FileError(f"{before}{error}{after}") from None
        except Exception as error:
            what = printable(str(error)) or type(error).__name__
            raise FileError(f"{before}expected {wanted}, got a damaged or foreign file ({what}){after}") from None


class Member(NamedTuple):
    """An array of an archive, of which the header alone is read."""

    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int
    """Bytes before its data."""

    @property
    def size(self) -> int:
        """Bytes of its data."""
        return math.prod(self.shape) * self.dtype.itemsize


class Npz:
    """The arrays of an archive, each read when it is asked for."""

    def __init__(self, archive: zipfile.ZipFile, size: int):
        self._archive = archive
        infos = archive.infolist()
        _check_members(infos, size)
        self.members = {info.filename.removesuffix(".npy"): self._member(info) for info in infos}

    def _member(self, info: zipfile.ZipInfo) -> Member:
        name = printable(info.filename.removesuffix(".npy"))
        with self._archive.open(info) as stream:
            version = npy.read_magic(stream)
            if version not in LENGTHS:
                raise FileError(f"{name}: expected an array of version 1 or 2, got {version}")
            length = stream.read(struct.calcsize(LENGTHS[version]))
            count, = struct.unpack(LENGTHS[version], length)
            if count > LARGEST_ARRAY_HEADER:
                raise FileError(f"{name}: expected a header of at most {LARGEST_ARRAY_HEADER:,} bytes, got {count:,}")
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")         # NumPy's on headers of Python 2
                shape, fortran, dtype = read(io.BytesIO(length + stream.read(count)))
        member = Member(info, shape, dtype, fortran, npy.MAGIC_LEN + len(length) + count)
        given = info.file_size - member.offset
        if min(shape, default=0) < 0 or given != member.size:
            raise FileError(f"{name}: expected {member.size:,} bytes for {shape} of {dtype}, got {given:,}")
        return member

    def describe(self) -> str:
        """Names, shapes and dtypes, for messages."""
        return ", ".join(f"{printable(name)} {m.shape} of {m.dtype}" for name, m in self.members.items()) or "no array"

    def read(self, name: str) -> Array:
        """An array, in C order; its bytes were counted before."""
        member = self.members[name]
        if member.dtype.hasobject:
            raise FileError(f"{name}: expected numbers, got {member.shape} of Python objects")
        try:
            data = np.empty(math.prod(member.shape), member.dtype)
        except MemoryError:
            raise FileError(f"{name}: expected an array that memory holds, got {member.shape} of {member.dtype}, "
                            f"{member.size:,} bytes") from None
        raw, done = data.view(np.uint8), 0
        with self._archive.open(member.info) as stream:
            stream.read(member.offset)
            while block := stream.read(BLOCK):
                raw[done:done + len(block)] = np.frombuffer(block, np.uint8)
                done += len(block)
        if done != member.size:
            raise FileError(f"{name}: expected {member.size:,} bytes, got {done:,}")
        return np.asarray(data.reshape(member.shape, order="F" if member.fortran else "C"), order="C")

    def read_json(self, name: str) -> dict[str, Any]:
        """A header: JSON as an array of bytes."""
        member = self.members[name]
        if member.dtype != np.uint8 or len(member.shape) != 1 or member.size > LARGEST_JSON:
            raise FileError(f"{name}: expected at most {LARGEST_JSON:,} bytes, got {member.shape} of {member.dtype}")
        header = json.loads(self.read(name).tobytes())
        if not isinstance(header, dict):
            raise FileError(f"{name}: expected a JSON object, got {type(header).__name__}")
        return header


def _check_members(infos: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse names that occur twice, members that are no arrays or encrypted, and more data than `size` bytes can hold."""
    seen = set()
    for info in infos:
        name = printable(info.filename)
        if info.filename in seen:
            raise FileError(f"expected every array once, got {name} twice")
        seen.add(info.filename)
        if not info.filename.endswith(".npy"):
            raise FileError(f"expected arrays (.npy), got {name}")
        if info.flag_bits & ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FileError(f"{name}: expected an array stored or deflated, got one encrypted or packed in another way")
        ratio = 1 if info.compress_type == zipfile.ZIP_STORED else DEFLATE_RATIO
        if info.file_size > ratio * info.compress_size:
            raise FileError(f"{name}: expected at most {ratio * info.compress_size:,} bytes from {info.compress_size:,}, "
                            f"got {info.file_size:,}")
    if (total := sum(info.compress_size for info in infos)) > size:
        raise FileError(f"expected at most {size:,} bytes of arrays in a file of as many, got {total:,}")
