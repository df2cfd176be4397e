"""Workers that train one model together: sums over all of them, and an end for all of them where one ends."""
from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..errors import (
    WorkerError,
    check_alike,
    check_own_shard,
    check_reduce,
    check_sum,
    refuse_stopped,
    refuse_uneven,
    refuse_unsaid,
)
from ..tree import leaves, tree_map
from .quiet import quiet


class Workers(ABC):
    """Processes that train one model; `workers(vector)` is the sum of the vectors of all. Made by `fastbptt.distributed`.

    Every method has to be called by all workers, in one order; each waits for the others, at most `timeout` seconds.

    Attributes
    ----------
    rank : int
        Of this worker, 0 … size − 1.
    size : int
        The number of workers.
    timeout : float
        Seconds after which a worker that does not answer is given up.
    """

    def __init__(self, rank: int, size: int, timeout: float):
        self.rank, self.size, self.timeout = rank, size, timeout

    def __call__(self, vector: Any) -> Array:
        """Σ over workers of a vector of float64, the same bits on each of them. WorkerError where one does not answer."""
        return self._sum(np.array(vector, np.float64).ravel())

    def gather(self, data: bytes) -> list[bytes]:
        """The bytes of every worker, in the order of their ranks."""
        sizes = self._gather(np.array([len(data)], np.int64))[:, 0]
        padded = np.zeros(max(1, int(sizes.max())), np.uint8)
        padded[:len(data)] = np.frombuffer(data, np.uint8)
        return [row[:n].tobytes() for row, n in zip(self._gather(padded), sizes, strict=True)]

    def first(self, data: bytes) -> bytes:
        """The bytes of worker 0, on all of them."""
        size = int(self._first(np.array([len(data)], np.int64))[0])
        given = np.frombuffer(data, np.uint8).copy() if self.rank == 0 else np.empty(size, np.uint8)
        return self._first(given).tobytes() if size else b""

    def close(self) -> None:  # noqa: B027  (nothing to do for most)
        """Leave the group; what was opened for it is closed."""

    @abstractmethod
    def _sum(self, vector: Array) -> Array:
        """Sum of contiguous vectors of one size."""

    @abstractmethod
    def _gather(self, array: Array) -> Array:
        """(size, n) from contiguous arrays (n,) of one size and dtype."""

    @abstractmethod
    def _first(self, array: Array) -> Array:
        """The array of worker 0, from contiguous arrays of one size and dtype."""


class Message(NamedTuple):
    """What a worker tells the others where they meet outside a sum."""

    kind: str
    """BEGINS, WAITS (for the sum of an update), ENDED (it has no batch any more), STOPPED (its callback said so), FAILED."""
    text: str = ""
    facts: dict[str, str] | None = None


BEGINS, WAITS, ENDED, STOPPED, FAILED = "begins", "waits", "ended", "stopped", "failed"


class Together:
    """One worker's side of a training with others.

    Workers meet at the sum of every update. One that cannot go on brings NaN in place of its numbers, which all see in the sum.
    `Workers` then tell each other why, and all end alike. A plain function can tell nothing more than that: it is called
    with the vector of every update, and once more with NaN by a worker that ends with an error.
    """

    def __init__(self, reduce: Any, params: Any):
        self._reduce = check_reduce(reduce)
        self._workers = reduce if isinstance(reduce, Workers) else None
        self._size = sum(math.prod(np.shape(a)) for a in leaves(params)) + 2
        self._sum_is_next = self._workers is None
        self._connected = reduce is not None
        self.concluded = False
        """Whether all workers have ended, and know it of each other."""

    @property
    def rank(self) -> int:
        """Of this worker; 0 where `reduce` does not say."""
        return 0 if self._workers is None else self._workers.rank

    def begin(self, batches: Any, facts: Callable[[], dict[str, str]]) -> None:
        """Before the first update: every worker has its own shard, and all begin alike, by facts that are compared."""
        if self._workers is not None and not self._sum_is_next:
            check_own_shard(getattr(batches, "shard", None), self._workers.rank, self._workers.size)
            told = self._tell(Message(BEGINS, facts=facts()))
            self._conclude(told)
            try:
                check_alike([message.facts or {} for message in told])
            except WorkerError:
                self.concluded = True
                raise
            self._sum_is_next = True

    @quiet
    def add(self, number: int, loss: float, grads: Any, count: int, mean: bool) -> tuple[float, Any] | None:
        """Loss and gradients of all workers: Σ count · g / Σ count of means, or Σ g. None where a callback ends all."""
        if self._reduce is None:
            return loss, grads
        factor = float(count) if mean else 1.0
        parts = [np.asarray(a, np.float64).ravel() * factor for a in leaves(grads)]
        vector = np.concatenate([*parts, [loss * factor, float(count)]])
        finite = _countable(vector)
        total = self._sum(vector)
        if not _countable(total):
            if not finite:
                return loss, grads          # it says so itself, with the place where NaN comes in
            if self._workers is None:
                raise refuse_unsaid(number)
            if not self._conclude(self._tell(Message(WAITS))):
                self._sum_is_next = True    # only the sum is more than float64 holds
            else:
                return None
        divisor = max(1.0, float(total[-1])) if mean else 1.0
        offsets = iter(np.split(total[:-2] / divisor, np.cumsum([part.size for part in parts])[:-1]))
        return float(total[-2] / divisor), tree_map(lambda a: next(offsets).reshape(a.shape).astype(a.dtype), grads)

    def end(self, stopped: bool) -> None:
        """All batches are used, or a callback said so: wait until the others have come to an end too."""
        if self._workers is not None and not self.concluded:
            self._say(Message(STOPPED if stopped else ENDED))

    def leave(self, error: BaseException) -> None:
        """An error ends this worker: tell the others, unless it came from them."""
        if self.concluded or not self._connected:
            return
        try:
            self._say(Message(FAILED, one_line(error)))
        except WorkerError:
            pass            # another one failed too, or is lost: the error of this worker is what its user has to see

    def _say(self, message: Message) -> None:
        """A message outside of a sum that the others may be at."""
        if self._sum_is_next:
            self._sum(np.full(self._size, np.nan))
        if self._workers is not None:
            self._conclude(self._tell(message))

    def _sum(self, vector: Array) -> Array:
        """The sum; where it fails, no other is begun."""
        self._connected = False
        total = check_sum(self._reduce(vector), vector.size)
        self._connected = True
        self._sum_is_next = _countable(total)
        self.concluded = self._workers is None and not self._sum_is_next      # there is no more to be told
        return total

    def _tell(self, message: Message) -> list[Message]:
        """What all workers have to say."""
        assert self._workers is not None
        self._connected = False
        told = self._workers.gather(json.dumps(message).encode())
        self._connected = True
        return [Message(*json.loads(text)) for text in told]

    def _conclude(self, told: list[Message]) -> bool:
        """Whether all workers end here, without an error; raises what is one."""
        assert self._workers is not None
        ranks = {kind: [rank for rank, message in enumerate(told) if message.kind == kind]
                 for kind in (BEGINS, WAITS, ENDED, STOPPED, FAILED)}
        goes_on = ranks[BEGINS] + ranks[WAITS]
        if len(goes_on) == len(told):
            return False
        self.concluded = True
        if ranks[FAILED]:
            if self._workers.rank in ranks[FAILED]:
                return True
            raise refuse_stopped(ranks[FAILED][0], told[ranks[FAILED][0]].text)
        if ranks[ENDED] and goes_on and not ranks[STOPPED]:
            raise refuse_uneven(ranks[ENDED], goes_on)
        return True


def _countable(vector: Array) -> bool:
    """Finite gradients and count; a loss of inf stops nothing."""
    return bool(np.isfinite(vector[:-2]).all() and np.isfinite(vector[-1]))


def one_line(error: BaseException) -> str:
    """An error in one line: its sentence, with its type where that says more."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    ours = isinstance(error, ValueError | TypeError | OSError) or type(error).__module__.startswith("fastbptt.")
    return " ".join(str(error).split()) if ours and str(error) else f"{type(error).__name__}: {error}"
