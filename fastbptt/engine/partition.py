"""How a call is cut into independent pieces: by the shapes alone, never by the number of threads.

A shard is a set of rows (sequences, or passes of truncated BPTT) that goes through the whole of its call by itself: its
own states, its own partial sums, added afterwards in the order of the shards. So the results have the same bits for one
thread and for many.

Their number is a power of two: three shards on two threads, or five on four, would leave a thread idle in the last round.
Every shard reads the recurrent weights once per step and adds up gradients of its own, so each has to have rows and steps
enough to pay for that (measured: docs/performance.md).
"""
from __future__ import annotations

from .jit import jitable
from .primitives import maximum, minimum

MAX_SHARDS = 64
SMALL_FLOPS = 1_500_000    # a call of fewer is over before a second thread has woken up
SHARD_ROWS = 8             # rows of a shard, where there are more than two
LARGE_SHARD_ROWS = 16      # the same for recurrent weights that leave the second-level cache
LARGE_WEIGHTS = 2**18      # floats: 1 MiB of float32
SHARD_STEPS = 512          # rows times steps of a shard, where there are more than two
BLOCK_FLOATS = 32_768      # floats of one working buffer of a block of steps: 128 KiB, a quarter of a usual L2
MIN_BLOCK_ROWS = 256       # rows of a block at least: the sums over rows reload C once per block


@jitable
def shard_count(rows, steps, gates, inputs, hidden):
    """Shards of `rows` rows that run for up to `steps` steps, of a cell with so many gates, inputs and hidden units."""
    weights = gates * hidden * hidden
    if rows < 2 or 2.0 * rows * steps * (weights + gates * hidden * inputs) < SMALL_FLOPS:
        return 1
    least = LARGE_SHARD_ROWS if weights > LARGE_WEIGHTS else SHARD_ROWS
    return power_of_two(maximum(2, minimum(rows // least, most_shards(rows * steps))))


@jitable
def most_shards(row_steps):
    """Shards that so many rows times steps are worth, if each has at least two rows."""
    return maximum(2, minimum(MAX_SHARDS, row_steps // SHARD_STEPS))


@jitable
def power_of_two(n):
    """The largest power of two up to n, which is at least 1."""
    power = 1
    while 2 * power <= n:
        power *= 2
    return power


@jitable
def block_rows(width):
    """Rows (steps times sequences) of one block, whose working rows are `width` floats wide."""
    return maximum(MIN_BLOCK_ROWS, BLOCK_FLOATS // width)
