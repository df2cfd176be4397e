"""Arrays: what is read as one, of which shape and dtype."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import canonical
from .values import FLOATS

READABLE_KINDS = "fiu"


def shape_text(shape: Sequence[Any]) -> str:
    """A shape as it is written in messages."""
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def _expected(shape: Sequence[Any], owner: Any) -> str:
    return f"expected {shape_text(shape)}{f' for {owner}' if owner is not None else ''}"


def as_array(name: str, value: Any, expected: str) -> np.ndarray[Any, Any]:
    """`value` as an array of numbers, or a clear error: no None, objects, strings, dates, booleans, complex or masked arrays."""
    if value is None:
        raise TypeError(f"{name}: {expected}, got None; pass an array of numbers")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: {expected}, got a masked array; pass plain numbers, and lengths or weights for what is missing")
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name}: {expected}, got nested lists of unequal lengths; pad them (see fastbptt.pad)") from None
    if array.dtype.kind not in READABLE_KINDS:
        raise TypeError(f"{name}: {expected}, got an array of {array.dtype}; convert it to float32 or float64 first")
    if array.dtype.kind == "f" and array.dtype.newbyteorder("=") not in FLOATS:
        raise TypeError(f"{name}: {expected}, got {array.dtype}; convert it to float32 or float64 first")
    return array


def check_array(name: str, value: Any, shape: tuple[Any, ...], dtype: np.dtype[Any], owner: Any = None) -> np.ndarray[Any, Any]:
    """A real array of this shape and dtype in canonical form; nested lists are converted, arrays of other types refused.

    A letter in `shape` stands for any size of at least 1; `owner` is what the shape follows from, for the message.
    """
    if type(value) is np.ndarray and value.dtype is dtype and value.shape == shape and value.size and value.flags.carray:
        return value
    if type(value) is not np.ndarray or value.dtype is not dtype:
        is_array = isinstance(value, np.ndarray)
        value = as_array(name, value, _expected(shape, owner))
        if value.dtype.kind != "f" and is_array:
            raise TypeError(f"{name}: expected {dtype}, got an array of {value.dtype}; use {name}.astype('{dtype}')")
        if is_array and value.dtype.newbyteorder("=") != dtype:
            raise TypeError(f"{name}: expected {dtype} like the parameters, got {value.dtype}; use {name}.astype('{dtype}')")
    if len(value.shape) != len(shape) or any(isinstance(n, int) and n != m for n, m in zip(shape, value.shape, strict=True)):
        raise ValueError(f"{name}: {_expected(shape, owner)}, got {shape_text(value.shape)}")
    if value.size == 0:
        raise ValueError(f"{name}: {_expected(shape, owner)} with at least one step and one sequence, "
                         f"got {shape_text(value.shape)}")
    return canonical(value, dtype)
