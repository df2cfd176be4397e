"""The data of a run: nine tenths to train on, the last tenth held out."""
from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FileError, check_file_numbers, shape_text
from ..training.npz import Npz, open_npz
from ..training.sequences import Vocabulary
from ..training.text import TextFile

ALWAYS = 2**16      # ids may be below this, or below the number of steps: more would be a slip, and a model of that size
WANTED = "an npz file with integer ids (N,), or with x (N, I) and y"


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
    with open_npz(path, WANTED) as archive:
        _check_sequence(archive)
        raw = {name: archive.read(name) for name in archive.members}
        most = max(ALWAYS, *[len(array) for array in raw.values()])
        arrays = {name: check_file_numbers(name, array, np.dtype(np.float32), most) for name, array in raw.items()}
    checksum = 0
    for name in sorted(raw):
        checksum = zlib.crc32(raw[name].data, checksum)
    steps = len(next(iter(arrays.values())))
    kept = _kept(steps, path)
    if "ids" in arrays:
        ids = arrays["ids"]
        size = int(ids.max()) + 1
        return Data(ids[:kept], ids[kept:], size, size, "softmax_cross_entropy", None, checksum, steps)
    x, y = arrays["x"], arrays["y"]
    loss, outputs = ("softmax_cross_entropy", int(y.max()) + 1) if y.ndim == 1 else ("squared_error", y.shape[1])
    return Data((x[:kept], y[:kept]), (x[kept:], y[kept:]), x.shape[1], outputs, loss, None, checksum, steps)


def _check_sequence(archive: Npz) -> None:
    """Names, ranks, kinds and lengths of one sequence, by the headers of its arrays alone."""
    kinds = {name: (len(m.shape), m.dtype.kind.replace("u", "i")) for name, m in archive.members.items()}
    if kinds == {"ids": (1, "i")}:
        return
    if set(kinds) != {"x", "y"} or kinds["x"] != (2, "f"):
        raise FileError(f"expected {WANTED}, got {archive.describe()}")
    y = archive.members["y"]
    if kinds["y"] not in ((1, "i"), (2, "f")):
        raise FileError(f"expected y (N,) of integers or (N, O) of reals, got {shape_text(y.shape)} of {y.dtype}")
    check_same_steps(archive)
    if 0 in (*archive.members["x"].shape, *y.shape):
        raise FileError(f"expected at least one step, input and output, got {archive.describe()}")


def check_same_steps(archive: Npz) -> None:
    """x and y of as many steps."""
    if archive.members["x"].shape[:1] != archive.members["y"].shape[:1]:
        raise FileError(f"expected x and y of as many steps, got {archive.describe()}")
