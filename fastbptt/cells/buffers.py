"""Sizes and working buffers of a scan.

All rows of a scan (sequences forward, passes of BPTT backward) step together. A row's working state is dense and padded;
its place in the arrays of the tape is a flat index, ``index = (t−1)·B + b`` for step t of sequence b:

- x, resets, noise, dh and the saved gates: row `index`;
- the state arrays of the tape (T+1 rows): before the step in row `index`, after it in row `index + B`.

Where a reset precedes the step, the state before it is row b of `initial`, written as the index ``−1−b``.
"""
from __future__ import annotations

from typing import Any, NamedTuple

from ..arrays import Array
from ..engine.jit import jitable, njit
from ..engine.panels import leading, padded
from .form import layout


class Dims(NamedTuple):
    """Sizes of a scan. `row`, `x_row` and `state_row` are the lengths of working rows."""

    T: int
    B: int
    I: int  # noqa: E741
    H: int
    Hp: int
    row: int
    x_row: int
    state_row: int


class ForwardWork(NamedTuple):
    """Working buffers of one shard, flat. Block arrays have a row for every step and row of a block."""

    z: Array
    """Block: pre-activations, rows of `Dims.row`."""
    state: Array
    """The current state of every row, rows of `Dims.state_row`: h, for the LSTM then c."""
    weights: Any
    indices: Array
    """Block: the flat index of the step."""
    inputs: Array
    """Block: the inputs, rows of `Dims.x_row`."""


class BackwardWork(NamedTuple):
    """Working buffers of one shard, flat."""

    delta: Array
    """Block: ∂L/∂(gates), rows of `Dims.row`."""
    carry: Array
    """The error that every pass carries, ∂L/∂state, rows of `Dims.state_row`."""
    weights: Any
    indices: Array
    """Block: the flat index of the step."""
    before: Array
    """Block: that of the state before the step, or −1−b for row b of the initial state."""
    scratch: Array
    """Block: rows of the widest of x, 1 and h."""


class Panels(NamedTuple):
    """Packed weights, shared by all shards: for the inputs (U) and for the state (W)."""

    inputs: Any
    state: Any


class Sums(NamedTuple):
    """Partial sums of the gradients of the parameters, one row for every shard, in the padded shapes of the products."""

    inputs: Array
    state: Array
    initial: Array
    """Errors that reach a reset, for every state array (B, H); of size 0 without resets."""


@jitable
def dims_of(T, B, inputs, H, states, columns, like):
    """The `Dims` of a scan whose working rows have `columns` columns, in the dtype of the array `like`."""
    Hp = padded(H, like)
    return Dims(T, B, inputs, H, Hp, leading(columns * Hp, like), leading(padded(inputs + 1, like), like), states * Hp)


@jitable
def input_sum_size(input_columns, inputs, Hp, ids, like):
    """Floats of one shard's sums of dU and db: a row for every id and one for the bias, or a matrix with a bias column."""
    return input_columns * Hp * (inputs + 1 if ids else padded(inputs + 1, like))


@jitable
def state_sum_size(recurrent, extra, Hp):
    """Floats of one shard's sums of the gradients of all other parameters."""
    return (recurrent * Hp + extra) * Hp


@njit(forceinline=True)
def measure(params, tape, initial):
    """The `Dims` of a scan."""
    return dims_of(tape[0].shape[0] - 1, tape[0].shape[1], params.U.shape[1], tape[0].shape[2], len(initial),
                   layout(params).columns, params.U)
