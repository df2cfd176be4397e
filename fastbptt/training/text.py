"""A text file as an array of ids, read on demand."""
from __future__ import annotations

import codecs
import os
import zlib
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import FileError, check_regular
from .sequences import Vocabulary

SPACING = 4096      # characters between two marks: a slice decodes at most this many more than it needs
BLOCK = 2**20       # bytes read at a time


class TextFile:
    """The characters of a UTF-8 file as ids: `len` and slices as of an array; a slice is read from the file on demand.

    One pass over the file finds its characters and the byte offset of every 4,096th of them (8 bytes of memory each); after
    that, a slice reads only its own part. No character is changed: "\\r\\n" stays two.

    Parameters
    ----------
    path : path
        Must not change while it is read.
    vocabulary : Vocabulary, optional
        By default that of the file.

    Attributes
    ----------
    vocabulary : Vocabulary
    checksum : int
        CRC-32 of the bytes, to recognise the same text.

    Raises
    ------
    FileError
        A ValueError: the file is a pipe, is empty, is not UTF-8, or has a character that the vocabulary lacks.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import os, tempfile, fastbptt as fb
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "deep.txt")
    ...     with open(path, "w") as file:
    ...         _ = file.write("deeper")
    ...     text = fb.TextFile(path)
    ...     len(text), text[1:4], text.part(4, 6)[:]
    (6, array([1, 1, 2]), array([1, 3]))
    """

    def __init__(self, path: str | os.PathLike[str], vocabulary: Vocabulary | None = None):
        check_regular(path)     # it is read again and again, from any place
        self.path = os.fspath(path)
        marks, characters, self.checksum = _scan(self.path)
        self._marks = marks
        self._bytes = np.memmap(self.path, np.uint8, "r")
        self._start, self._stop = 0, sum(characters.values())
        if vocabulary is not None and (unknown := sorted(set(characters) - set(vocabulary.characters))):
            raise FileError(f"{self.path}: expected characters of a vocabulary of {len(vocabulary)}, got {unknown[0]!r}; "
                            "make the vocabulary from a text that has it")
        self.vocabulary = Vocabulary("".join(sorted(characters))) if vocabulary is None else vocabulary

    def __getstate__(self) -> dict[str, Any]:
        """The path stands for the bytes: a copy reads the same file."""
        return {name: value for name, value in self.__dict__.items() if name != "_bytes"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        size, expected = os.path.getsize(self.path), int(self._marks[-1])
        if size != expected:
            raise FileError(f"{self.path}: expected the text that was copied, of {expected} bytes, got {size} bytes; "
                            "make a TextFile of the new text")
        self._bytes = np.memmap(self.path, np.uint8, "r")

    def __len__(self) -> int:
        """The number of characters."""
        return self._stop - self._start

    def __getitem__(self, where: slice) -> Array:
        """The ids of a slice without a step."""
        if not isinstance(where, slice) or where.step not in (None, 1):
            raise TypeError(f"where: expected a slice start:stop, got {where!r}")
        start, stop, _ = where.indices(len(self))
        return self.vocabulary.encode(self._text(self._start + start, self._start + max(start, stop)))

    def part(self, start: int, stop: int) -> TextFile:
        """Characters start … stop−1 as a text of their own, such as those held out."""
        other = object.__new__(TextFile)
        other.__dict__.update(self.__dict__)
        first, last, _ = slice(start, stop).indices(len(self))
        other._start, other._stop = self._start + first, self._start + max(first, last)
        return other

    def text(self) -> str:
        """All characters."""
        return self._text(self._start, self._stop)

    def _text(self, start: int, stop: int) -> str:
        first, last = start // SPACING, -(-stop // SPACING)
        text = self._bytes[self._marks[first]:self._marks[last]].tobytes().decode("utf-8")
        return text[start - first * SPACING:stop - first * SPACING]


def _scan(path: str) -> tuple[Array, dict[str, int], int]:
    """(byte of every SPACING-th character and of the end, how often each character occurs, checksum)."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    marks, characters, checksum, offset, count = [], dict[str, int](), 0, 0, 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            begins = np.flatnonzero(np.frombuffer(block, np.uint8) & 0xC0 != 0x80)     # all but continuation bytes
            marks.append(offset + begins[-count % SPACING::SPACING])
            codes = _decoded(decoder, block, path, offset)
            for code, times in zip(*np.unique(codes, return_counts=True), strict=True):
                characters[chr(code)] = characters.get(chr(code), 0) + int(times)
            checksum, offset, count = zlib.crc32(block, checksum), offset + len(block), count + len(begins)
    if count == 0:
        raise FileError(f"{path}: expected at least one character, got an empty file")
    _decoded(decoder, b"", path, offset)
    return np.concatenate([*marks, [offset]]).astype(np.int64), characters, checksum


def _decoded(decoder: Any, block: bytes, path: str, offset: int) -> Array:
    """Code points of a block; at its end, b"", an unfinished character is an error."""
    pending = len(decoder.getstate()[0])
    try:
        text = decoder.decode(block, not block)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise FileError(f"{path}: expected UTF-8, got the byte 0x{byte:02x} at {offset - pending + error.start}; "
                        "convert the file first") from None
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
