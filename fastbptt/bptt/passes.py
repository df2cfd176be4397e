"""The passes of a backward call, in work units that run independently: by the truncation, the lengths and H alone."""
from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..arrays import Array, Passes, longest_first
from ..cells.time_blocks import PASS_ROWS, shard_rows
from ..engine.partition import MAX_SHARDS, SHARD_ROWS, most_shards, power_of_two, shard_count
from .truncation import Truncation, passes_by_sequence, passes_of_all

Sizes = tuple[int, int, int]
KEPT_PASSES = 2**14      # passes of the largest plan that is cached, half a megabyte


def _in_units(rows: Array, unit: Array, shards: int | None = None, full: bool = False, overlap: bool = False) -> Passes:
    """Passes (n, 4), as the columns of `Passes`, sorted by work unit, in each those over most steps first.

    As time goes back, those still running are then the first n.
    """
    order = np.lexsort((rows[:, 3] - rows[:, 1], unit))
    bounds = np.append(0, np.cumsum(np.bincount(unit)))
    if shards is None:
        shards = power_of_two(min(bounds.size - 1, most_shards(int((rows[:, 1] - rows[:, 3]).sum()))))
    sequence, end, previous, stop = np.ascontiguousarray(rows[order].T, np.int64)
    return Passes(sequence, end, previous, stop, bounds, shards, full, overlap)


def _full(lengths: Array, start: int, T: int, sizes: Sizes) -> Passes:
    """One pass for every sequence, one work unit per shard (`shard_rows`). The T steps may begin after step `start`."""
    order = longest_first(lengths)
    shards = shard_count(order.size, int(lengths.max()), *sizes)
    rows = np.zeros((order.size, 4), np.int64)
    rows[:, 0], rows[:, 1] = order, np.clip(lengths[order] - start, 0, T)
    unit = np.empty(order.size, np.int64)
    for shard in range(shards):
        first, by, count = shard_rows(shard, shards, order.size, bool(lengths.min() == lengths.max()))
        unit[first:first + by * count:by] = shard
    return _in_units(rows, unit, shards, full=True)


def _chunks(lengths: Array, truncation: Truncation, separate: bool) -> Passes:
    """Chunks of k steps, last first; a work unit has a few successive chunks of all sequences.

    If k does not divide the length, the pass from the last step reaches back into the last whole chunk, so it is in the
    same work unit: two passes add to one step in a fixed order.
    """
    k = truncation.horizon
    chunks = max(1, int(lengths.max()) // k)
    together = max(1, min(PASS_ROWS // lengths.size, max(-(-SHARD_ROWS // lengths.size), chunks // MAX_SHARDS)))
    rows = passes_of_all(lengths, truncation, separate)
    sequence, previous = rows[:, 0], rows[:, 2]
    last = np.maximum(1, lengths[sequence] // k) - 1
    chunk = np.minimum(previous // k, last)
    ordered = np.lexsort((-rows[:, 1], sequence, -chunk))
    return _in_units(rows[ordered], ((chunks - 1) // together - chunk // together)[ordered])


def _overlapping(lengths: Array, truncation: Truncation, separate: bool) -> Passes:
    """All ends of every sequence, in work units so long that the steps before their own, which they reach, cost little."""
    together = max(PASS_ROWS, -(-4 * min(truncation.horizon, int(lengths.max())) // truncation.stride))
    rows, unit, units = [], [], 0
    for own in passes_by_sequence(lengths, truncation, separate):
        # The last end first: passes over equally many steps stay in this order, so a unit's first pass has its last end.
        rows.append(own[::-1])
        unit.append(units + np.arange(len(own))[::-1] // together)
        units += -(-len(own) // together)
    return _in_units(np.concatenate(rows), np.concatenate(unit), overlap=True)


@lru_cache(maxsize=16)
def _planned(lengths: bytes, start: int, T: int, horizon: int, stride: int, sizes: Sizes, separate: bool) -> Passes:
    """`plan_passes`, cached by what it depends on."""
    steps, truncation = np.frombuffer(lengths, np.int64), Truncation(horizon, stride)
    longest = int(steps.max())
    if truncation.horizon >= longest and (truncation.stride >= longest or not separate):
        return _full(steps, start, T, sizes)
    plan = _chunks if truncation.stride == truncation.horizon else _overlapping
    return plan(steps, truncation, separate)


def plan_passes(lengths: Array, T: int, truncation: Truncation, sizes: Sizes, separate: bool = False,
                start: int = 0) -> Passes:
    """The passes of one scan, their work units and shards; small plans are cached.

    Parameters
    ----------
    lengths : (B,) int64
    T : int
        Steps of the arrays. Full BPTT may be cut into segments, whose arrays begin after step `start`; truncated may not.
    truncation : Truncation
    sizes : (gates, I, H)
        Of the cell: they decide how many rows make a shard worthwhile.
    separate : bool
        Keep passes separate that all reach step 1, as clipping requires; else a single pass takes all their errors.
    """
    plan = _planned if T * lengths.size // truncation.stride <= KEPT_PASSES else _planned.__wrapped__
    return plan(lengths.tobytes(), start, T, truncation.horizon, truncation.stride, sizes, separate)


def forget_passes() -> None:
    """Empty the cache of passes."""
    _planned.cache_clear()


def passes_of_group(rows: Array, sizes: Sizes) -> Passes:
    """Passes (n, 4), no two of which share a step, in equal work units."""
    n = len(rows)
    shards = shard_count(n, int((rows[:, 1] - rows[:, 3]).max()), *sizes)
    units = max(shards, -(-n // PASS_ROWS))
    return _in_units(rows, np.arange(n) * units // n, shards)


def joint_passes(lengths: Array, truncation: Truncation, sizes: list[Sizes], separate: bool) -> list[list[Passes]]:
    """Truncated passes of the joint state of several layers: for each group of ends the passes of every layer.

    The error of a pass is injected into the lower layers at all steps of its window, not only at those between its end and
    the one before.
    """
    found = []
    for rows in truncation.groups(lengths, separate):
        lower = rows.copy()
        lower[:, 2] = lower[:, 3]
        found.append([passes_of_group(lower, own) for own in sizes[:-1]] + [passes_of_group(rows, sizes[-1])])
    return found
