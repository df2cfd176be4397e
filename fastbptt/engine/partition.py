"""How a call is cut into independent pieces: by the shapes alone, never by the number of threads.

A shard is a set of rows (sequences, or passes of truncated BPTT) that goes through the whole of its call by itself: its
own states, its own partial sums, added afterwards in the order of the shards. So the results have the same bits for one
thread and for many.
"""
from __future__ import annotations

from .jit import jitable
from .primitives import maximum, minimum

MAX_SHARDS = 8
LEAST_ROWS = 4             # rows that make a shard: fewer leave the registers of a product half empty
BLOCK_FLOATS = 32_768      # floats of one working buffer of a block of steps: 128 KiB, a quarter of a usual L2
MIN_BLOCK_ROWS = 256       # rows of a block at least: the sums over rows reload C once per block


@jitable
def shard_count(rows, hidden):
    """Shards for `rows` rows: enough rows in each that reading the weights once per step is paid for."""
    least = LEAST_ROWS if hidden <= 160 else 8 if hidden <= 320 else 32
    return maximum(1, minimum(MAX_SHARDS, rows // least))


@jitable
def block_rows(width):
    """Rows (steps times sequences) of one block, whose working rows are `width` floats wide."""
    return maximum(MIN_BLOCK_ROWS, BLOCK_FLOATS // width)
