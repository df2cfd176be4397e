"""Truncation as data: Williams & Peng's BPTT(h; s), its ends, and the passes of a call."""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..arrays import Array, Batch, longest_first
from ..cells.protocol import Passes
from ..cells.rows import PASS_ROWS
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
        return [(end, before, stop) for end, before, stop in _windows(length, self.horizon, self.stride).tolist()]

    def groups(self, lengths: Array, apart: bool = False) -> list[Array]:
        """The passes over sequences of these lengths, in groups inside which no step belongs to two passes.

        `apart`: passes that all reach step 1 are not made one (see `plan_passes`).

        Every ⌈h/s⌉-th end is in one group; an end that is nearer to its predecessors, as the last may be, is in a group of
        its own. Each group is (n, 4) int64 rows as `Passes` has them, by sequence.
        """
        count = -(-min(self.horizon, int(lengths.max())) // self.stride)
        rows: list[list[Array]] = [[] for _ in range(count + 1)]
        for b, length in enumerate(lengths.tolist()):
            windows = _windows(length, self.horizon, self.stride, apart)
            group = np.arange(len(windows)) % count
            if len(windows) > count and windows[-1 - count, 0] > windows[-1, 2]:
                group[-1] = count
            passes = np.column_stack([np.full(len(windows), b), windows])
            for g in np.unique(group):
                rows[g].append(passes[group == g])
        return [np.ascontiguousarray(np.concatenate(part), np.int64) for part in rows if part]


FULL = Truncation(2**62, 2**62)


def _windows(length: int, horizon: int, stride: int, apart: bool = False) -> Array:
    """(n, 3): end, the end before it, and stop of the passes over a sequence; `apart` as in `plan_passes`."""
    horizon, stride = min(horizon, length), min(stride, length)
    gap = stride if horizon < length or apart else length
    before = np.arange(0, length, gap)
    end = np.minimum(before + gap, length)
    return np.stack([end, before, np.maximum(0, end - horizon)], axis=1)


def _in_units(rows: Array, unit: Array, shards: int | None = None, full: bool = False, overlap: bool = False) -> Passes:
    """The passes sorted by unit, in each those over most steps first: as time goes back, those under way are the first n."""
    order = np.lexsort((rows[:, 3] - rows[:, 1], unit))
    bounds = np.append(0, np.cumsum(np.bincount(unit)))
    units = bounds.size - 1
    return Passes(np.ascontiguousarray(rows[order]), bounds, min(MAX_SHARDS, units) if shards is None else shards, full, overlap)


def _plan_full(lengths: Array, start: int, T: int, hidden: int) -> Passes:
    """One pass for every sequence, dealt out longest first: a unit for every shard. The T steps may begin after step `start`."""
    order = longest_first(lengths)
    shards = shard_count.py_func(order.size, hidden)
    rows = np.zeros((order.size, 4), np.int64)
    rows[:, 0], rows[:, 1] = order, np.clip(lengths[order] - start, 0, T)
    return _in_units(rows, np.arange(order.size) % shards, shards, full=True)


def _plan_chunks(lengths: Array, k: int) -> Passes:
    """Chunks of k steps, last first; a unit has a few successive chunks of all sequences.

    Where k does not divide the length, the pass from the last step reaches back into the last whole chunk, so it is in
    the same unit: what two passes add to one step is added in a fixed order.
    """
    chunks = max(1, int(lengths.max()) // k)
    together = max(1, min(PASS_ROWS // lengths.size, chunks // MAX_SHARDS))
    chunk = np.arange(chunks)[::-1, None]
    last = np.maximum(1, lengths // k) - 1
    rest, whole = (chunk == last) & (lengths % k > 0), (chunk + 1) * k <= lengths
    b = np.broadcast_to(np.arange(lengths.size), whole.shape)
    end = np.stack([np.broadcast_to(lengths, whole.shape), np.broadcast_to((chunk + 1) * k, whole.shape)], axis=2)
    before = np.stack([np.broadcast_to(lengths // k * k, whole.shape), end[..., 1] - k], axis=2)
    rows = np.stack([np.stack([b, b], axis=2), end, before, np.maximum(0, end - k)], axis=3)
    present = np.stack([rest, whole], axis=2)
    unit = np.broadcast_to(((chunks - 1) // together - chunk // together)[..., None], present.shape)
    return _in_units(rows[present], unit[present])


def _plan_overlapping(lengths: Array, horizon: int, stride: int, apart: bool) -> Passes:
    """All ends of every sequence, cut into units long enough that reaching back before their own steps costs little."""
    together = max(PASS_ROWS, -(-4 * horizon // stride))
    rows, unit, units = [], [], 0
    for b, length in enumerate(lengths.tolist()):
        # The last end first: of passes over as many steps, a unit's first row has the last end and its last row the first.
        windows = _windows(length, horizon, stride, apart)[::-1]
        rows.append(np.column_stack([np.full(len(windows), b), windows]))
        unit.append(units + np.arange(len(windows))[::-1] // together)
        units += -(-len(windows) // together)
    return _in_units(np.concatenate(rows), np.concatenate(unit), overlap=True)


KEPT_PASSES = 2**14      # of the largest plan that is kept for the next call, half a megabyte


@lru_cache(maxsize=16)
def planned(lengths: bytes, start: int, T: int, horizon: int, stride: int, hidden: int, apart: bool) -> Passes:
    """`plan_passes` by what it depends on."""
    steps = np.frombuffer(lengths, np.int64)
    longest = int(steps.max())
    if horizon >= longest and (stride >= longest or not apart):
        return _plan_full(steps, start, T, hidden)
    return _plan_chunks(steps, horizon) if stride == horizon else _plan_overlapping(steps, min(horizon, longest), stride, apart)


def plan_passes(batch: Batch, truncation: Truncation, hidden: int, apart: bool = False) -> Passes:
    """The passes of a call, their units and shards, from the lengths of its sequences; small plans are kept for the next call.

    Parameters
    ----------
    batch : Batch
        Full BPTT may be cut into segments, whose arrays begin after step batch.start; truncated may not.
    truncation : Truncation
    hidden : int
        H, which decides how many rows make a shard worth while.
    apart : bool
        Passes that all reach step 1 add up to a single one, unless what they carry is clipped: then they stay apart.
    """
    T, B = batch.x.shape[:2]
    plan = planned if T * B // truncation.stride <= KEPT_PASSES else planned.__wrapped__
    return plan(batch.lengths.tobytes(), batch.start, T, truncation.horizon, truncation.stride, hidden, apart)


def given_passes(rows: Array, hidden: int) -> Passes:
    """Passes no two of which share a step, in equal units."""
    n = len(rows)
    shards = shard_count.py_func(n, hidden)
    units = max(shards, -(-n // PASS_ROWS))
    return _in_units(rows, np.arange(n) * units // n, shards)
