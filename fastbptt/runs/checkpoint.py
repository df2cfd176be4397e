"""A run on disk: everything needed to continue it bit for bit."""
from __future__ import annotations

import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..errors import FileError
from ..training.storage import DAMAGED, write_arrays
from ..tree import leaves, tree_map
from .settings import Settings

CHECKPOINT = "checkpoint.npz"
FORMAT, VERSION = "fastbptt-run", 1


class Progress(NamedTuple):
    """How far a run has come, apart from its arrays. All random draws follow from the seed and the number of the update."""

    number: int
    """Updates done."""
    position: tuple[int, int]
    """Of the stream."""
    seconds: float
    truncation: tuple[int, int] | None
    """(horizon, stride) in use, such as "auto" measured."""
    metrics: dict[str, Any]
    """Of `Metrics.kept`."""
    evaluated: int = 0
    """The update of the last evaluation."""
    best: tuple[int, float] | None = None
    """The update after which the held-out tenth was predicted best, and how well."""


class Trees(NamedTuple):
    """The arrays of a run."""

    params: Any
    opt_state: Any
    state: Any
    """The State that the next window begins with."""


def save(path: Path, settings: Settings, checksum: int, progress: Progress, trees: Trees) -> None:
    """Write a checkpoint atomically."""
    header = {"format": FORMAT, "version": VERSION, "settings": asdict(settings), "checksum": checksum, **progress._asdict()}
    arrays = {name: array for name, array in _named(trees)}
    write_arrays(path, {"header": np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays})


def load_header(path: Path) -> tuple[Settings, int, Progress]:
    """Settings, checksum of the data, and progress.

    Raises
    ------
    FileError
        If the file is no checkpoint of this version, or damaged.
    OSError
        If it cannot be read.
    """
    def read(archive: Any) -> tuple[Settings, int, Progress]:
        header = json.loads(archive["header"].tobytes())
        if header.pop("format") != FORMAT or header.pop("version") != VERSION:
            raise ValueError("of another format or version")
        settings, checksum = Settings(**header.pop("settings")), int(header.pop("checksum"))
        return settings, checksum, Progress(**header)
    settings, checksum, progress = _read(path, read)
    lists = {name: value for name, value in progress._asdict().items() if isinstance(value, list)}      # of JSON
    return settings, checksum, progress._replace(**{name: tuple(value) for name, value in lists.items()})


def load_trees(path: Path, like: Trees) -> Trees:
    """The arrays, of the shapes and dtypes of `like`."""
    def read(archive: Any) -> Trees:
        found = {}
        for name, wanted in _named(like):
            found[name] = array = archive[name]
            if array.shape != wanted.shape or array.dtype != wanted.dtype:
                raise ValueError(f"{name}: {array.shape} of {array.dtype} in place of {wanted.shape} of {wanted.dtype}")
        values = iter(found.values())
        restored: Trees = tree_map(lambda _: next(values), like)
        return restored
    return _read(path, read)      # type: ignore[no-any-return]


def _named(trees: Trees) -> list[tuple[str, Array]]:
    """Every array with a name: that of its tree, and its index in it."""
    return [(f"{name}.{k}", np.asarray(array)) for name, tree in trees._asdict().items() for k, array in enumerate(leaves(tree))]


def _read(path: Path, read: Any) -> Any:
    with open(path, "rb") as file:
        try:
            if not zipfile.is_zipfile(file):
                raise ValueError("no zip archive")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return read(archive)
        except DAMAGED as error:
            raise FileError(f"{path}: expected a checkpoint of fastbptt train, got a damaged or foreign file ({error})") from None
