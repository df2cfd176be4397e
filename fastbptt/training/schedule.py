"""Learning-rate schedules: functions from the number of an update to a factor of the learning rate."""
from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import check_integer, check_positive


@dataclass(frozen=True)
class Cosine:
    """Factor of update k = 1, 2, …: k / warmup up to k = warmup, then half a cosine from 1 to `floor` at k = steps, and `floor`.

    Parameters
    ----------
    steps : int
        Updates until the factor reaches its floor.
    warmup : int, default 0
        Updates of linear growth, below `steps`.
    floor : float, default 0.05
        Above 0.

    Examples
    --------
    >>> import fastbptt as fb
    >>> schedule = fb.Cosine(steps=10, warmup=2, floor=0.1)
    >>> [round(schedule(k), 2) for k in (1, 2, 6, 10, 20)]
    [0.5, 1.0, 0.55, 0.1, 0.1]

    References
    ----------
    I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.
    """

    steps: int
    warmup: int = 0
    floor: float = 0.05

    def __post_init__(self) -> None:
        check_positive("floor", self.floor)
        check_integer("warmup", self.warmup, 0, "pass the number of updates of growth")
        check_integer("steps", self.steps, self.warmup + 1, "pass a number of updates above warmup")

    def __call__(self, number: int) -> float:
        """The factor of update `number`, the first being 1."""
        if number < self.warmup:
            return number / self.warmup
        spent = min(1.0, (number - self.warmup) / (self.steps - self.warmup))
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * spent))
