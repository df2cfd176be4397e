"""Truncation as data: Williams & Peng's BPTT(h; s), its ends, and the passes of a call."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..cells.protocol import Passes
from ..cells.scan import descending
from ..engine.jit import njit
from ..engine.shards import shard_count
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


@njit
def _passes_of(length, horizon, stride):
    """How many passes a sequence has."""
    return 0 if length == 0 else 1 if horizon >= length else (length + stride - 1) // stride


@njit
def _write_passes(rows, m, b, length, horizon, stride):
    """The passes of one sequence into rows[m:]; returns the row after them."""
    for i in range(_passes_of(length, horizon, stride)):
        end = length if horizon >= length else min((i + 1) * stride, length)
        rows[m, 0], rows[m, 1] = b, end
        rows[m, 2] = 0 if horizon >= length else i * stride
        rows[m, 3] = max(0, end - horizon)
        m += 1
    return m


@njit
def plan_passes(lengths, horizon, stride, hidden):
    """The passes of a call and their shards, from the lengths of its sequences.

    Where passes overlap (s < h < T), all passes of a sequence are in one shard. Full BPTT deals the sequences out, longest
    first; chunks are cut into equal shards wherever they lie.

    Parameters
    ----------
    lengths : (B,) int64
    horizon, stride : int
        For full BPTT any horizon ≥ max(lengths).
    hidden : int
        H, which decides how many rows make a shard worth while.
    """
    B = lengths.size
    longest, total = 0, 0
    for b in range(B):
        longest = max(longest, lengths[b])
        total += _passes_of(lengths[b], horizon, stride)
    overlap = stride < horizon < longest
    rows = np.empty((total, 4), np.int64)
    chunks = stride == horizon < longest
    shards = shard_count(total if chunks else B, hidden)
    bounds = np.zeros(shards + 1, np.int64)
    m = 0
    if chunks:
        for b in range(B):
            m = _write_passes(rows, m, b, lengths[b], horizon, stride)
        for s in range(shards):
            bounds[s + 1] = total * (s + 1) // shards
    else:
        order = descending(lengths)
        for s in range(shards):
            for i in range(s, B, shards):
                m = _write_passes(rows, m, order[i], lengths[order[i]], horizon, stride)
            bounds[s + 1] = m
    return Passes(rows, bounds, overlap)
