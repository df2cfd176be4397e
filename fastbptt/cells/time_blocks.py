"""How a scan is cut: rows into shards, time into blocks of steps, and what is done for a block or a step into parts."""
from __future__ import annotations

from typing import NamedTuple

from ..engine.jit import jitable, njit
from ..engine.partition import block_rows
from ..engine.pool import limit_of
from ..engine.primitives import maximum, minimum

PASS_ROWS = 64       # rows that step back together: their errors stay in the first-level cache
STEP_FLOPS = 3e5     # of the product of a step: less is not worth meeting at every step for (docs/performance.md)


class Team(NamedTuple):
    """The threads that share what a shard does: so many parts, on a pool; (1, 0) where other threads have other shards.

    No bit of a result depends on the number of parts.
    """

    parts: int
    pool: int


@njit
def team_of(shards, d, pool):
    """The team for the shards of a scan: where there are more threads than shards, these come one after the other."""
    threads = limit_of(pool)
    if threads > shards and 2.0 * ((d.B + shards - 1) // shards) * d.row * d.Hp >= STEP_FLOPS:
        return Team(threads, pool)
    return Team(1, 0)


@jitable
def longest_of(batch):
    """Steps of the longest sequence."""
    return batch.lengths[batch.order[0]]


@jitable
def shard_rows(shard, shards, rows, equal):
    """(first, by, count): which of the rows, longest first, a shard has, every `by`-th from the first one on.

    Of equal length, neighbours: their steps lie side by side, while rows a power of two apart would share few sets of the
    cache. Else every shard has long ones and short ones.
    """
    if equal:
        first = (rows * shard + shards - 1) // shards      # the larger shards first: they are begun first
        return first, 1, (rows * (shard + 1) + shards - 1) // shards - first
    return shard, shards, (rows - shard + shards - 1) // shards


@jitable
def block_steps(rows, d):
    """Steps of a block of full scans in which the largest shard has so many rows: what a segment has to be a multiple of.

    A power of two, so that the largest of a stack's layers is a multiple of the others.
    """
    steps = 1
    while 2 * steps * minimum(rows, PASS_ROWS) <= product_rows(d):
        steps *= 2
    return steps


@jitable
def product_rows(d):
    """Rows over which products go at once, at most: their buffers stay in the second-level cache."""
    return block_rows(d.row + maximum(d.x_row, d.Hp))


@jitable
def cut_rows(rows, most):
    """Into how many equal parts so many rows are cut, none larger than `most`."""
    return maximum(1, (rows + most - 1) // most)
