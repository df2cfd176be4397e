"""The shortest time of a call, taken in turns with others: on a busy machine only the shortest says what the code costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any


def shortest(calls: Sequence[Callable[[], Any]], seconds: float, clock: Callable[[], float] = time.thread_time) -> list[float]:
    """Seconds of each call at its best, all of them in turn until so much time has passed (at least five rounds).

    The clock counts the time that this thread had a core; for calls that use several threads pass `time.perf_counter`.
    """
    best = [float("inf")] * len(calls)
    for call in calls:
        call()
    rounds, end = 0, time.perf_counter() + seconds
    while rounds < 5 or time.perf_counter() < end:
        for i, call in enumerate(calls):
            start = clock()
            call()
            best[i] = min(best[i], clock() - start)
        rounds += 1
    return best


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is left-aligned, all others right-aligned."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
