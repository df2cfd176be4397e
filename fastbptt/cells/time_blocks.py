"""How a scan is cut in time: blocks of steps, and pieces of a block for the products of a single shard."""
from __future__ import annotations

from typing import Any, NamedTuple

from ..engine.jit import jitable
from ..engine.partition import block_rows
from ..engine.primitives import maximum, minimum

PASS_ROWS = 64       # rows that step back together: their errors stay in the first-level cache
TIME_PIECES = 4      # pieces in time into which the products of a single shard are divided
TIME_ROWS = 1024     # steps times rows of a block that is divided so
TIME_FLOPS = 4e6     # of the products of a call: less is not worth the wait for other threads (docs/performance.md)


class TimePieces(NamedTuple):
    """How the products of a block are divided: `number` pieces in time, on the threads of a pool (0: the shard's own)."""

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
    """A single shard, whose steps must wait for each other, shares its products among all threads if they are worth it.

    Depends on the whole of the longest sequence, so that a call over a segment of the steps adds in the same order.
    """
    if shards == 1 and 2.0 * longest * d.B * d.row * (d.Hp + 2 * d.I) >= TIME_FLOPS:
        return TimePieces(TIME_PIECES, pool)
    return TimePieces(1, 0)


@jitable
def block_steps(pieces, rows, d):
    """Steps of a block in a full scan whose largest shard has `rows` rows; a segment must be a multiple of it.

    A power of two, so that the largest of a stack's layers is a multiple of the others.
    """
    most = TIME_ROWS if pieces.number > 1 else block_rows(d.row + maximum(d.x_row, d.Hp))
    steps = 1
    while 2 * steps * minimum(rows, PASS_ROWS) <= most:
        steps *= 2
    return steps


class Block(NamedTuple):
    """The first `filled` rows of `work`, which a shard of a job divides into pieces."""

    shard: int
    filled: int
    work: Any
    job: Any
