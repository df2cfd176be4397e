"""The data of a run: nine tenths to train on, the last tenth held out."""
from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FileError
from ..training.sequences import Vocabulary
from ..training.text import TextFile


@dataclass(frozen=True)
class Data:
    """Two sources of streams, and what a model of them needs."""

    train: Any
    held_out: Any
    inputs: int
    outputs: int
    loss: str
    vocabulary: Vocabulary | None
    checksum: int
    steps: int

    @property
    def unit(self) -> str:
        """What a loss is given in."""
        if self.loss != "softmax_cross_entropy":
            return "squared error per step"
        return "bits per step" if self.vocabulary is None else "bits per character"

    def scaled(self, loss: float) -> float:
        """A loss in that unit."""
        return loss / float(np.log(2)) if self.loss == "softmax_cross_entropy" else loss


def read(kind: str, path: str) -> Data:
    """A text file, or an npz file with `ids`, or with `x` and `y`."""
    return _text(path) if kind == "text" else _npz(path)


def _kept(steps: int, path: str) -> int:
    if steps < 20:
        raise FileError(f"{path}: expected at least 20 steps, the last tenth to be held out, got {steps}")
    return steps - steps // 10


def _text(path: str) -> Data:
    text = TextFile(path)
    size = len(text.vocabulary)
    if size < 2:
        raise FileError(f"{path}: expected at least two different characters, got {text.vocabulary.characters!r} alone")
    kept = _kept(len(text), path)
    return Data(text.part(0, kept), text.part(kept, len(text)), size, size, "softmax_cross_entropy", text.vocabulary,
                text.checksum, len(text))


def _npz(path: str) -> Data:
    wanted = "an npz file with integer ids (N,), or with x (N, I) and y"
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, ValueError, TypeError, EOFError, AttributeError, zlib.error) as error:
        raise FileError(f"{path}: expected {wanted}, got something else ({error})") from None
    checksum = 0
    for name in sorted(arrays):
        checksum = zlib.crc32(np.ascontiguousarray(arrays[name]).tobytes(), checksum)
    for name, array in arrays.items():
        bad = array < 0 if array.dtype.kind == "i" and (name == "ids" or array.ndim == 1) else ~np.isfinite(array) \
            if array.dtype.kind == "f" else np.zeros(0, bool)
        if bad.any():
            raise FileError(f"{path}: expected {'ids from 0' if array.dtype.kind == 'i' else 'finite numbers'}, got "
                            f"{array[bad][0]} in {name}, first at {np.argwhere(bad)[0].tolist()}")
    if set(arrays) == {"ids"} and arrays["ids"].ndim == 1 and arrays["ids"].dtype.kind in "iu":
        ids, kept = arrays["ids"], _kept(len(arrays["ids"]), path)
        size = int(ids.max()) + 1
        return Data(ids[:kept], ids[kept:], size, size, "softmax_cross_entropy", None, checksum, len(ids))
    x, y = (arrays.get(name, np.zeros(0)) for name in ("x", "y"))
    if set(arrays) != {"x", "y"} or x.ndim != 2 or x.dtype.kind != "f" or len(x) != len(y):
        raise FileError(f"{path}: expected {wanted}, got "
                        + (", ".join(f"{name} {a.shape} of {a.dtype}" for name, a in arrays.items()) or "no array"))
    x, kept = x.astype(np.float32), _kept(len(x), path)
    ids = y.dtype.kind in "iu"
    if y.ndim != (1 if ids else 2):
        raise FileError(f"{path}: expected y (N,) of integers or (N, O) of reals, got {y.shape} of {y.dtype}")
    y = y if ids else y.astype(np.float32)
    return Data((x[:kept], y[:kept]), (x[kept:], y[kept:]), x.shape[1], int(y.max()) + 1 if ids else y.shape[1],
                "softmax_cross_entropy" if ids else "squared_error", None, checksum, len(x))
