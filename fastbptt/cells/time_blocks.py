"""How a scan is cut in time: blocks of steps, and pieces of a block for the products of a single shard."""
from __future__ import annotations

from typing import Any, NamedTuple

from ..engine.jit import jitable
from ..engine.partition import block_rows
from ..engine.primitives import maximum, minimum

PASS_ROWS = 64       # rows that step back together: their errors stay in the first-level cache
TIME_PIECES = 4      # pieces of time among which the products of a single shard are dealt out
TIME_ROWS = 1024     # steps times rows between two such deals
TIME_FLOPS = 4e6     # of the products of a call: less is not worth the wait for other threads (docs/performance.md)


class TimePieces(NamedTuple):
    """The products of a block of steps: so many pieces of time, on the threads of a pool (0: the shard's own)."""

    number: int
    pool: int


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
def time_pieces(shards, longest, d, pool):
    """Of a single shard, whose steps have to wait for each other, all threads do the products if these are worth the wait.

    Depends on the longest sequence as a whole, so that a call over a segment of the steps adds up the same.
    """
    if shards == 1 and 2.0 * longest * d.B * d.row * (d.Hp + 2 * d.I) >= TIME_FLOPS:
        return TimePieces(TIME_PIECES, pool)
    return TimePieces(1, 0)


@jitable
def block_steps(pieces, rows, d):
    """Steps of a block of full scans in which the largest shard has so many rows: what a segment has to be a multiple of.

    A power of two, so that one number is a multiple for all layers of a stack.
    """
    most = TIME_ROWS if pieces.number > 1 else block_rows(d.row + maximum(d.x_row, d.Hp))
    steps = 1
    while 2 * steps * minimum(rows, PASS_ROWS) <= most:
        steps *= 2
    return steps


class Block(NamedTuple):
    """The first `filled` rows of `work`, which a shard of a job deals out in pieces."""

    shard: int
    filled: int
    work: Any
    job: Any
