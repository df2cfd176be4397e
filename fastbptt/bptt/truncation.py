"""Truncation as data: Williams & Peng's BPTT(h; s) and its ends."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from ..errors import check_truncation


@dataclass(frozen=True)
class Truncation:
    """Truncated backpropagation through time, BPTT(h; s): after every `stride` steps, back over `horizon` steps.

    Ends are the multiples of s below T, and T itself. At end e, with p the end before it (0 at the first), the errors
    injected at steps p+1 … e go back through steps max(1, e−h+1) … e:

        ∂L/∂W ≈ Σ_e Σ_{k = max(1, e−h+1)}^{e} Σ_{t = max(p+1, k)}^{e} (∂L_t/∂h_t) (∂h_t/∂h_k) (∂⁺h_k/∂W)

    What would leave step e−h+1 > 1 backwards is dropped; what leaves step 1 is added to the gradient of the initial
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
        return [(end, before, stop) for end, before, stop in windows(length, self).tolist()]

    def groups(self, lengths: Array, separate: bool = False) -> list[Array]:
        """The passes over sequences of these lengths, (n, 4), in groups within which no step belongs to two passes.

        Every ⌈h/s⌉-th end is in one group; an end closer to its predecessors, as the last may be, has a group of its own.
        A row is (sequence, end, the end before it, stop); for `separate` see `windows`.
        """
        count = -(-min(self.horizon, int(lengths.max())) // self.stride)
        groups: list[list[Array]] = [[] for _ in range(count + 1)]
        for own in passes_by_sequence(lengths, self, separate):
            group = np.arange(len(own)) % count
            if len(own) > count and own[-1 - count, 1] > own[-1, 3]:
                group[-1] = count
            for g in np.unique(group):
                groups[g].append(own[group == g])
        return [np.concatenate(part) for part in groups if part]


FULL = Truncation(2**62, 2**62)


def windows(length: int, truncation: Truncation, separate: bool = False) -> Array:
    """(n, 3) int64: end, the end before it, and stop of every pass over a sequence of `length` steps.

    If the horizon covers the whole sequence, a single pass takes all errors, unless `separate`.
    """
    horizon, stride = min(truncation.horizon, length), min(truncation.stride, length)
    if horizon == length and not separate:
        stride = length
    previous = np.arange(0, length, stride)
    end = np.minimum(previous + stride, length)
    return np.stack([end, previous, np.maximum(0, end - horizon)], axis=1)


def passes_by_sequence(lengths: Array, truncation: Truncation, separate: bool = False) -> Iterator[Array]:
    """For every sequence its passes, (n, 4) int64: sequence, end, the end before it and stop."""
    for b, length in enumerate(lengths.tolist()):
        own = windows(length, truncation, separate)
        yield np.column_stack([np.full(len(own), b), own])


def passes_of_all(lengths: Array, truncation: Truncation, separate: bool = False) -> Array:
    """(n, 4) int64: sequence, end, the end before it and stop of every pass over sequences of these lengths, in any order."""
    found = []
    for length in np.unique(lengths):
        own, sequences = windows(int(length), truncation, separate), np.flatnonzero(lengths == length)
        found.append(np.column_stack([np.repeat(sequences, len(own)), np.tile(own, (len(sequences), 1))]))
    return np.concatenate(found)
