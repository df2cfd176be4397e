"""Single values: integers, numbers, names, flags, dtypes."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def check_integer(name: str, value: Any, least: int, remedy: str) -> int:
    """`value` as an int ≥ least; a bool is not an integer."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected an integer, got {value!r}; {remedy}")
    if value < least:
        raise ValueError(f"{name}: expected an integer of at least {least}, got {value}; {remedy}")
    return int(value)


def check_size(name: str, value: Any) -> int:
    """A number of units, at least 1."""
    return check_integer(name, value, 1, "pass a number of units")


def check_up_to(name: str, value: Any, most: int, what: str) -> int:
    """An integer in 1 … most."""
    number = check_integer(name, value, 1, f"pass {what}")
    if number > most:
        raise ValueError(f"{name}: expected an integer in 1 … {most}, got {value}; pass {what}")
    return number


def check_number(name: str, value: Any) -> float:
    """A finite real number."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: expected a real number, got {value!r}")
    if not np.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value}")
    return float(value)


def check_positive(name: str, value: Any) -> float:
    """A finite number above 0."""
    number = check_number(name, value)
    if number <= 0:
        raise ValueError(f"{name}: expected a number above 0, got {value}")
    return number


def check_fraction(name: str, value: Any) -> float:
    """A number in 0 ≤ value < 1."""
    number = check_number(name, value)
    if not 0 <= number < 1:
        raise ValueError(f"{name}: expected 0 ≤ {name} < 1, got {value}")
    return number


def check_confidence(value: Any) -> float:
    """A probability between 0 and 1."""
    value = check_number("confidence", value)
    if not 0 < value < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, got {value}; pass such as 0.9")
    return float(value)


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """One of the names in `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def check_flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def check_dtype(name: str, value: Any) -> np.dtype[Any]:
    """float32 or float64, in native byte order."""
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except TypeError:
        raise TypeError(f"{name}: expected float32 or float64, got {value!r}") from None
    if value is None or dtype not in FLOATS:
        raise ValueError(f"{name}: expected float32 or float64, got {value!r}")
    return dtype


def check_text(name: str, value: Any) -> str:
    """A str."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a str, got {type(value).__name__}")
    return value
