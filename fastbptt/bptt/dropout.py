"""Dropout between the layers of a stack."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array


def draw_kept(stack: Any, seed: int | None, layer: int, shape: tuple[int, ...], start: int = 0) -> Array | None:
    """Which outputs (n, B, H) of a layer reach the next, for n steps after `start`; None: all."""
    if seed is None or stack.dropout == 0 or layer == len(stack.cells) - 1:
        return None
    bits = np.random.PCG64([seed, layer]).advance(start * shape[1] * shape[2])      # one number for every output before
    return np.asarray(np.random.Generator(bits).random(shape) >= stack.dropout)


def dropped(stack: Any, array: Array, kept: Array | None) -> Array:
    """array ⊙ m."""
    if kept is None:
        return array
    result = np.where(kept, array, array.dtype.type(0))
    result *= array.dtype.type(1 / (1 - stack.dropout))
    return result
