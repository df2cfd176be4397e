"""The run: windows of a stream, evaluations, checkpoints."""
from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..bptt.truncation import Truncation
from ..errors import WorkerError
from ..flow.horizon import suggest_horizon
from ..training.fit import Step, evaluate, fit
from ..training.model import ModelParams, SequenceModel
from ..training.storage import save_model
from ..training.stream import Stream, stream
from ..training.workers import Workers
from . import checkpoint
from .agreement import Agreement, Wishes, gather_trees, most_of, on_all
from .checkpoint import CHECKPOINT, Progress, Trees
from .data import Data
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
    lock: FolderLock | None
    """None on all workers but the first, which alone writes."""
    workers: Workers | None = None
    """Those that train together; None: this process alone."""
    tell: Callable[[Run, Step], Any] = lambda run, step: None
    """Called after every update."""
    stop: bool = False
    """Set to end the run after the update under way, or the next one where others have to agree."""
    stopped: bool = False
    """Whether it ended because `stop` was set, here or on another worker."""
    held_out: float = float("nan")
    """The last evaluation."""
    saved: int = -1
    """The update of the last checkpoint."""
    stream: Stream = field(init=False)
    begun: float = field(init=False)
    last_save: float = field(init=False)
    _agreement: Agreement | None = field(init=False)
    _over: bool = field(init=False)
    _failure: BaseException | None = None
    _gathered: int = field(init=False)
    """The update after which `save` was called last, as all workers know."""

    @property
    def first(self) -> bool:
        """Whether this is worker 0, or the only one."""
        return self.workers is None or self.workers.rank == 0

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
        WorkerError
            If another worker has ended with an error, or does not answer; the message says which checkpoint stays.
        """
        try:
            self._go()
        except BrokenPipeError as error:    # whoever read the output has gone, which is no fault of the folder
            self._save_new(error)
            raise
        except (ValueError, WorkerError) as error:
            self._save_new(error)
            stays = f"; update {self.saved} is saved, --resume {self.folder} goes on after this batch" if self.saved > 0 else ""
            raise type(error)(f"{error}{stays}") from None
        except OSError as error:
            self._save_new(error, writes=False)
            stays = "" if self.saved < 0 else f"; the checkpoint of update {self.saved} stays: --resume {self.folder}"
            raise OSError(f"{self.folder}: expected to write here, got {error.strerror or error}{stays}") from None
        except BaseException as error:
            if self.workers is not None:    # the others wait for the state of this one
                self._save_new(error)
            raise

    def _save_new(self, error: BaseException, writes: bool = True) -> None:
        """A checkpoint of updates that none has yet; of several workers, if all have ended after the same one."""
        if self.workers is None:
            if writes and self.progress.number > max(0, self.saved):
                self.save()
            return
        if not getattr(error, "concluded", False):
            return
        self._failure = None
        with suppress(WorkerError):
            numbers = {int(told) for told in self.workers.gather(str(self.progress.number).encode())}
            if len(numbers) == 1 and self.progress.number > max(0, self._gathered):
                self.save(writes)

    def _go(self) -> None:
        s, at = self.settings, self.progress
        shard = None if self.workers is None else (self.workers.rank, self.workers.size)
        self.stream = stream(self.data.train, s.batch, s.window, epochs=s.epochs, position=at.position, shard=shard)
        self._agreement = None if self.workers is None else Agreement(self.workers, self._wishes)
        self._gathered = self.saved
        on_all(self.workers, self._compile)
        self.begun = self.last_save = perf_counter()
        cut = None if at.truncation is None else Truncation(*at.truncation)
        number, seed = at.number, s.seed if s.dropout else None
        self.stopped = self.workers is None and self.stop
        self._over = self.stopped or self._read_to_the_end() or (s.seconds is not None and at.seconds >= s.seconds)
        while not self._over:
            if s.truncate == AUTO and cut is None and number >= AUTO_AFTER:
                cut = self._measured()
                self.progress = self.progress._replace(truncation=(cut.horizon, cut.stride))
            fitted = fit(self.model, self.trees.params, self.stream, s.make_optimizer(), opt_state=self.trees.opt_state,
                         truncation=cut, clip=s.clip, callback=self._after, state=self.trees.state, done=number, seed=seed,
                         steps=AUTO_AFTER - number if s.truncate == AUTO and cut is None else None, reduce=self._agreement,
                         schedule=s.make_schedule(len(self.stream)), every=s.evaluate_every,
                         evaluation=lambda params: self._attempt(lambda: self.evaluate(params)))
            number += len(fitted.losses)
        self._end()

    def evaluate(self, params: ModelParams) -> float:
        """The held-out tenth, in its unit."""
        batch = max(1, min(self.settings.lanes, _steps(self.data.held_out) // 2 - 1))
        loss = evaluate(self.model, params, stream(self.data.held_out, batch, EVALUATION_WINDOW))
        self.held_out = self.data.scaled(loss)
        return self.held_out

    def _compile(self) -> None:
        """What is called for the first time takes seconds: not those of the training."""
        window = next(stream(self.data.train, self.settings.batch, min(2, self.settings.window)))
        self.model.loss_and_grad(self.trees.params, window.x, window.y)

    def _wishes(self) -> Wishes:
        """Of this worker; the clock is that of worker 0."""
        s = self.settings
        return Wishes(self.stop, self.first and s.seconds is not None and self.seconds >= s.seconds,
                      self.first and perf_counter() - self.last_save >= self.save_every)

    def _read_to_the_end(self) -> bool:
        return self.settings.epochs is not None and self.stream.position[0] >= self.settings.epochs

    def _after(self, step: Step) -> bool:
        """Of `fit`, after every update."""
        self.trees = Trees(step.params, step.opt_state, step.state)
        self.progress = self.progress._replace(number=step.number)
        if self._failure is None:
            self._attempt(lambda: self._note(step))
        wished = self._wishes() if self._agreement is None else self._agreement.wished
        self.stopped = wished.stop
        self._over = wished.stop or wished.end or self._read_to_the_end()
        if self._over or wished.save:
            self.save()
        elif self._failure is not None:
            raise self._failure
        return self._over

    def _note(self, step: Step) -> None:
        """An update, for who reads along."""
        s = self.settings
        schedule = s.make_schedule(len(self.stream))
        rate = s.lr * (1.0 if schedule is None else schedule(step.number))
        self.metrics.add(step.number, self.data.scaled(step.loss), step.norm, rate=rate, seconds=round(self.seconds, 3))
        if step.evaluation is not None:
            self._evaluated(step.number, step.params)
        self.tell(self, step)

    def _attempt(self, work: Callable[[], Any]) -> Any:
        """What fails on one of several workers, of which the others may be waiting for its state: `save` gives it, and raises."""
        try:
            return work()
        except BaseException as error:
            if self.workers is None:
                raise
            self._failure = error
            return None

    def _evaluated(self, number: int, params: ModelParams) -> None:
        """Note the last evaluation; the weights of the best one are kept."""
        self.progress = self.progress._replace(evaluated=number)
        self.metrics.write({"update": number, "held_out": self.held_out, "seconds": round(self.seconds, 3)})
        if self.progress.best is None or not self.held_out >= self.progress.best[1]:       # NaN is better than nothing
            self.progress = self.progress._replace(best=(number, self.held_out))
            self._save_model(BEST, params)

    def save(self, writes: bool = True) -> None:
        """Write a checkpoint; of several workers, all are asked for their states, and the first one writes."""
        trees, self._gathered = self.trees, self.progress.number
        if self.workers is not None:
            trees = trees._replace(state=gather_trees(self.workers, trees.state))
            if self._failure is not None:
                raise self._failure
        if self.first and writes:
            now = self.progress._replace(position=self.stream.position, seconds=self.seconds, metrics=self.metrics.kept())
            checkpoint.save(self.folder / CHECKPOINT, self.settings, self.data.checksum, now, trees)
        if writes:
            self.saved, self.last_save = self.progress.number, perf_counter()

    def _measured(self) -> Truncation:
        """Every error goes back at least as far as the shortest horizon that serves on the next window: Truncation(2h, h)."""
        h, window = most_of(self.workers, on_all(self.workers, self._horizon)), self.settings.window
        return Truncation(min(2 * h, window), min(h, window)) if 2 * h < window else Truncation.chunks(window)

    def _horizon(self) -> int:
        """The shortest that serves on the next window of this worker."""
        s = self.settings
        window = next(stream(self.data.train, s.batch, s.window, epochs=None, position=self.stream.position,
                             shard=self.stream.shard))
        params, state = self.trees.params, None if window.fresh else self.trees.state
        tape, _, dh = self.model.errors(params, window.x, window.y, state=state)
        return suggest_horizon(self.model.cell, params.cell, tape, dh)

    def _end(self) -> None:
        number = self.progress.number
        evaluates = not self.stopped and number != self.progress.evaluated
        if evaluates:
            self._attempt(self._evaluate_last)
        elif not self.stopped and np.isnan(self.held_out):          # a finished run, resumed
            self.evaluate(self.trees.params)
        if evaluates or self._gathered != number:
            self.save()
        self._save_model(MODEL, self.trees.params)

    def _evaluate_last(self) -> None:
        self.evaluate(self.trees.params)
        self._evaluated(self.progress.number, self.trees.params)

    def _save_model(self, name: str, params: ModelParams) -> None:
        if self.first:
            save_model(self.folder / name, self.model, params, self.data.vocabulary)


def _steps(source: Any) -> int:
    return len(source[0]) if isinstance(source, tuple) else len(source)
