"""The reverse direction of a layer: each sequence's valid steps in reverse order."""
from __future__ import annotations

import numpy as np

from ..arrays import Array, Batch


def reverse_sequences(array: Array, lengths: Array) -> Array:
    """Each sequence's valid steps in reverse order, the padded ones where they were; (T, B, …). A view where none is padded."""
    T = array.shape[0]
    if lengths.min() == T:
        return array[::-1]
    t = np.arange(T)[:, None]
    return np.asarray(array[np.where(t < lengths, lengths - 1 - t, t), np.arange(array.shape[1])])


def reverse_batch(batch: Batch) -> Batch:
    """The batch in reverse. A reset before step t separates steps t−1 and t, so in reverse it comes before step t−1."""
    resets = batch.resets
    if resets.size:
        shifted = np.concatenate([resets[1:], np.zeros_like(resets[:1])])
        resets = np.ascontiguousarray(reverse_sequences(shifted, batch.lengths))
    return batch._replace(x=np.ascontiguousarray(reverse_sequences(batch.x, batch.lengths)), resets=resets)
