"""Runs begun, and gone on with at their last checkpoint."""
from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ..bptt.truncation import Truncation
from ..errors import FileError, check_state
from ..training.files import remove_temporary
from ..training.model import SequenceModel
from ..training.stream import stream
from ..training.workers import Workers
from . import checkpoint
from .agreement import check_same, on_all
from .checkpoint import CHECKPOINT, Progress, Trees
from .data import Data, read
from .lock import FolderLock
from .metrics import Metrics, NoMetrics
from .settings import Settings
from .train import Run


def begin(settings: Settings, folder: Path, save_every: float, workers: Workers | None = None) -> Run:
    """A new run, which holds its folder until `release`. The folder is made; one that has a checkpoint is refused.

    Of several workers the first has the folder; each reads the data.
    """
    first, size = (True, 1) if workers is None else (workers.rank == 0, workers.size)
    settings = replace(settings, workers=size)

    def prepared() -> tuple[Data, SequenceModel, Trees]:
        if first:
            _check_unused(folder)
        data = read(settings.kind, settings.source)
        model = settings.model(data.inputs, data.outputs, data.loss)
        stream(data.train, settings.batch, settings.window, shard=(0, size))     # refuses data that are too short for the batch
        return data, model, _initial(settings, model)

    def opened() -> tuple[Metrics, FolderLock | None]:
        if not first:
            return NoMetrics(), None
        folder.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(folder, "--out")
        try:
            _check_unused(folder)       # by another run since
            remove_temporary(folder)
            return Metrics(folder), lock
        except BaseException:
            lock.release()
            raise

    data, model, trees = on_all(workers, prepared)
    check_same(workers, _facts(settings, data))
    progress = Progress(0, (0, 0), 0.0, _pair(settings.truncation()), {})
    metrics, lock = on_all(workers, opened)
    return Run(settings, data, model, folder, progress, trees, metrics, save_every, lock, workers)


def _check_unused(folder: Path) -> None:
    if (folder / CHECKPOINT).exists():
        raise FileError(f"--out: expected a folder without a checkpoint, got {folder}; go on with --resume {folder}, "
                        "or choose another")


def resume(folder: Path, save_every: float, epochs: int | None = None, seconds: float | None = None,
           source: tuple[str, str] | None = None, workers: Workers | None = None) -> Run:
    """The run of a folder, at its last checkpoint; with other ends than it began with, if any is given.

    `source`: kind and path of its data where they have moved; they must be the same to the byte. Of several workers, as many as
    it began with, the first has the folder.
    """
    first = workers is None or workers.rank == 0

    def opened() -> FolderLock | None:
        if not first:
            return None
        if not (folder / CHECKPOINT).exists():
            raise FileError(f"--resume: expected a folder with {CHECKPOINT}, got {folder}")
        return FolderLock(folder, "--resume")

    lock = on_all(workers, opened)
    try:
        if first:
            remove_temporary(folder)
        with _checkpoint_of_first(folder / CHECKPOINT, workers) as path:
            run = on_all(workers, lambda: _resumed(path, folder, save_every, epochs, seconds, source, lock, workers))
        check_same(workers, _facts(run.settings, run.data))
        return run
    except BaseException:
        if lock is not None:
            lock.release()
        raise


@contextmanager
def _checkpoint_of_first(path: Path, workers: Workers | None) -> Iterator[Path]:
    """The checkpoint; on the other workers, whose machines may not have it, a copy."""
    if workers is None:
        yield path
        return
    data = workers.first(path.read_bytes() if workers.rank == 0 else b"")
    if workers.rank == 0:
        yield path
        return
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / CHECKPOINT
        copy.write_bytes(data)
        yield copy


def _resumed(path: Path, folder: Path, save_every: float, epochs: int | None, seconds: float | None,
             source: tuple[str, str] | None, lock: FolderLock | None, workers: Workers | None) -> Run:
    settings, checksum, progress = checkpoint.load_header(path)
    rank, size = (0, 1) if workers is None else (workers.rank, workers.size)
    if settings.workers != size:
        raise FileError(f"--resume: expected {settings.workers} workers, with which the run began, got {size}; start "
                        f"{settings.workers} of them: torchrun --nproc-per-node {settings.workers} -m fastbptt train --resume …")
    begun = settings
    if epochs is not None or seconds is not None:
        if settings.schedule == "cosine":
            raise FileError("--resume: expected neither --epochs nor --seconds for a run with a cosine schedule, which ends with "
                            "its epochs")
        settings = replace(settings, epochs=epochs, seconds=seconds)
    if source is not None:
        if source[0] != settings.kind:
            raise FileError(f"--{source[0]}: expected --{settings.kind}, with which the run began")
        settings = replace(settings, source=source[1])
    data = _same_data(settings, checksum)
    model = settings.model(data.inputs, data.outputs, data.loss)
    checkpoint.check_shapes(path, model)
    like = _initial(settings, model)
    whole = checkpoint.load_trees(path, like if workers is None else like._replace(state=(like.state,) * size))
    trees = whole if workers is None else whole._replace(state=whole.state[rank])
    metrics = Metrics(folder, progress.metrics) if rank == 0 else NoMetrics()
    if rank == 0 and (settings != begun or metrics.shortened):      # at once: a run that is killed keeps its new end, and lines
        progress = progress._replace(metrics=metrics.kept())
        checkpoint.save(path, settings, data.checksum, progress, whole)
    return Run(settings, data, model, folder, progress, trees, metrics, save_every, lock, workers, saved=progress.number)


def _same_data(settings: Settings, checksum: int) -> Data:
    """The data of a run that goes on: those that it began with."""
    try:
        data = read(settings.kind, settings.source)
    except FileNotFoundError:
        raise FileError(f"--resume: expected {settings.source}, the data of the run, got no such file; if they have moved, "
                        f"add --{settings.kind} PATH") from None
    if data.checksum != checksum:
        raise FileError(f"--resume: expected {settings.source} as it was when the run began, got other contents; if the data "
                        f"have moved, add --{settings.kind} PATH")
    return data


def _initial(settings: Settings, model: SequenceModel) -> Trees:
    params = model.init(seed=settings.seed)
    state = check_state(model.cell, None, settings.batch, np.dtype(np.float32))
    return Trees(params, settings.make_optimizer().init(params), state)


def _facts(settings: Settings, data: Data) -> dict[str, object]:
    """What all workers of a run have to have alike: its options, and its data, wherever they lie."""
    return {**{f"--{name}": value for name, value in asdict(settings).items() if name != "source"}, "data": data.checksum}


def _pair(truncation: Truncation | None) -> tuple[int, int] | None:
    return None if truncation is None else (truncation.horizon, truncation.stride)
