"""The run: windows of a stream, evaluations, checkpoints; begun or gone on with."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..bptt.truncation import Truncation
from ..errors import FileError, check_state
from ..flow.horizon import suggest_horizon
from ..training.files import remove_temporary
from ..training.fit import Step, evaluate, fit
from ..training.model import ModelParams, SequenceModel
from ..training.storage import save_model
from ..training.stream import Stream, stream
from . import checkpoint
from .checkpoint import CHECKPOINT, Progress, Trees
from .data import Data, read
from .lock import FolderLock
from .metrics import Metrics
from .settings import AUTO, Settings

MODEL, BEST, PICTURE = "model.npz", "best.npz", "curves.png"
EVALUATION_WINDOW = 256
AUTO_AFTER = 200        # updates with full gradients before the horizon is measured: the first ones say little


@dataclass
class Run:
    """A run under way, its files in one folder."""

    settings: Settings
    data: Data
    model: SequenceModel
    folder: Path
    progress: Progress
    trees: Trees
    metrics: Metrics
    save_every: float
    """Seconds between checkpoints."""
    lock: FolderLock
    tell: Callable[[Run, Step], Any] = lambda run, step: None
    """Called after every update."""
    stop: bool = False
    """Set to end the run after the update under way."""
    held_out: float = float("nan")
    """The last evaluation."""
    saved: int = -1
    """The update of the last checkpoint."""
    stream: Stream = field(init=False)
    begun: float = field(init=False)
    last_save: float = field(init=False)

    @property
    def seconds(self) -> float:
        """Spent so far, with earlier sessions."""
        return self.progress.seconds + perf_counter() - self.begun

    @property
    def spent(self) -> float:
        """Which part of the work is done, 0 … 1."""
        s = self.settings
        epoch, step = self.stream.position
        lane = len(self.stream) * s.window
        parts = [] if s.epochs is None else [(epoch + step / lane) / s.epochs]
        parts += [] if s.seconds is None else [self.seconds / s.seconds]
        return min(1.0, max(parts, default=0.0))

    def go(self) -> None:
        """Train to the end, or until `stop`; leaves a checkpoint and the model.

        Raises
        ------
        ValueError
            If a gradient is not finite; the message says which checkpoint, of the update before, is saved.
        OSError
            If the folder can no longer be written; the message says which checkpoint stays.
        """
        try:
            self._go()
        except BrokenPipeError:             # whoever read the output has gone, which is no fault of the folder
            self._save_new()
            raise
        except ValueError as error:
            self._save_new()
            stays = f"; update {self.saved} is saved, --resume {self.folder} goes on after this batch" if self.saved > 0 else ""
            raise ValueError(f"{error}{stays}") from None
        except OSError as error:
            stays = "" if self.saved < 0 else f"; the checkpoint of update {self.saved} stays: --resume {self.folder}"
            raise OSError(f"{self.folder}: expected to write here, got {error.strerror or error}{stays}") from None

    def _save_new(self) -> None:
        """A checkpoint of updates that none has yet."""
        if self.progress.number > max(0, self.saved):
            self.save()

    def _go(self) -> None:
        s, at = self.settings, self.progress
        self.stream = stream(self.data.train, s.batch, s.window, epochs=s.epochs, position=at.position)
        self._compile()
        self.begun = self.last_save = perf_counter()
        cut = None if at.truncation is None else Truncation(*at.truncation)
        number, seed = at.number, s.seed if s.dropout else None
        while not self._over():
            if s.truncate == AUTO and cut is None and number >= AUTO_AFTER:
                cut = self._measured()
                self.progress = self.progress._replace(truncation=(cut.horizon, cut.stride))
            fitted = fit(self.model, self.trees.params, self.stream, s.make_optimizer(), opt_state=self.trees.opt_state,
                         truncation=cut, clip=s.clip, callback=self._after, state=self.trees.state, done=number, seed=seed,
                         steps=AUTO_AFTER - number if s.truncate == AUTO and cut is None else None,
                         schedule=s.make_schedule(len(self.stream)), evaluation=self.evaluate, every=s.evaluate_every)
            number += len(fitted.losses)
        self._end()

    def evaluate(self, params: ModelParams) -> float:
        """The held-out tenth, in its unit."""
        batch = max(1, min(self.settings.batch, _steps(self.data.held_out) // 2 - 1))
        loss = evaluate(self.model, params, stream(self.data.held_out, batch, EVALUATION_WINDOW))
        self.held_out = self.data.scaled(loss)
        return self.held_out

    def _compile(self) -> None:
        """What is called for the first time takes seconds: not those of the training."""
        window = next(stream(self.data.train, self.settings.batch, min(2, self.settings.window)))
        self.model.loss_and_grad(self.trees.params, window.x, window.y)

    def _over(self) -> bool:
        s, (epoch, _) = self.settings, self.stream.position
        return self.stop or (s.epochs is not None and epoch >= s.epochs) or (s.seconds is not None and self.seconds >= s.seconds)

    def _after(self, step: Step) -> bool:
        """Of `fit`, after every update."""
        s = self.settings
        schedule = s.make_schedule(len(self.stream))
        self.trees = Trees(step.params, step.opt_state, step.state)
        self.progress = self.progress._replace(number=step.number)
        rate = s.lr * (1.0 if schedule is None else schedule(step.number))
        self.metrics.add(step.number, self.data.scaled(step.loss), step.norm, rate=rate, seconds=round(self.seconds, 3))
        if step.evaluation is not None:
            self._evaluated(step.number, step.params)
        self.tell(self, step)
        over = self._over()
        if over or perf_counter() - self.last_save >= self.save_every:
            self.save()
        return over

    def _evaluated(self, number: int, params: ModelParams) -> None:
        """Note the last evaluation; the weights of the best one are kept."""
        self.progress = self.progress._replace(evaluated=number)
        self.metrics.write({"update": number, "held_out": self.held_out, "seconds": round(self.seconds, 3)})
        if self.progress.best is None or not self.held_out >= self.progress.best[1]:       # NaN is better than nothing
            self.progress = self.progress._replace(best=(number, self.held_out))
            save_model(self.folder / BEST, self.model, params, self.data.vocabulary)

    def save(self) -> None:
        """Write a checkpoint."""
        now = self.progress._replace(position=self.stream.position, seconds=self.seconds, metrics=self.metrics.kept())
        checkpoint.save(self.folder / CHECKPOINT, self.settings, self.data.checksum, now, self.trees)
        self.saved, self.last_save = now.number, perf_counter()

    def _measured(self) -> Truncation:
        """Every error goes back at least as far as the shortest horizon that serves on the next window: Truncation(2h, h)."""
        s = self.settings
        window = next(stream(self.data.train, s.batch, s.window, epochs=None, position=self.stream.position))
        params, state = self.trees.params, None if window.fresh else self.trees.state
        tape, _, dh = self.model.errors(params, window.x, window.y, state=state)
        h = suggest_horizon(self.model.cell, params.cell, tape, dh)
        return Truncation(min(2 * h, s.window), min(h, s.window)) if 2 * h < s.window else Truncation.chunks(s.window)

    def _end(self) -> None:
        number = self.progress.number
        evaluates = not self.stop and number != self.progress.evaluated
        if evaluates:
            self.evaluate(self.trees.params)
            self._evaluated(number, self.trees.params)
        elif not self.stop and np.isnan(self.held_out):          # a finished run, resumed
            self.evaluate(self.trees.params)
        if evaluates or self.saved != number:
            self.save()
        save_model(self.folder / MODEL, self.model, self.trees.params, self.data.vocabulary)


def begin(settings: Settings, folder: Path, save_every: float) -> Run:
    """A new run, which holds its folder until `lock.release`. The folder is made; one that has a checkpoint is refused."""
    _check_unused(folder)
    data = read(settings.kind, settings.source)
    model = settings.model(data.inputs, data.outputs, data.loss)
    progress = Progress(0, (0, 0), 0.0, _pair(settings.truncation()), {})
    stream(data.train, settings.batch, settings.window)         # refuses data that are too short for the batch
    trees = _initial(settings, model)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(folder, "--out")
    try:
        _check_unused(folder)       # by another run since
        remove_temporary(folder)
        return Run(settings, data, model, folder, progress, trees, Metrics(folder), save_every, lock)
    except BaseException:
        lock.release()
        raise


def _check_unused(folder: Path) -> None:
    if (folder / CHECKPOINT).exists():
        raise FileError(f"--out: expected a folder without a checkpoint, got {folder}; go on with --resume {folder}, "
                        "or choose another")


def resume(folder: Path, save_every: float, epochs: int | None = None, seconds: float | None = None,
           source: tuple[str, str] | None = None) -> Run:
    """The run of a folder, at its last checkpoint; with other ends than it began with, if any is given.

    `source`: kind and path of its data where they have moved; they must be the same to the byte.
    """
    if not (folder / CHECKPOINT).exists():
        raise FileError(f"--resume: expected a folder with {CHECKPOINT}, got {folder}")
    lock = FolderLock(folder, "--resume")
    try:
        remove_temporary(folder)
        return _resumed(folder, save_every, epochs, seconds, source, lock)
    except BaseException:
        lock.release()
        raise


def _resumed(folder: Path, save_every: float, epochs: int | None, seconds: float | None, source: tuple[str, str] | None,
             lock: FolderLock) -> Run:
    path = folder / CHECKPOINT
    settings, checksum, progress = checkpoint.load_header(path)
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
    trees = checkpoint.load_trees(path, _initial(settings, model))
    metrics = Metrics(folder, progress.metrics)
    if settings != begun or metrics.shortened:      # at once: a run that is killed keeps its new end, and what its file has
        progress = progress._replace(metrics=metrics.kept())
        checkpoint.save(path, settings, data.checksum, progress, trees)
    return Run(settings, data, model, folder, progress, trees, metrics, save_every, lock, saved=progress.number)


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


def _pair(truncation: Truncation | None) -> tuple[int, int] | None:
    return None if truncation is None else (truncation.horizon, truncation.stride)


def _steps(source: Any) -> int:
    return len(source[0]) if isinstance(source, tuple) else len(source)
