"""Truncation as data: Williams & Peng's BPTT(h; s), its ends, and the passes of a call."""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..arrays import Array
from ..cells.protocol import Passes
from ..cells.rows import PASS_ROWS, descending
from ..engine.jit import njit
from ..engine.primitives import empty, maximum, minimum, zeros
from ..engine.shards import MAX_SHARDS, shard_count
from ..errors import check_truncation


@dataclass(frozen=True)
class Truncation:
    """Truncated backpropagation through time, BPTT(h; s): after every `stride` steps, back over `horizon` steps.

    Ends are the multiples of s below T, and T itself. At end e, with p the end before it (0 at the first), the errors
    injected at steps p+1 … e go back through steps max(1, e−h+1) … e:

        ∂L/∂W ≈ Σ_e Σ_{k = max(1, e−h+1)}^{e} Σ_{t = max(p+1, k)}^{e} (∂L_t/∂h_t) (∂h_t/∂h_k) (∂⁺h_k/∂W)

    What would leave step e−h+1 > 1 backwards is dropped, what leaves step 1 is added to the gradient of the initial
    state. The forward pass is always exact. With lengths, T is the sequence's own length.

    Parameters
    ----------
    horizon : int
        h, the steps one pass goes back; h ≥ T is full BPTT.
    stride : int, default 1
        s, the steps between passes, 1 ≤ s ≤ h. s = 1: a sliding window, every loss reaches h steps back. s = h: chunks.

    Raises
    ------
    TypeError, ValueError
        If they are not integers with horizon ≥ stride ≥ 1.

    Examples
    --------
    >>> import fastbptt as fb
    >>> fb.Truncation(horizon=3, stride=2).passes(5)
    [(2, 0, 0), (4, 2, 1), (5, 4, 2)]
    >>> fb.Truncation.chunks(3)
    Truncation(horizon=3, stride=3)

    References
    ----------
    R. J. Williams and J. Peng, "An efficient gradient-based algorithm for on-line training of recurrent network
    trajectories", Neural Computation 2(4), 1990.
    """

    horizon: int
    stride: int = 1

    def __post_init__(self) -> None:
        horizon, stride = check_truncation(self.horizon, self.stride)
        object.__setattr__(self, "horizon", horizon)
        object.__setattr__(self, "stride", stride)

    @classmethod
    def chunks(cls, k: int) -> Truncation:
        """Truncation(k, k): disjoint chunks of k steps, what frameworks get by detaching the state every k steps."""
        return cls(k, k)

    def passes(self, length: int) -> list[tuple[int, int, int]]:
        """(end e, the end before it p, stop max(0, e−h)) of every pass over a sequence of `length` steps."""
        if self.horizon >= length:
            return [(length, 0, 0)]
        ends = [*range(self.stride, length, self.stride), length]
        return [(e, p, max(0, e - self.horizon)) for p, e in zip([0, *ends[:-1]], ends, strict=True)]

    def groups(self, lengths: Array, apart: bool = False) -> list[Array]:
        """The passes over sequences of these lengths, in groups inside which no step belongs to two passes.

        `apart`: passes that all reach step 1 are not made one (see `plan_passes`).

        Every ⌈h/s⌉-th end is in one group; an end that is nearer to its predecessors, as the last may be, is in a group of
        its own. Each group is (n, 4) int64 rows as `Passes` has them, by sequence.
        """
        count = -(-min(self.horizon, int(lengths.max())) // self.stride)
        rows: list[list[Array]] = [[] for _ in range(count + 1)]
        for b, length in enumerate(lengths.tolist()):
            ends = np.append(np.arange(self.stride, length if self.horizon < length or apart else 0, self.stride), length)
            starts = np.maximum(0, ends - self.horizon)
            group = np.arange(ends.size) % count
            if ends.size > count and ends[-1 - count] > starts[-1]:
                group[-1] = count
            passes = np.stack([np.full(ends.size, b), ends, np.append(0, ends[:-1]), starts], axis=1)
            for g in np.unique(group):
                rows[g].append(passes[group == g])
        return [np.ascontiguousarray(np.concatenate(part), np.int64) for part in rows if part]


class Plan(NamedTuple):
    """Which passes a backward call makes: those of BPTT(horizon; stride), or where there are any the given rows."""

    horizon: int
    stride: int
    rows: Array
    """(n, 4) int64 as in `Passes`, by sequence; no step may belong to two of them."""


NO_ROWS: Array = np.empty((0, 4), np.int64)


@njit(forceinline=True)
def _write(rows, m, b, end, before, stop):
    """Row m: a pass of sequence b."""
    rows[m, 0], rows[m, 1], rows[m, 2], rows[m, 3] = b, end, before, stop
    return m + 1


@njit(allocates=True)
def plan_full(lengths, start, T, hidden):
    """One pass for every sequence, dealt out longest first: a unit for every shard. The T steps may begin after step `start`."""
    order = descending(lengths)
    shards = shard_count(order.size, hidden)
    rows, bounds = empty((order.size, 4), np.int64), zeros(shards + 1, np.int64)
    m = 0
    for s in range(shards):
        for i in range(s, order.size, shards):
            m = _write(rows, m, order[i], minimum(maximum(lengths[order[i]] - start, 0), T), 0, 0)
        bounds[s + 1] = m
    return Passes(rows, bounds, shards, True, False)


@njit(allocates=True)
def _plan_chunks(lengths, k, longest):
    """Chunks of k steps, last first; a unit has a few successive chunks of all sequences.

    Where k does not divide the length, the pass from the last step reaches back into the last whole chunk, so it is in
    the same unit: what two passes add to one step is added in a fixed order.
    """
    B = lengths.size
    chunks = maximum(1, longest // k)
    together = maximum(1, minimum(PASS_ROWS // B, chunks // MAX_SHARDS))
    units = (chunks + together - 1) // together
    rows, bounds = empty((2 * chunks * B, 4), np.int64), zeros(units + 1, np.int64)
    m = 0
    for unit in range(units):
        first = (units - 1 - unit) * together
        for c in range(minimum(first + together, chunks) - 1, first - 1, -1):
            for b in range(B):
                length = lengths[b]
                if maximum(1, length // k) == c + 1 and length % k > 0:
                    m = _write(rows, m, b, length, length // k * k, maximum(0, length - k))
                if (c + 1) * k <= length:
                    m = _write(rows, m, b, (c + 1) * k, c * k, c * k)
        bounds[unit + 1] = m
    return Passes(rows[:m], bounds, minimum(MAX_SHARDS, units), False, False)


@njit(allocates=True)
def _plan_overlapping(lengths, horizon, stride, apart):
    """All ends of every sequence, cut into units long enough that reaching back before their own steps costs little."""
    ends = maximum(PASS_ROWS, (4 * horizon + stride - 1) // stride)
    total, units = 0, 0
    for length in lengths:
        n = 1 if length <= horizon and not apart else (length + stride - 1) // stride
        total += n
        units += (n + ends - 1) // ends
    rows, bounds = empty((total, 4), np.int64), zeros(units + 1, np.int64)
    m, unit = 0, 0
    for b in range(lengths.size):
        length = lengths[b]
        n = 1 if length <= horizon and not apart else (length + stride - 1) // stride
        for i in range(n):
            end = length if n == 1 else minimum((i + 1) * stride, length)
            m = _write(rows, m, b, end, i * stride, maximum(0, end - horizon))
            if (i + 1) % ends == 0 or i + 1 == n:
                unit += 1
                bounds[unit] = m
    return Passes(rows, bounds, minimum(MAX_SHARDS, units), False, True)


@njit(allocates=True)
def plan_steps(lengths, start, T, horizon, stride, hidden, apart):
    """`plan_passes` by the lengths alone."""
    longest = 0
    for length in lengths:
        longest = maximum(longest, length)
    if horizon >= longest and (stride >= longest or not apart):
        return plan_full(lengths, start, T, hidden)
    if stride == horizon:
        return _plan_chunks(lengths, horizon, longest)
    return _plan_overlapping(lengths, minimum(horizon, longest), stride, apart)


@njit(allocates=True)
def plan_passes(batch, T, horizon, stride, hidden, apart=False):
    """The passes of a call, their units and shards, from the lengths of its sequences.

    Parameters
    ----------
    batch : Batch
    T : int
        Steps of its arrays. Full BPTT may be cut into segments, which begin after step batch.start; truncated may not.
    horizon, stride : int
        For full BPTT any horizon ≥ max(lengths).
    hidden : int
        H, which decides how many rows make a shard worth while.
    apart : bool
        Passes that all reach step 1 add up to a single one, unless what they carry is clipped: then they stay apart.
    """
    return plan_steps(batch.lengths, batch.start, T, horizon, stride, hidden, apart)


@njit(allocates=True)
def given_passes(rows, hidden):
    """Passes no two of which share a step, in equal units."""
    n = rows.shape[0]
    shards = shard_count(n, hidden)
    units = maximum(shards, (n + PASS_ROWS - 1) // PASS_ROWS)
    bounds = empty(units + 1, np.int64)
    for unit in range(units + 1):
        bounds[unit] = n * unit // units
    return Passes(rows, bounds, shards, False, False)
