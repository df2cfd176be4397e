"""What the scans share: the rows that step together, and who does the products of a shard.

All rows of a scan (sequences forward, passes of BPTT backward) step together. A row's working state is dense and padded;
where its step lies in the arrays of the tape is said by an index, ``place = (t−1)·B + b`` for step t of sequence b:

- x, resets, noise, dh and the saved gates: row `place`;
- the state arrays of the tape (T+1 rows): before the step in row `place`, after it in row `place + B`.

Where a reset precedes the step, the state before it is row b of `initial`, written as the index ``−1−b``.
"""
from __future__ import annotations

from typing import Any, NamedTuple

from ..engine import simd
from ..engine.jit import njit
from ..engine.panels import gather_row
from ..engine.primitives import maximum, minimum
from ..engine.shards import block_rows

PASS_ROWS = 64       # rows that step back together: their errors stay in the first-level cache
TIME_PIECES = 4      # pieces of time among which the products of a single shard are dealt out
TIME_ROWS = 1024     # steps times rows between two such deals
TIME_FLOPS = 4e6     # of the products of a call: less is not worth the wait for other threads (docs/performance.md)


class Crew(NamedTuple):
    """Who does the products of a shard: so many pieces of time, on so many threads of `launcher` (0: the shard's own)."""

    pieces: int
    threads: int
    launcher: int


@njit
def crew_of(shards, batch, d, threads, launcher):
    """Of a single shard, whose steps have to wait for each other, all threads do the products if these are worth the wait.

    Depends on the whole lengths, so that a call over a segment of the steps adds up the same.
    """
    longest = 0
    for b in range(batch.lengths.size):
        longest = maximum(longest, batch.lengths[b])
    if shards == 1 and 2.0 * longest * d.B * d.row * (d.Hp + 2 * d.I) >= TIME_FLOPS:
        return Crew(TIME_PIECES, threads, launcher)
    return Crew(1, 1, 0)


@njit
def block_steps(crew, rows, d):
    """Steps of a block of full scans in which the largest shard has so many rows: what a segment has to be a multiple of.

    A power of two, so that one number is a multiple for all layers of a stack.
    """
    most = TIME_ROWS if crew.pieces > 1 else block_rows(d.row + maximum(d.x_row, d.Hp))
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


@njit
def load_state(state, i, source, b, dims):
    """Row i of the working states becomes row b of `source`, arrays (rows, H)."""
    for k in range(len(source)):
        gather_row(state, i * dims.state_row + k * dims.Hp, dims.Hp, simd.flat(source[k]), b * dims.H, dims.H)


@njit(forceinline=True)
def steps_here(batch, b, T):
    """How many of the T steps of these arrays sequence b takes part in."""
    return minimum(maximum(batch.lengths[b] - batch.start, 0), T)
