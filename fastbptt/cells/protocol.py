"""What a scan asks of a cell: functions that each cell file overloads by the type of its `Params`, sizes, working buffers."""
from __future__ import annotations

from typing import Any, NamedTuple

from ..arrays import Array
from ..engine.jit import njit
from ..engine.panels import leading, padded

# ---------------------------------------------------------------------------------------------- what a cell provides


class Layout(NamedTuple):
    """The gates of a working row. The first `in_count` receive U x, `rec_count` of them from `rec_first` on W h.

    Gate p of the row is gate ``(p + in_turn) % in_count`` of U, and gate ``p − rec_first`` of W.
    """

    gates: int
    in_count: int
    in_turn: int
    rec_first: int
    rec_count: int


def layout(params: Any) -> Any:
    """The cell's `Layout`, a compile-time constant."""
    raise NotImplementedError


def pack_forward(params: Any, dims: Any) -> Any:
    """Recurrent weights in panels, as `step_forward` wants them."""
    raise NotImplementedError


def pack_backward(params: Any, dims: Any) -> Any:
    """Recurrent weights in panels, as `step_backward` wants them."""
    raise NotImplementedError


def start_rows(params: Any, z: Any, count: Any, dims: Any) -> Any:
    """Fill those gates of `count` working rows that do not receive U x; nothing, where there are none."""
    raise NotImplementedError


def step_forward(params: Any, options: Any, tape: Any, work: Any, dims: Any, first: Any, n: Any) -> Any:
    """One step of n rows, rows first … first+n−1 of the block: product with the state, gates, new state."""
    raise NotImplementedError


def step_backward(params: Any, options: Any, tape: Any, initial: Any, work: Any, dims: Any, first: Any, n: Any) -> Any:
    """One step back of n rows: `work.carry` from ∂L/∂state_t to ∂L/∂state_{t−1}, ∂L/∂(gates) into `work.delta`."""
    raise NotImplementedError


def state_partial(params: Any, dims: Any) -> Any:
    """Size of one shard's part of the gradients of all parameters but U and b."""
    raise NotImplementedError


def state_gradients(params: Any, tape: Any, initial: Any, partial: Any, work: Any, count: Any, dims: Any) -> Any:
    """Add `count` rows of `work.delta` to a shard's part."""
    raise NotImplementedError


def add_state_partial(dparams: Any, partial: Any, dims: Any) -> Any:
    """Add a shard's part to the gradients."""
    raise NotImplementedError


def own_partial(params: Any, dims: Any) -> Any:
    """Size of one shard's part of the gradients of what a cell has beyond U, W and b."""
    raise NotImplementedError


def own_gradients(params: Any, tape: Any, initial: Any, partial: Any, at: Any, work: Any, count: Any, dims: Any) -> Any:
    """Add `count` rows of `work.delta` to that part, which begins at partial[at]."""
    raise NotImplementedError


def add_own_partial(dparams: Any, partial: Any, at: Any, dims: Any) -> Any:
    """Add that part to the gradients."""
    raise NotImplementedError


# ---------------------------------------------------------------------------------------------- from a cell's configuration


def connected(cell: Any, params: Any) -> Any:
    """The parameters as the scans see them: 0 for connections that the cell's mask takes away."""
    return params if cell.mask is None else cell.masked(params)


def drop_unconnected(cell: Any, dW: Array) -> None:
    """Such connections have no gradient."""
    if cell.mask is not None:
        dW[~cell.mask] = 0


# ---------------------------------------------------------------------------------------------- shapes and buffers


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
    places: Array
    """Block: where the step lies in the arrays of the tape."""
    inputs: Array
    """Block: the inputs, rows of `Dims.x_row`."""


class BackwardWork(NamedTuple):
    """Working buffers of one shard, flat."""

    delta: Array
    """Block: ∂L/∂(gates), rows of `Dims.row`."""
    carry: Array
    """The error that every pass carries, ∂L/∂state, rows of `Dims.state_row`."""
    weights: Any
    places: Array
    before: Array
    """Block: the state before the step; as `places`, or −1−b for row b of the initial state."""
    scratch: Array
    """Block: rows of the widest of x, 1 and h."""


class Panels(NamedTuple):
    """Packed weights, shared by all shards: for the inputs (U) and for the state (W)."""

    inputs: Any
    state: Any


class Parts(NamedTuple):
    """One shard's part of the gradients of the parameters, in the padded shapes of the products."""

    inputs: Array
    state: Array
    initial: Array
    """Errors that reach a reset, for every state array (B, H); of size 0 without resets."""


class Errors(NamedTuple):
    """The errors that a backward scan is given and passes on."""

    h: Array
    """(T, B, H) ∂L/∂h_t injected at every step; not read where a step is padded."""
    incoming: Any
    """State: ∂L/∂(state after the last step), what later steps send back."""
    outgoing: Any
    """State, added to: ∂L/∂(state before the first step)."""


class Passes(NamedTuple):
    """The backward passes of one call (see `fastbptt.bptt.truncation`)."""

    rows: Array
    """(n, 4) int64: sequence b, end e, end before it p, stop max(0, e − horizon): steps e … stop+1, errors of p+1 … e."""
    bounds: Array
    """(units + 1,) int64: unit u, which is run by itself, has rows bounds[u] … bounds[u+1]−1, those over most steps first."""
    shards: int
    """Unit u belongs to shard u % shards."""
    full: bool
    """Every pass goes back to step 1: all step back together by time, not by lag."""
    overlap: bool
    """A step belongs to several passes; then a unit has successive passes of one sequence, the last end first."""


@njit(forceinline=True)
def measure(params, tape, initial):
    """The `Dims` of a scan."""
    T, B, H = tape[0].shape[0] - 1, tape[0].shape[1], tape[0].shape[2]
    n_inputs = params.U.shape[1]
    Hp = padded(H, params.U)
    row = leading(layout(params).gates * Hp, params.U)
    return Dims(T, B, n_inputs, H, Hp, row, leading(padded(n_inputs + 1, params.U), params.U), len(initial) * Hp)
