"""Models and their data: parameters, targets, weights, batches."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..tree import first_array
from .arrays import as_array, check_array, shape_text
from .cells import check_one_direction, check_params


def check_output_params(model: Any, params: Any, name: str = "params") -> Any:
    """Parameters of this model, a cell's and a readout's of one dtype, in canonical form."""
    if not hasattr(params, "readout") or not hasattr(params, "cell"):
        raise TypeError(f"{name}: expected ModelParams(cell, readout) as SequenceModel.init makes them, "
                        f"got {type(params).__name__}")
    cell = check_params(model.cell, params.cell, f"{name}.cell")
    dtype, O, H = first_array(cell).dtype, model.output_size, model.cell.hidden_size  # noqa: E741
    V = check_array(f"{name}.readout.V", params.readout.V, (O, H), dtype)
    c = check_array(f"{name}.readout.c", params.readout.c, (O,), dtype)
    return params._replace(cell=cell, readout=params.readout._replace(V=V, c=c))


def check_output_direction(model: Any, params: Any, v: Any) -> Any:
    """A direction like the parameters of this model, of their dtype."""
    v = check_output_params(model, v, "v")
    dtype, own = first_array(params.cell).dtype, first_array(v.cell).dtype
    if own != dtype:
        raise TypeError(f"v: expected {dtype} like the parameters, got {own}; convert its arrays with astype('{dtype}')")
    return v


def check_carried(model: Any) -> None:
    """A model whose state can be carried from window to window."""
    check_one_direction(model.cell, "a stream")
    if model.mode != "many_to_many":
        raise ValueError(f"model: expected mode='many_to_many' for a stream, got {model.mode!r}; pass batches instead")


def check_weights(weights: Any, T: int, B: int, valid: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """(T, B) finite loss weights in `dtype`, 0 where a step does not count anyway."""
    array = as_array("weights", weights, f"expected ({T}, {B})")
    if array.shape != (T, B):
        raise ValueError(f"weights: expected ({T}, {B}), one for each step and sequence, got {shape_text(array.shape)}")
    counted: np.ndarray[Any, Any] = np.where(valid, array, 0).astype(dtype)
    if not np.isfinite(counted).all():
        raise ValueError("weights: expected finite numbers at valid steps, got NaN or Inf; 0 switches a step off")
    return counted


def check_targets(y: Any, leading: tuple[int, ...], place: tuple[Any, ...], outputs: int, dtype: np.dtype[Any],
                  ids: bool) -> np.ndarray[Any, Any]:
    """The targets of the counted steps: ids in 0 … O−1, or real rows of O numbers."""
    shape = leading if ids else (*leading, outputs)
    array = as_array("y", y, f"expected {shape_text(shape)}")
    if array.shape != shape:
        raise ValueError(f"y: expected {shape_text(shape)}, got {shape_text(array.shape)}")
    if not ids:
        return np.asarray(array[place], dtype)
    if array.dtype.kind not in "iu":
        raise TypeError(f"y: expected integer ids in 0 … {outputs - 1}, got {array.dtype}")
    counted = np.asarray(array[place], np.int64)
    if counted.size and (counted.min() < 0 or counted.max() >= outputs):
        raise ValueError(f"y: expected ids in 0 … {outputs - 1}, got values from {counted.min()} to {counted.max()}")
    return counted


def check_pairs(name: str, pairs: Any, expected: str) -> Iterator[tuple[Any, Any]]:
    """The entries of an iterable of pairs, of which there is one at least."""
    if not hasattr(pairs, "__iter__"):
        raise TypeError(f"{name}: expected an iterable of {expected}, got {type(pairs).__name__}")
    count = 0
    for count, pair in enumerate(pairs, start=1):
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"{name}[{count - 1}]: expected {expected}, got {type(pair).__name__}; pass tuples of two")
        yield pair
    if count == 0:
        raise ValueError(f"{name}: expected at least one {expected}, got none; an iterator is read once")
