"""A run on disk: everything needed to continue it bit for bit."""
from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..errors import FileError, check_integer, check_truncation
from ..training.model import SequenceModel
from ..training.npz import open_npz, write_npz
from ..tree import leaves, tree_map
from .settings import Settings

CHECKPOINT = "checkpoint.npz"
FORMAT, VERSION = "fastbptt-run", 1
WANTED = "a checkpoint of fastbptt train"


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
    write_npz(path, {"header": np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays})


def load_header(path: Path) -> tuple[Settings, int, Progress]:
    """Settings, checksum of the data, and progress.

    Raises
    ------
    FileError
        If the file is no checkpoint of this version, or damaged.
    OSError
        If it cannot be read.
    """
    with open_npz(path, WANTED) as archive:
        header = archive.read_json("header")
        if header.pop("format") != FORMAT or header.pop("version") != VERSION:
            raise ValueError("of another format or version")
        settings, checksum = Settings(**header.pop("settings")), int(header.pop("checksum"))
        lists = {name: tuple(value) for name, value in header.items() if isinstance(value, list)}      # of JSON
        return settings, checksum, _checked(Progress(**{**header, **lists}))


def check_shapes(path: Path, model: SequenceModel) -> None:
    """Refuse arrays of other shapes than the model's by their headers alone, before any are made."""
    H, O = model.cell.hidden_size, model.output_size  # noqa: E741
    with open_npz(path, WANTED) as archive:
        for k, shape in enumerate([*model.cell.shapes.values(), (O, H), (O,)]):
            if (found := archive.members[f"params.{k}"].shape) != shape:
                raise FileError(f"params.{k}: expected {shape} for the settings of the run, got {found}")


def load_trees(path: Path, like: Trees) -> Trees:
    """The arrays, of the shapes and dtypes of `like`."""
    wanted = dict(_named(like))
    with open_npz(path, WANTED) as archive:
        if set(archive.members) != {"header", *wanted}:
            raise FileError(f"expected the arrays of the settings of the run, got {archive.describe()}")
        for name, array in wanted.items():
            member = archive.members[name]
            if (member.shape, member.dtype) != (array.shape, array.dtype):
                raise FileError(f"{name}: expected {array.shape} of {array.dtype}, got {member.shape} of {member.dtype}")
        values = iter([archive.read(name) for name in wanted])
        restored: Trees = tree_map(lambda _: next(values), like)
        return restored


def _checked(progress: Progress) -> Progress:
    """Refuse numbers of other kinds or ranges than a run writes, before any is used."""
    (epoch, step), (updates, loss, norm) = progress.position, progress.metrics["pending"]
    best, value = progress.best or (0, 0.0)
    for count in (progress.number, epoch, step, progress.evaluated, progress.metrics["bytes"], updates, best):
        check_integer("header", count, 0, "no run writes this")
    if not all(isinstance(number, int | float) for number in (progress.seconds, loss, norm, value)):
        raise ValueError("header: expected numbers")
    check_truncation(*(progress.truncation or (1, 1)))
    return progress


def _named(trees: Trees) -> list[tuple[str, Array]]:
    """Every array with a name: that of its tree, and its index in it."""
    return [(f"{name}.{k}", np.asarray(array)) for name, tree in trees._asdict().items() for k, array in enumerate(leaves(tree))]
