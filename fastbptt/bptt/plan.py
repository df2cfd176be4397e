"""A call as data: actions over segments of its steps, each through all layers, and the passes of every scan.

One cell is a stack of one. Without a memory budget a call is a single segment: forward is one action; backward is one
action, or for a truncated stack one for each group of ends. With a budget the steps are cut into segments, and the actions
that compute states again come between those that go back (`checkpoints.py`).
"""
from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, Passes
from ..errors import check_one_direction
from .checkpoints import Schedule
from .passes import Sizes, forget_passes, joint_passes, plan_passes
from .truncation import FULL, Truncation

SAVE = "save"
"""Put a copy of the current states on the pile of checkpoints."""
RESTORE = "restore"
"""Take the current states from that pile."""
FORWARD = "forward"
"""Run steps start+1 … stop from the current states, layer after layer."""
BACKWARD = "backward"
"""Take the passes back through steps stop … start+1, last layer first; FORWARD has run over the same steps."""


class Action(NamedTuple):
    """One entry of a plan."""

    kind: str
    start: int = 0
    stop: int = 0
    passes: tuple[Passes, ...] | list[Passes] = ()
    """Of a BACKWARD action, for every scan."""


@lru_cache(maxsize=16)
def _full_back(lengths: bytes, start: int, stop: int, sizes: tuple[Sizes, ...]) -> Action:
    """`full_back`, cached by what it depends on."""
    steps = np.frombuffer(lengths, np.int64)
    return Action(BACKWARD, start, stop, [plan_passes(steps, stop - start, FULL, own, start=start) for own in sizes])


def full_back(cell: Any, lengths: Array, start: int, stop: int) -> Action:
    """Full BPTT of one segment."""
    return _full_back(lengths.tobytes(), start, stop, cell.scan_sizes)


def plan_backward(cell: Any, lengths: Array, T: int, truncation: Truncation, clipped: bool) -> list[Action]:
    """The actions of a backward call over a tape of all steps."""
    if truncation is FULL:
        return [full_back(cell, lengths, 0, T)]
    check_one_direction(cell, "truncation")
    layers = cell.layers
    longest = lengths.max()
    covered = truncation.horizon >= longest and (not clipped or truncation.stride >= longest)
    if len(layers) > 1 and not covered:
        sizes = [layer.sizes for layer in layers]
        return [Action(BACKWARD, 0, T, passes) for passes in joint_passes(lengths, truncation, sizes, clipped)]
    return [Action(BACKWARD, 0, T, [plan_passes(lengths, T, truncation, layer.sizes, clipped) for layer in layers])]


def forget_plans() -> None:
    """Empty the caches of plans and of their passes."""
    _full_back.cache_clear()
    forget_passes()


def plan_checkpoints(schedule: Schedule, T: int) -> Iterator[Action]:
    """The actions of a forward call within a memory budget: a checkpoint before each of the longest stretches."""
    for start in range(0, T, schedule.stretch):
        yield Action(SAVE)
        yield from _advance(schedule, start, min(T, start + schedule.stretch))


def plan_segments(cell: Any, lengths: Array, schedule: Schedule, T: int) -> Iterator[Action]:
    """The actions of the backward call over those checkpoints, the last stretch first."""
    for start in reversed(range(0, T, schedule.stretch)):
        yield Action(RESTORE)
        yield from _back(cell, lengths, schedule, start, min(T, start + schedule.stretch), schedule.levels - 1)


def _advance(schedule: Schedule, start: int, stop: int) -> Iterator[Action]:
    for at in range(start, stop, schedule.segment):
        yield Action(FORWARD, at, min(stop, at + schedule.segment))


def _back(cell: Any, lengths: Array, schedule: Schedule, start: int, stop: int, level: int) -> Iterator[Action]:
    """Back through steps stop … start+1, whose first state is the current one."""
    if level == 0:
        yield Action(FORWARD, start, stop)
        yield full_back(cell, lengths, start, stop)
        return
    size = schedule.segment * schedule.branching ** (level - 1)
    parts = list(range(start, stop, size))
    for at in parts[:-1]:
        yield Action(SAVE)
        yield from _advance(schedule, at, at + size)
    yield from _back(cell, lengths, schedule, parts[-1], stop, level - 1)
    for at in reversed(parts[:-1]):
        yield Action(RESTORE)
        yield from _back(cell, lengths, schedule, at, at + size, level - 1)
