"""A side and the clock: what one process does for the benchmark, for one side.

A turn is one call that is not counted, then as many as are asked for; its value is their mean time.
Before the process says that it is done, its threads must be idle. This is not fussiness: the threads of a BLAS spin for 0.1 to
0.2 s after a product, and on two cores the side that comes next then takes 1.8 times as long (PyTorch, RNN with B = 16 and
H = 64, measured: 21–23 ms right after and up to 0.1 s after a product, 12–13 ms from 0.2 s on).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from .cases import Array, Case
from .side import Side

LEAST_CALLS = 3  # of a window, however slow they are


def settle(limit_seconds: float = 1.0) -> None:
    """Sleeps until all threads of this process have been idle for 20 ms, at most ``limit_seconds``.

    Shorter intervals show nothing: operating systems account the time of a running thread at ticks, every 4 to 10 ms.
    """
    deadline = time.perf_counter() + limit_seconds
    while time.perf_counter() < deadline:
        busy = time.process_time()
        time.sleep(0.02)
        if time.process_time() - busy < 0.002:
            return


@contextmanager
def no_collection() -> Iterator[None]:
    """Without Python's garbage collector."""
    gc_was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc_was_on:
            gc.enable()


class Runner(Protocol):
    """A side that runs here (`Host`) or in a process of its own (`fastbptt.bench.worker.Worker`)."""

    name: str

    def begin(self, method: str, *arguments: Any) -> None:
        """Starts a method of the host; there may be others that work meanwhile."""

    def result(self) -> Any:
        """What it returned, when it is done, or raised."""

    def call(self, method: str, *arguments: Any) -> Any:
        """Both."""

    def close(self) -> None:
        """Ends it."""


class Host:
    """Runs a side in this process."""

    def __init__(self, side: Side) -> None:
        self.name, self._side = side.name, side
        self._result: Any = None

    def begin(self, method: str, *arguments: Any) -> None:
        """Calls a method of these."""
        self._result = getattr(self, method)(*arguments)

    def result(self) -> Any:
        """What it returned."""
        return self._result

    def call(self, method: str, *arguments: Any) -> Any:
        """Both."""
        self.begin(method, *arguments)
        return self.result()

    def supports(self, case: Case) -> bool:
        """Whether the side has a recipe for the case."""
        return self._side.supports(case)

    def setup(self, case: Case) -> None:
        """Prepares a case, compilation included."""
        self._side.setup(case, case.arrays())
        self._side.run()
        settle()

    def tune(self) -> str:
        """Chooses the fastest form of the side, and says which in words."""
        self._side.tune()
        settle()
        return self._side.setting

    def gradients(self) -> dict[str, Array]:
        """Of one more run."""
        found = self._side.gradients(self._side.run())
        settle()
        return found

    def turn(self, calls: int, warm: bool) -> float:
        """Seconds of one call, as the mean of ``calls``; ``warm``: a call before them wakes threads and caches."""
        if warm:
            self._side.run()
        with no_collection():
            start = time.perf_counter()
            for _ in range(calls):
                self._side.run()
            taken = time.perf_counter() - start
        settle()
        return taken / calls

    def window(self, start: float, seconds: float) -> list[float]:
        """Calls one after the other, from ``start`` (as `time.time` counts) for so many seconds; seconds of each."""
        time.sleep(max(0.0, start - time.time()))
        taken: list[float] = []
        with no_collection():
            now = time.perf_counter()
            end = now + seconds
            while now < end or len(taken) < LEAST_CALLS:
                self._side.run()
                before, now = now, time.perf_counter()
                taken.append(now - before)
        settle()
        return taken

    def close(self) -> None:
        """Gives back what the side has changed."""
        self._side.close()
