"""What the modules refuse. Where torch.nn's refuse the same, with its exception and its words: scripts and tests read these."""
from __future__ import annotations

from typing import Any

import torch

from ..bptt.truncation import Truncation

FLOATS = (torch.float32, torch.float64)
DEVICES = ("cpu", "meta")


def check_options(kind: str, input_size: Any, hidden_size: Any, num_layers: Any, bias: Any, batch_first: Any, dropout: Any,
                  proj_size: Any) -> None:
    """The constructor's arguments, in the order of torch.nn."""
    if not isinstance(dropout, int | float) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
        raise ValueError("dropout should be a number in range [0, 1] representing the probability of an element being zeroed")
    for name, value, wanted in (("bias", bias, bool), ("batch_first", batch_first, bool), ("input_size", input_size, int),
                                ("hidden_size", hidden_size, int)):
        if not isinstance(value, wanted):
            raise TypeError(f"{name} should be of type {wanted.__name__}, got: {type(value).__name__}")
        if wanted is int and value <= 0:
            raise ValueError(f"{name} must be greater than zero")
    if num_layers <= 0:
        raise ValueError("num_layers must be greater than zero")
    if proj_size != 0:
        raise ValueError(f"proj_size: expected 0 for fastbptt.torch.{kind}, which has no projection, got {proj_size}; "
                         f"use torch.nn.{kind}, or a Linear after it" if kind == "LSTM" else
                         "proj_size argument is only supported for LSTM, not RNN or GRU")


def check_truncated(truncation: Any, bidirectional: bool) -> Truncation | None:
    """A Truncation or None, which two directions cannot have."""
    if truncation is None:
        return None
    if not isinstance(truncation, Truncation):
        raise TypeError(f"truncation: expected fastbptt.Truncation(horizon, stride) or None, got {truncation!r}")
    if bidirectional:
        raise ValueError(f"truncation: expected None for two directions, whose states depend on later steps, got {truncation}")
    return truncation


def check_input(kind: str, x: Any, weight: Any, input_size: int, dims: tuple[int, ...]) -> None:
    """Device, dtype and shape of the input."""
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"input: expected a tensor or a PackedSequence for fastbptt.torch.{kind}, got {type(x).__name__}; "
                        "torch.from_numpy makes tensors of arrays")
    if x.device.type not in DEVICES or weight.device.type not in DEVICES:
        raise ValueError(f"input: expected tensors and parameters on the CPU for fastbptt.torch.{kind}, "
                         f"got {x.device} and {weight.device}; move them with .cpu(), or use torch.nn.{kind} there")
    if x.dim() not in dims:
        if len(dims) == 1:
            raise RuntimeError(f"input must have {dims[0]} dimensions, got {x.dim()}")
        raise ValueError(f"{kind}: Expected input to be 2D or 3D, got {x.dim()}D {'tensor ' if kind == 'RNN' else ''}instead")
    if not torch.is_autocast_enabled("cpu"):
        if x.dtype != weight.dtype:
            raise ValueError(f"RNN input dtype ({x.dtype}) does not match weight dtype ({weight.dtype}). "
                             f"Convert input: input.to({weight.dtype}), or convert model: model.to({x.dtype})")
        if x.dtype not in FLOATS:
            raise TypeError(f"input: expected float32 or float64 for fastbptt.torch.{kind}, got {x.dtype}; "
                            "convert the model with .float(), or run it under torch.autocast('cpu')")
    if x.shape[-1] != input_size:
        raise RuntimeError(f"input.size(-1) must be equal to input_size. Expected {input_size}, got {x.shape[-1]}")


def check_hidden(kind: str, x: torch.Tensor, hx: Any, states: int, dims: int) -> tuple[torch.Tensor, ...]:
    """hx as a tuple of tensors: one, of an LSTM two; their rank and dtype."""
    names = ("h_0", "c_0")[:states]
    given = (hx,) if states == 1 else hx
    if not isinstance(given, tuple | list) or len(given) != states or not all(isinstance(h, torch.Tensor) for h in given):
        expected = "a tensor" if states == 1 else "a pair (h_0, c_0) of tensors"
        raise TypeError(f"hx: expected {expected} for fastbptt.torch.{kind}, got {type(hx).__name__}; leave it out for zeros")
    if any(h.dim() != dims for h in given):
        ranks = ", ".join([f"{h.dim()}-D" for h in given])
        raise RuntimeError(f"For {'batched 3-D' if dims == 3 else 'unbatched 2-D'} input, "
                           + (f"hx should also be {dims}-D but got {ranks} tensor" if states == 1 else
                              f"hx and cx should also be {dims}-D but got ({ranks}) tensors"))
    for name, h in zip(names, given, strict=True):
        if h.dtype != x.dtype and not torch.is_autocast_enabled("cpu"):
            raise ValueError(f"{name}: expected {x.dtype} like the input, got {h.dtype}; use {name}.to({x.dtype})")
        if h.device != x.device:
            raise ValueError(f"{name}: expected a tensor on {x.device} like the input, got {h.device}; "
                             f"use {name}.to(input.device)")
    return tuple(given)


def check_sizes(T: Any, hidden: tuple[torch.Tensor, ...], size: tuple[Any, ...]) -> None:
    """At least one step, and hidden states of this size."""
    if T == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    for i, h in enumerate(hidden):
        if tuple(h.shape) != size:
            name = "hidden" if len(hidden) == 1 else f"hidden[{i}]"
            raise RuntimeError(f"Expected {name} size {size}, got {list(h.shape)}")
