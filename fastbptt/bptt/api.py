"""`forward`, `backward` and `step`: check the arguments, plan, execute."""
from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from ..arrays import NO_RESETS, NONE, Batch, Grads, longest_first
from ..errors import (
    all_on_device,
    check_array,
    check_budget_possible,
    check_input,
    check_noise,
    check_one_direction,
    check_params,
    check_positive,
    check_resets,
    check_seed,
    check_state,
    check_tape,
)
from ..tree import first_array
from .checkpoints import schedule_for
from .execute import Execution, Scan, scans_of
from .plan import FORWARD, Action, plan_backward, plan_checkpoints, plan_segments
from .tape import CheckpointTape, StackTape, Tape
from .truncation import FULL, Truncation


def forward(cell: Any, params: Any, x: Any, state: Any = None, lengths: Any = None, *, resets: Any = None,
            noise: Any = None, seed: int | None = None, memory_budget: int | str | None = None) -> Tape:
    """Run all steps of a recurrent cell, h_t = cell(x_t, h_{t−1}), or of a stack of cells.

    Parameters
    ----------
    cell : RNN, GRU, LSTM or Stack
    params : the cell's Params
        float32 or float64; every other array has the same dtype.
    x : (T, B, I) real, or (T, B) integer ids in 0 … I−1 that stand for one-hot vectors
    state : State of (B, H) arrays, optional
        Initial state; zeros by default.
    lengths : (B,) integers in 1 … T, optional
        Valid steps of each sequence. Padded steps are not read; the state is held there.
    resets : (T, B) booleans, optional
        Where true, the state returns to `state` before that step, and no gradient crosses: a new episode begins.
    noise : (T, B, H), optional
        Added to the pre-activations of an RNN.
    seed : int, optional
        Seed of the dropout of a Stack; nothing is dropped without it.
    memory_budget : int or str, optional
        Bytes, or "N KiB", "N MiB", "N GiB", that forward and backward may use besides their inputs and results: the tape then
        stores a few states, and backward recomputes the others (`fastbptt.bptt.checkpoints`). Full BPTT in one direction.

    Returns
    -------
    Tape
        `tape.h` (T, B, H), read-only; `tape.final`, a copy.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape, dtype or range; the message names it.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=3, hidden_size=4)
    >>> tape = fb.forward(cell, cell.init(seed=0), np.ones((5, 2, 3), np.float32))
    >>> tape.h.shape, tape.final.h.shape
    ((5, 2, 4), (2, 4))
    """
    if type(x) is not np.ndarray and all_on_device(x, params):
        tape: Tape = device_api().forward(cell, params, x, state, lengths, resets, noise, seed, memory_budget)
        return tape
    given, params = params, check_params(cell, params)
    dtype = first_array(params).dtype
    x, steps = check_input(cell, x, dtype, lengths)
    T, B = x.shape[:2]
    initial = check_state(cell, state, B, dtype)
    seed = check_seed(cell, seed)
    resets = NO_RESETS if resets is None else check_resets(resets, T, B)
    noise = NONE[dtype] if noise is None else check_noise(cell, noise, T, B, dtype)
    batch = Batch(x, steps, longest_first(steps), resets, noise)
    scans = scans_of(cell, params, initial)
    tape = (_forward(cell, scans, batch, seed) if memory_budget is None else
            _forward_within(memory_budget, cell, scans, batch, initial, seed))
    for scan in scans:
        if scan.cell.mask is not None:      # then W is a copy, which later changes do not reach
            break
    else:
        tape.checked = given, scans
    return tape


def _forward(cell: Any, scans: list[Scan], batch: Batch, seed: int | None) -> Tape:
    execution = Execution(cell, scans, batch, seed)
    execution.run([Action(FORWARD, 0, batch.x.shape[0])])
    if cell.layers[0] is cell:
        return execution.runs[0]
    return StackTape(cell, batch, execution.runs, execution.masks, execution.output())


def _forward_within(memory_budget: int | str, cell: Any, scans: list[Scan], batch: Batch, initial: Any, seed: int | None) -> Tape:
    check_budget_possible(cell, None)
    T = batch.x.shape[0]
    schedule = schedule_for(cell, [scan.params for scan in scans], batch, memory_budget)
    execution = Execution(cell, scans, batch, seed, min(T, schedule.segment))
    execution.run(plan_checkpoints(schedule, T))
    final = cell.per_layer(scan.cell.state_type(*state) for scan, state in zip(execution.scans, execution.states, strict=True))
    return CheckpointTape(cell, batch, initial, seed, schedule, execution.checkpoints, final)


def backward(cell: Any, params: Any, tape: Tape, dh: Any, truncation: Truncation | None = None, *, dfinal: Any = None,
             clip_state: float | None = None) -> Grads:
    """Backpropagation through time: gradients of L from dh_t = ∂L/∂h_t, exact or truncated.

    With δ_t = ∂L/∂a_t: ∂L/∂W = Σ_t δ_t h_{t−1}ᵀ, ∂L/∂U = Σ_t δ_t x_tᵀ, ∂L/∂b = Σ_t δ_t, ∂L/∂x_t = Uᵀ δ_t.

    Parameters
    ----------
    cell, params
        As given to `forward`.
    tape : Tape
        From `forward`; it is not changed, and may be used any number of times.
    dh : (T, B, H)
        ∂L/∂h_t injected at every step; not read at padded steps. With a tape of checkpoints also a function
        dh(start, stop, h) of the h_t of steps start+1 … stop, called once for each segment, last first.
    truncation : Truncation, optional
        Full BPTT without it.
    dfinal : State, optional
        ∂L/∂`tape.final`, from a loss of the final state or from later steps; it goes back with the errors of the last end.
    clip_state : float, optional
        Largest norm of the error ∂L/∂state that a pass carries from a step to the one before, for each sequence and step
        (over h and c together for the LSTM, for each layer of a stack): larger ones are scaled down. Gradients are then no longer
        linear in dh.

    Returns
    -------
    Grads
        `.params` like params, `.x` like x (None for ids; exactly 0 at padded steps), `.state` like the initial state.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape, dtype or range; the message names it.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=3, hidden_size=4)
    >>> params = cell.init(seed=0)
    >>> tape = fb.forward(cell, params, np.ones((5, 2, 3), np.float32))
    >>> grads = fb.backward(cell, params, tape, np.ones_like(tape.h), fb.Truncation(horizon=3))
    >>> grads.params.W.shape, grads.x.shape, grads.state.h.shape
    ((4, 4), (5, 2, 3), (2, 4))

    References
    ----------
    P. J. Werbos, "Backpropagation through time: what it does and how to do it", Proceedings of the IEEE 78(10), 1990;
    R. J. Williams and J. Peng, Neural Computation 2(4), 1990.
    """
    if getattr(tape, "on_device", False):
        grads: Grads = device_api().backward(cell, params, tape, dh, check_horizon(truncation), dfinal, clip_state)
        return grads
    scans = tape.checked[1] if isinstance(tape, Tape) and params is tape.checked[0] else None
    checked = check_params(cell, params) if scans is None else None
    dtype = first_array(checked).dtype if scans is None else scans[0].dtype
    check_tape(cell, tape, Tape, dtype)
    if scans is None:
        scans = scans_of(cell, checked, tape.initial)
    truncation = check_horizon(truncation)
    T, B = tape.batch.x.shape[:2]
    if not (callable(dh) and isinstance(tape, CheckpointTape)):
        dh = check_array("dh", dh, (T, B, cell.hidden_size), dtype, cell)
    dfinal = _no_errors(cell, B, dtype) if dfinal is None else check_state(cell, dfinal, B, dtype, "dfinal")
    clip = 0.0 if clip_state is None else check_positive("clip_state", clip_state)
    batch = tape.batch
    if isinstance(tape, CheckpointTape):
        check_budget_possible(cell, truncation if truncation is not FULL else None)
        execution = Execution(cell, scans, batch, tape.seed, min(T, tape.schedule.segment))
        execution.checkpoints = list(tape.checkpoints)
        actions: Any = plan_segments(cell, batch.lengths, tape.schedule, T)
    else:
        execution = Execution(cell, scans, batch)
        execution.runs, execution.masks = tape.scans, tape.masks
        actions = plan_backward(cell, batch.lengths, T, truncation, clip > 0)
    execution.start_backward(dh, cell.flatten(dfinal), clip)
    execution.run(actions)
    return execution.gradients()


@lru_cache(maxsize=16)
def _no_errors(cell: Any, B: int, dtype: Any) -> Any:
    """∂L/∂(final state) where nothing follows: zeros, which no scan writes to."""
    return check_state(cell, None, B, dtype)


def device_api() -> Any:
    """What computes where the arrays are on a GPU."""
    return import_module("fastbptt.cuda.api")


def check_horizon(truncation: Any) -> Truncation:
    """The truncation, checked; None means full BPTT."""
    if truncation is None:
        return FULL
    if not isinstance(truncation, Truncation):
        raise TypeError(f"truncation: expected fastbptt.Truncation(horizon, stride) or None, got {truncation!r}")
    return truncation


def step(cell: Any, params: Any, x: Any, state: Any = None) -> Any:
    """One step without a tape, for streams and for sampling: the State after x.

    Parameters
    ----------
    cell, params
    x : (B, I) real, or (B,) integer ids
    state : State of (B, H) arrays, optional
        Zeros by default.

    Raises
    ------
    TypeError, ValueError
        As `forward`.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=3, hidden_size=4)
    >>> fb.step(cell, cell.init(seed=0), np.ones((2, 3), np.float32)).h.shape
    (2, 4)
    """
    params = check_params(cell, params)
    check_one_direction(cell, "single steps")
    x, _ = check_input(cell, x, first_array(params).dtype, None, "x_t", ("B",))
    return forward(cell, params, x[None], state).final
