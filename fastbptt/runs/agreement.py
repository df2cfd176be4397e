"""Several workers in one run: what one wants, or fails at, happens on all of them."""
from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..arrays import Array
from ..errors import check_alike, refuse_stopped
from ..training.workers import Workers, one_line
from ..tree import leaves, tree_map

Result = TypeVar("Result")


class Wishes(NamedTuple):
    """What a worker wants after an update; all do what one of them wants."""

    stop: bool
    """Ctrl-C."""
    end: bool
    """The time is over."""
    save: bool
    """A checkpoint is due."""


class Agreement(Workers):
    """The sums of a run, each with the wishes of its workers, so that all do the same after the same update."""

    def __init__(self, workers: Workers, wishes: Callable[[], Wishes]):
        super().__init__(workers.rank, workers.size, workers.timeout)
        self._workers, self._wishes = workers, wishes
        self.wished = Wishes(False, False, False)
        """By any worker, at the last sum."""

    def _sum(self, vector: Array) -> Array:
        total = self._workers(np.concatenate([vector, np.array(self._wishes(), np.float64)]))
        self.wished = Wishes(*map(bool, total[vector.size:] > 0))
        return total[:vector.size]

    def _gather(self, array: Array) -> Array:
        return self._workers._gather(array)

    def _first(self, array: Array) -> Array:
        return self._workers._first(array)


def on_all(workers: Workers | None, make: Callable[[], Result]) -> Result:
    """What `make` returns; an error of one worker ends all of them."""
    if workers is None:
        return make()
    failure, result = None, None
    try:
        result = make()
    except BaseException as error:
        failure = error
    texts = [json.loads(told) for told in workers.gather(json.dumps(None if failure is None else one_line(failure)).encode())]
    failed = [rank for rank, text in enumerate(texts) if text is not None]
    if failed and failed[0] != workers.rank:
        raise refuse_stopped(failed[0], texts[failed[0]])
    if failure is not None:
        raise failure
    return result       # type: ignore[return-value]


def check_same(workers: Workers | None, facts: dict[str, object]) -> None:
    """Refuse to begin where these differ between workers."""
    if workers is not None:
        own = json.dumps({name: str(value) for name, value in facts.items()})
        check_alike([json.loads(told) for told in workers.gather(own.encode())])


def most_of(workers: Workers | None, number: int) -> int:
    """The largest number of a worker."""
    return number if workers is None else max(int(told) for told in workers.gather(str(number).encode()))


def gather_trees(workers: Workers, tree: Any) -> tuple[Any, ...]:
    """The trees of all workers, of the same shapes and dtypes, by their ranks."""
    told = workers.gather(b"".join(array.tobytes() for array in leaves(tree)))
    return tuple(_from_bytes(data, tree) for data in told)


def _from_bytes(data: bytes, like: Any) -> Any:
    offset = 0

    def read(array: Array) -> Array:
        nonlocal offset
        found = np.frombuffer(data, array.dtype, array.size, offset).reshape(array.shape)
        offset += array.nbytes
        return found

    return tree_map(read, like)
