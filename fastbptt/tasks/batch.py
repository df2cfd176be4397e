"""What a task returns."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..errors import check_integer, check_size


class TaskBatch(NamedTuple):
    """Sequences of a task, as `fit` takes them.

    For the mean loss of the counted steps, give it ``{**batch._asdict(), "reduction": "mean"}``.
    """

    x: Array
    """Ids (T, B), or real (T, B, I)."""
    y: Array
    """Ids (T, B), or real (T, B, O)."""
    weights: Array
    """(T, B), 1 where the answer counts, else 0."""


def begin(batch: Any, seed: Any) -> tuple[int, np.random.Generator]:
    """B, and the generator of a batch."""
    return check_size("batch", batch), np.random.default_rng(check_integer("seed", seed, 0, "pass another one for every batch"))


def counted(steps: int, batch: int, first: int, dtype: Any = np.float32) -> Array:
    """(T, B) weights: 1 from step `first` on."""
    weights = np.zeros((steps, batch), dtype)
    weights[first:] = 1
    return weights
