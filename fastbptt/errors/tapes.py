"""Tapes and how far to go back over them: truncation, checkpoints, steps and lags."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..tree import first_array
from .arrays import check_array
from .cells import check_params, check_state, is_stack
from .values import check_integer, check_up_to

UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def check_truncation(horizon: Any, stride: Any) -> tuple[int, int]:
    """Integers with horizon ≥ stride ≥ 1."""
    horizon = check_integer("horizon", horizon, 1, "pass the number of steps that a pass goes back")
    stride = check_integer("stride", stride, 1, "pass the number of steps between passes")
    if stride > horizon:
        raise ValueError(f"stride: expected at most the horizon {horizon}, got {stride}; every error must be covered by a pass")
    return horizon, stride


def check_budget(budget: Any) -> int:
    """Bytes, from an integer or such as "64 MiB"."""
    if isinstance(budget, str):
        number, _, unit = budget.strip().partition(" ")
        if unit in UNITS and number.isdigit() and int(number) > 0:
            return int(number) * UNITS[unit]
        raise ValueError(f"memory_budget: expected bytes, or \"N KiB\", \"N MiB\" or \"N GiB\", got {budget!r}")
    return check_integer("memory_budget", budget, 1, 'pass bytes, or such as "64 MiB"')


def refuse_budget(budget: int, least: int) -> ValueError:
    """The error of a budget that no schedule fits."""
    return ValueError(f"memory_budget: expected at least {least} bytes ({-(-least // 2**10)} KiB) for these shapes, got {budget}")


def check_budget_possible(cell: Any, truncation: Any) -> None:
    """Checkpoints serve full BPTT in one direction."""
    if is_stack(cell) and cell.bidirectional:
        raise ValueError(f"memory_budget: expected None for {cell}, whose reverse direction begins at the end; call without")
    if truncation is not None:
        raise ValueError("truncation: expected None for a tape of checkpoints, which full BPTT goes back over; "
                         "call forward without memory_budget, truncated BPTT of a stream needs no more memory than its window")


def check_tape(cell: Any, tape: Any, kind: Any, dtype: np.dtype[Any]) -> None:
    """A tape of this cell's forward with parameters of this dtype."""
    if not isinstance(tape, kind):
        raise TypeError(f"tape: expected the Tape that forward returned, got {type(tape).__name__}")
    if tape.cell is not cell and tape.cell != cell:
        raise ValueError(f"tape: expected a tape of {cell}, got one of {tape.cell}; run forward with this cell")
    kept = first_array(tape.initial).dtype
    if kept != dtype:
        raise TypeError(f"params: expected {kept} like the tape, got {dtype}; "
                        "use the parameters that forward was given")


def check_has_cell_state(cell: Any, arrays: Any) -> Any:
    """The arrays of a tape that has c."""
    if not hasattr(arrays, "c"):
        raise AttributeError(f"tape.c: expected the tape of an LSTM, got one of {cell}; its states are in tape.h")
    return arrays


def check_kept_steps(tape: Any, checkpoints: Any) -> None:
    """A tape of all steps."""
    if isinstance(tape, checkpoints):
        raise ValueError("tape: expected a tape of all steps, got one of checkpoints; call forward without memory_budget")


def check_directions(cell: Any, params: Any, tape: Any, dparams: Any, dx: Any, dstate: Any) -> tuple[Any, Any, Any]:
    """Tangents of the parameters, of x and of the initial state of a tape; of the first two None stands for zeros."""
    if dparams is None and dx is None and dstate is None:
        raise ValueError("dparams, dx, dstate: expected at least one tangent, got None for all; "
                         "pass the direction to differentiate along")
    dtype, x = first_array(params).dtype, tape.batch.x
    if dparams is not None:
        dparams = check_params(cell, dparams, "dparams")
        if first_array(dparams).dtype != dtype:
            raise TypeError(f"dparams: expected {dtype} like the parameters, got {first_array(dparams).dtype}; "
                            f"convert its arrays with astype('{dtype}')")
    if dx is not None and x.ndim == 2:
        raise ValueError("dx: expected None for a tape of integer ids, which do not vary; pass real vectors x to forward")
    dx = None if dx is None else check_array("dx", dx, x.shape, dtype, cell)
    return dparams, dx, check_state(cell, dstate, x.shape[1], dtype, "dstate")


def check_span(start: Any, stop: Any, T: int) -> tuple[int, int]:
    """States with 0 ≤ start ≤ stop ≤ T."""
    start = check_integer("start", start, 0, "states are numbered 0 (initial) to T")
    stop = check_integer("stop", stop, 0, "states are numbered 0 (initial) to T")
    if not start <= stop <= T:
        raise ValueError(f"start, stop: expected 0 ≤ start ≤ stop ≤ T = {T}, got {start}, {stop}; "
                         "states are numbered 0 (initial) to T")
    return start, stop


def check_lags(lags: Any, T: int, name: str = "max_lag") -> int:
    """A number of lags in 1 … T."""
    return check_up_to(name, lags, T, "a number of lags, at most the steps of the tape")


def check_transient(transient: Any, T: int) -> int:
    """Steps that are not counted, fewer than there are."""
    number = check_integer("transient", transient, 0, "pass a number of steps")
    if number >= T:
        raise ValueError(f"transient: expected fewer steps than the T = {T} of x, got {number}; pass a longer x")
    return number


def check_finite_states(h: np.ndarray[Any, Any], name: str = "tape") -> None:
    """States (T+1, B, H) without NaN and Inf: no Jacobian is defined there."""
    finite = np.isfinite(h).all(axis=2)
    if not finite.all():
        t, b = (int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(f"{name}: expected finite states, got NaN or Inf at state {t} of sequence {b}; "
                         "look at x and at the weights, or cut the sequence before that step")


def check_finite_gradient(norms: Sequence[float]) -> None:
    """Norms of a gradient that can be compared."""
    if not np.isfinite(norms).all():
        raise ValueError(f"dh: expected errors whose gradient is finite, got norms {', '.join(f'{n:.3g}' for n in norms)}; "
                         "scale dh down, or use float64")
