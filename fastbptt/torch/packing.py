"""Packed sequences: the rows of all valid steps, one step after the other, the longest sequence first."""
from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..arrays import Array


class Packing:
    """Where the rows of a packed tensor lie in a padded one."""

    def __init__(self, batch_sizes: Array):
        steps, sequences = np.arange(len(batch_sizes))[:, None], np.arange(batch_sizes[0])
        valid = sequences < batch_sizes[:, None]
        self.shape, self.padding = valid.shape, ~valid
        self.lengths, self.order = valid.sum(axis=0), np.arange(batch_sizes[0])
        self.places = np.flatnonzero(valid)
        """(N,): of every row, its place t · B + b."""
        rows = np.cumsum(valid).reshape(valid.shape) - 1
        other = np.where(valid, self.lengths - 1 - steps, 0)
        self.mirrored = rows[other, sequences][valid]
        """(N,): of every row, the one at the same distance from the other end of its sequence."""

    def padded(self, rows: Array, reverse: bool) -> Array:
        """(T, B, ·) from packed rows, each sequence in reverse or not; padded steps hold anything, as nothing reads them."""
        T, B = self.shape
        out = np.empty((T * B, rows.shape[1]), rows.dtype)
        out[self.places] = rows[self.mirrored] if reverse else rows
        return out.reshape(T, B, -1)

    def packed(self, array: Array, reverse: bool) -> Array:
        """The opposite."""
        places = self.places[self.mirrored] if reverse else self.places
        return array.reshape(-1, array.shape[2]).take(places, axis=0)


@lru_cache(maxsize=16)
def _packing_of(batch_sizes: bytes) -> Packing:
    return Packing(np.frombuffer(batch_sizes, np.int64))


def packing_of(batch_sizes: Array) -> Packing:
    """The packing with these (T,) int64 numbers of sequences; kept for the backward pass, and for the other layers."""
    return _packing_of(batch_sizes.tobytes())
