"""Settings of the standard tasks."""
from __future__ import annotations

from typing import Any

import numpy as np

from .values import check_number, check_positive


def check_rate(name: str, value: Any) -> float:
    """A probability that is not 0."""
    number = check_number(name, value)
    if not 0 < number <= 1:
        raise ValueError(f"{name}: expected 0 < {name} ≤ 1, got {value}; pass a probability")
    return number


def check_periods(shortest: Any, longest: Any) -> np.ndarray[Any, Any]:
    """The longest and the shortest period of a range, in this order: that of rising frequency."""
    low, high = check_positive("shortest", shortest), check_positive("longest", longest)
    if low > high:
        raise ValueError(f"longest: expected a period of at least shortest={shortest}, got {longest}; exchange them")
    return np.array([high, low])
