"""Arrays: what is read as one, of which shape and dtype."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import canonical
from .values import FLOATS

READABLE_KINDS = "fiu"
PROTOCOLS = ("__array__", "__array_interface__", "__dlpack__", "__cuda_array_interface__")     # of arrays, beside that of buffers
HOST = (1, 3, 11, 13)      # DLPack's numbers of memory that the CPU reads: its own, pinned by CUDA or ROCm, managed by CUDA
RAGGED = "make all rows equally long; sequences of different lengths: x, lengths = fastbptt.pad(sequences)"


def shape_text(shape: Sequence[Any]) -> str:
    """A shape as it is written in messages."""
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def _expected(shape: Sequence[Any], owner: Any) -> str:
    return f"expected {shape_text(shape)}{f' for {owner}' if owner is not None else ''}"


def is_array(value: Any) -> bool:
    """Whether it has a dtype of its own: an array of NumPy or of another library, or a buffer. A nested list has none."""
    if isinstance(value, np.ndarray) or any(hasattr(value, name) for name in PROTOCOLS):
        return True
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


def on_device(value: Any) -> bool:
    """Whether it is an array on a GPU: one of CuPy, PyTorch, Numba or another library that says so."""
    if getattr(value, "requires_grad", False) is True:      # asking such a tensor for its memory is an error
        return bool(getattr(value, "is_cuda", False))
    return hasattr(value, "__cuda_array_interface__") or hasattr(value, "__cuda_ndarray__")


def _check_reach(name: str, value: Any, expected: str) -> None:
    """Refuse what NumPy could read only by leaving a gradient or a device behind."""
    if getattr(value, "requires_grad", False) is True:
        raise TypeError(f"{name}: {expected}, got a tensor that requires grad; pass {name}.detach()")
    elsewhere = on_device(value)
    if not elsewhere and hasattr(value, "__dlpack_device__"):
        try:
            elsewhere = int(value.__dlpack_device__()[0]) not in HOST
        except Exception:       # noqa: BLE001  a tensor without memory: NumPy says below that it cannot be read
            elsewhere = False
    if elsewhere:
        device = getattr(value, "device", "another device")
        raise TypeError(f"{name}: {expected}, got a {type(value).__name__} on {device}; copy it to the CPU first: "
                        f"{name}.cpu() in PyTorch, jax.device_get({name}) in JAX, {name}.get() in CuPy")


def read_array(name: str, value: Any, expected: str, ragged: str = RAGGED) -> np.ndarray[Any, Any]:
    """`value` as NumPy views it or, where it must, converts it, once; of any dtype, or a clear error."""
    if value is None:
        raise TypeError(f"{name}: {expected}, got None; pass an array of numbers")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: {expected}, got a masked array; pass plain numbers, and lengths or weights for what is missing")
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    _check_reach(name, value, expected)
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        if isinstance(error, ValueError) and not is_array(value):
            raise ValueError(f"{name}: {expected}, got nested lists of unequal lengths; {ragged}") from None
        raise TypeError(f"{name}: {expected}, got a {type(value).__name__} that NumPy cannot read: {error}; "
                        "pass an array of numbers") from None


def as_array(name: str, value: Any, expected: str, ragged: str = RAGGED) -> np.ndarray[Any, Any]:
    """`value` as an array of numbers, or a clear error: no None, objects, strings, dates, booleans, complex or masked arrays."""
    array = read_array(name, value, expected, ragged)
    if array.dtype.kind not in READABLE_KINDS:
        raise TypeError(f"{name}: {expected}, got an array of {array.dtype}; convert it to float32 or float64 first")
    if array.dtype.kind == "f" and array.dtype.newbyteorder("=") not in FLOATS:
        raise TypeError(f"{name}: {expected}, got {array.dtype}; convert it to float32 or float64 first")
    return array


def conversion(name: str, value: Any, dtype: Any) -> str:
    """How a caller converts an array, of NumPy or not, to another dtype."""
    return f"use {name}.astype('{dtype}')" if hasattr(value, "astype") else f"use np.asarray({name}, '{dtype}')"


def check_form(name: str, given: Any, array: np.ndarray[Any, Any], shape: tuple[Any, ...], dtype: np.dtype[Any],
               owner: Any = None) -> np.ndarray[Any, Any]:
    """`array`, as read from `given`, in canonical form; its dtype may differ only where `given` has none, as a nested list.

    A letter in `shape` stands for any size of at least 1; `owner` is what the shape follows from, for the message.
    """
    if array.dtype is not dtype and is_array(given):
        if array.dtype.kind != "f":
            raise TypeError(f"{name}: expected {dtype}, got an array of {array.dtype}; {conversion(name, given, dtype)}")
        if array.dtype.newbyteorder("=") != dtype:
            raise TypeError(f"{name}: expected {dtype} like the parameters, got {array.dtype}; {conversion(name, given, dtype)}")
    if len(array.shape) != len(shape) or any(isinstance(n, int) and n != m for n, m in zip(shape, array.shape, strict=True)):
        raise ValueError(f"{name}: {_expected(shape, owner)}, got {shape_text(array.shape)}")
    if array.size == 0:
        raise ValueError(f"{name}: {_expected(shape, owner)} with at least one step and one sequence, "
                         f"got {shape_text(array.shape)}")
    return canonical(array, dtype)


def check_array(name: str, value: Any, shape: tuple[Any, ...], dtype: np.dtype[Any], owner: Any = None) -> np.ndarray[Any, Any]:
    """A real array of this shape and dtype in canonical form; nested lists are converted, arrays of other types refused.

    Shape and owner as `check_form` has them.
    """
    if type(value) is np.ndarray and value.dtype is dtype:
        if value.shape == shape and value.size and value.flags.carray:
            return value
        return check_form(name, value, value, shape, dtype, owner)
    return check_form(name, value, as_array(name, value, _expected(shape, owner)), shape, dtype, owner)
