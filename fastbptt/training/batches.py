"""What `fit` takes as a batch, and what it says of one whose gradient is not finite."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arrays import Array
from ..bptt.api import forward
from ..errors import BATCH_KEYS, as_array, check_batch_keys, check_lengths, check_time_axis, refuse_batch
from ..tree import leaves
from .model import ModelParams, SequenceModel
from .quiet import quiet


def read_batch(model: SequenceModel, batch: Any, number: int, batch_first: bool) -> dict[str, Any]:
    """Arguments of `SequenceModel.loss_and_grad`, time-major, from a pair (x, y), a triple (x, y, lengths) or a mapping.

    A NamedTuple whose fields have the names of these arguments, such as a `fastbptt.tasks.TaskBatch`, is read as a mapping.
    """
    if set(getattr(batch, "_fields", ("",))) <= set(BATCH_KEYS):
        batch = batch._asdict()
    if isinstance(batch, Mapping):
        arguments = check_batch_keys(dict(batch), number)
    elif isinstance(batch, tuple | list) and len(batch) in (2, 3):
        arguments = dict(zip(("x", "y", "lengths"), batch, strict=False))
    else:
        raise refuse_batch(batch, number)
    if batch_first:
        timed = ("x", "y", "weights") if model.mode == "many_to_many" else ("x", "weights")
        arguments |= {name: _time_first(name, arguments[name]) for name in timed if arguments.get(name) is not None}
    return arguments


def _time_first(name: str, value: Any) -> Any:
    """(T, B, …) from (B, T, …): a view of an array; nested lists stay lists, which take the dtype of the parameters."""
    array = check_time_axis(name, as_array(name, value, "expected (B, T, …) with batch_first=True")).swapaxes(0, 1)
    return array if hasattr(value, "dtype") else array.tolist()


@quiet
def why_not_finite(model: SequenceModel, params: ModelParams, arguments: dict[str, Any]) -> str:
    """Where NaN or Inf comes from: the data, the parameters, the states, or the gradient itself."""
    x = as_array("x", arguments["x"], "expected x")
    T, B = x.shape[:2]
    valid = np.arange(T)[:, None] < check_lengths(arguments.get("lengths"), T, B)
    y = np.asarray(as_array("y", arguments["y"], "expected y"), params.readout.V.dtype)
    if arguments.get("weights") is not None:
        counted = valid & (np.asarray(arguments["weights"]) != 0)
    else:
        counted = valid
    if (at := _first_bad(x, valid)) is not None:
        return f"x has {at}; clean the data, or leave the batch out"
    if model.mode == "many_to_many" and y.shape[:2] == (T, B) and (at := _first_bad(y, counted)) is not None:
        return f"y has {at}; clean the data, or leave the batch out"
    if model.mode != "many_to_many" and (bad := np.flatnonzero(~np.isfinite(y.reshape(B, -1)).all(axis=1))).size:
        return f"y has NaN or Inf for sequence {bad[0]}; clean the data, or leave the batch out"
    if not all(np.isfinite(a).all() for a in leaves(params)):
        return "the parameters were so before this batch; begin with others"
    if arguments.get("memory_budget") is None:
        h = forward(model.cell, params.cell, arguments["x"], arguments.get("state"), arguments.get("lengths")).h
        if (at := _first_bad(h, valid)) is not None:
            return f"x is finite, but the states have {at}; look at the weights and the learning rate"
    return "data and parameters are finite, what overflows is the loss or its gradient; lower the learning rate, or use float64"


def _first_bad(array: Array, counted: Array) -> str | None:
    """The first step of (T, B, …) with a number that is NaN or Inf, counted from 0."""
    finite = np.isfinite(array).reshape(*counted.shape, -1).all(axis=2)
    places = np.argwhere(~finite & counted)
    return f"NaN or Inf at step {places[0][0]} of sequence {places[0][1]}" if len(places) else None
