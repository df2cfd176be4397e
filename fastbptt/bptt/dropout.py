"""Dropout between the layers of a stack."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array


def draw_mask(cell: Any, seed: int | None, layer: int, shape: tuple[int, ...], start: int = 0) -> Array | None:
    """Which outputs (n, B, H) of a layer reach the next, for n steps after `start`; None: all."""
    if seed is None or cell.dropout == 0 or layer == len(cell.layers) - 1:
        return None
    bits = np.random.PCG64([seed, layer]).advance(start * shape[1] * shape[2])      # past the numbers of earlier steps
    return np.asarray(np.random.Generator(bits).random(shape) >= cell.dropout)


def dropped(cell: Any, array: Array, mask: Array | None) -> Array:
    """array ⊙ m."""
    if mask is None:
        return array
    result = np.where(mask, array, array.dtype.type(0))
    result *= array.dtype.type(1 / (1 - cell.dropout))
    return result
