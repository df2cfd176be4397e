"""Sequences of different length: padding, cutting, lengths."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import check_integer


def pad(sequences: Sequence[Sequence[Any]], max_len: int | None = None, value: int = 0) -> tuple[Array, Array]:
    """Sequences of ids as one time-major array and their lengths; longer ones are cut to max_len.

    Parameters
    ----------
    sequences : list of sequences of integers, none empty
    max_len : int, optional
        T; the longest sequence by default.
    value : int, default 0
        What stands in the padding. It is never read.

    Returns
    -------
    ids (T, B), lengths (B,)

    Raises
    ------
    ValueError
        If there is no sequence, or one of them is empty.

    Examples
    --------
    >>> import fastbptt as fb
    >>> ids, lengths = fb.pad([[43, 96, 2, 78, 43], [11, 51, 9, 52, 6, 1, 75, 29]], max_len=7)
    >>> ids.T
    array([[43, 96,  2, 78, 43,  0,  0],
           [11, 51,  9, 52,  6,  1, 75]])
    >>> lengths
    array([5, 7])
    """
    sizes = [len(s) for s in sequences]
    if not sizes or min(sizes) == 0:
        raise ValueError("sequences: expected at least one sequence and none of length 0; leave empty ones out")
    T = max(sizes) if max_len is None else check_integer("max_len", max_len, 1, "pass the number of steps to keep")
    ids = np.full((T, len(sizes)), value, np.int64)
    lengths = np.minimum(sizes, T)
    for b, sequence in enumerate(sequences):
        ids[:lengths[b], b] = sequence[:T]
    return ids, lengths
