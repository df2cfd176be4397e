"""What a cell runs over: the input, lengths, resets, noise."""
from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..arrays import canonical
from .arrays import as_array, check_array, check_form, conversion, read_array, shape_text
from .cells import is_stack

INT64 = np.dtype(np.int64)
BOOL = np.dtype(np.bool_)


@lru_cache(maxsize=16)
def _all_steps(T: int, B: int) -> np.ndarray[Any, Any]:
    """(B,) lengths T; kept, because making them takes as long as a step of a scan."""
    return np.full(B, T, INT64)


def check_lengths(lengths: Any, T: int, B: int, name: str = "lengths") -> np.ndarray[Any, Any]:
    """(B,) int64 of integers in 1 … T; None: all of them T."""
    if lengths is None:
        steps: np.ndarray[Any, Any] = _all_steps(T, B).copy()      # a tape shows it: what its owner writes there stays there
        return steps
    array = as_array(name, lengths, f"expected {B} integers in 1 … {T}")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers, got {array.dtype}; {conversion(name, lengths, 'int64')}")
    if array.shape != (B,):
        raise ValueError(f"{name}: expected ({B},), one for each sequence, got {shape_text(array.shape)}")
    if array.min() < 1 or array.max() > T:
        raise ValueError(f"{name}: expected integers in 1 … {T}, got values from {array.min()} to {array.max()}")
    return np.array(array, INT64)      # a copy: scans trust them


def check_input(cell: Any, x: Any, dtype: np.dtype[Any], lengths: Any, name: str = "x",
                letters: tuple[str, ...] = ("T", "B")) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """x in canonical form, (T, B, I) real or (T, B) int64 ids, and the lengths; with letters ("B",) one step."""
    n = len(letters)
    well_formed = type(x) is np.ndarray and x.dtype is dtype and x.ndim == n + 1 == 3 and x.shape[2] == cell.input_size
    if well_formed and x.size and x.flags.carray:
        return x, check_lengths(lengths, x.shape[0], x.shape[1])
    expected = f"expected {shape_text((*letters, cell.input_size))} for {cell} or integer ids {shape_text(letters)}"
    given = x
    if type(x) is not np.ndarray or x.dtype is not dtype:
        x = as_array(name, x, expected)
    ids = x.dtype.kind in "iu" and x.ndim == n
    if not ids:
        x = check_form(name, given, x, (*letters, cell.input_size), dtype, cell)
    elif x.size == 0:
        raise ValueError(f"{name}: {expected} with at least one step and one sequence, got {shape_text(x.shape)}")
    T, B = (x.shape[0], x.shape[1]) if n == 2 else (1, x.shape[0])
    steps = check_lengths(lengths, T, B)
    if ids:
        valid = x if lengths is None else x[np.arange(T)[:, None] < steps]
        if valid.min() < 0 or valid.max() >= cell.input_size:
            raise ValueError(f"{name}: expected ids in 0 … {cell.input_size - 1} for {cell}, "
                             f"got values from {valid.min()} to {valid.max()}")
        x = canonical(x, INT64)
    return x, steps


def check_constant_input(cell: Any, x: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The input of one step, (I,) real or an integer id, in canonical form."""
    size = cell.input_size
    expected = f"expected ({size},) for {cell} or an integer id"
    array = as_array("x", x, expected)
    if array.dtype.kind in "iu" and array.ndim == 0:
        if not 0 <= array < size:
            raise ValueError(f"x: expected an id in 0 … {size - 1} for {cell}, got {array}")
        return array.astype(INT64)
    return check_form("x", x, array, (size,), dtype, cell)


def check_resets(resets: Any, T: int, B: int) -> np.ndarray[Any, Any]:
    """(T, B) truth values."""
    array = read_array("resets", resets, f"expected booleans ({T}, {B})")
    if array.dtype != BOOL:
        raise TypeError(f"resets: expected booleans ({T}, {B}), got {array.dtype}; {conversion('resets', resets, 'bool')}")
    if array.shape != (T, B):
        raise ValueError(f"resets: expected ({T}, {B}), one for each step and sequence, got {shape_text(array.shape)}")
    return canonical(array, BOOL)


def check_noise_possible(cell: Any) -> None:
    """A cell that has a single pre-activation."""
    if is_stack(cell) or cell.gates != 1:
        raise ValueError(f"noise: expected None for {cell}; only RNN adds noise to its pre-activations")


def check_noise(cell: Any, noise: Any, T: int, B: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """(T, B, H) real, for a cell that has a single pre-activation."""
    check_noise_possible(cell)
    return check_array("noise", noise, (T, B, cell.hidden_size), dtype, cell)
