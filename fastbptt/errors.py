"""The only file that rejects input: every check names the argument, the expected and the given, and a remedy."""
from __future__ import annotations

from typing import Any

import numpy as np


def check_integer(name: str, value: Any, least: int, remedy: str) -> int:
    """`value` as an int ≥ least; a bool is not an integer."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected an integer, got {value!r}; {remedy}")
    if value < least:
        raise ValueError(f"{name}: expected an integer of at least {least}, got {value}; {remedy}")
    return int(value)


def check_truncation(horizon: Any, stride: Any) -> tuple[int, int]:
    """Integers with horizon ≥ stride ≥ 1."""
    horizon = check_integer("horizon", horizon, 1, "pass the number of steps that a pass goes back")
    stride = check_integer("stride", stride, 1, "pass the number of steps between passes")
    if stride > horizon:
        raise ValueError(f"stride: expected at most the horizon {horizon}, got {stride}; every error must be covered by a pass")
    return horizon, stride
