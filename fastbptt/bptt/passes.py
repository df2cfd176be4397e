"""Through time and back: check, allocate, run the scans."""
from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

from ..arrays import NO_PARTS, NO_RESETS, NONE, Array, Batch, Grads, longest_first
from ..cells.protocol import Passes, connected, drop_unconnected
from ..engine.shards import leave_threads
from ..errors import (
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
    is_stack,
)
from ..tree import first_array
from . import checkpoint
from .kernels import enter_scan, kernels_of
from .tape import Tape, empty_grads
from .truncation import FULL, Truncation, plan_passes


def forward(cell: Any, params: Any, x: Any, state: Any = None, lengths: Any = None, *, resets: Any = None,
            noise: Any = None, seed: int | None = None, memory_budget: int | str | None = None) -> Tape:
    """All steps of a recurrent cell, h_t = cell(x_t, h_{t−1}), or of a stack of them.

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
        Where true, the state returns to `state` before that step, and no gradient crosses: an episode begins in a stream.
    noise : (T, B, H), optional
        Added to the pre-activations of an RNN.
    seed : int, optional
        Seed of the dropout of a Stack; none is dropped without it.
    memory_budget : int or str, optional
        Bytes, or "N KiB", "N MiB", "N GiB", that forward and backward may take beside their inputs and results: the tape then
        keeps a few states, and backward computes the others again (`fastbptt.bptt.checkpoint`). Full BPTT in one direction.

    Returns
    -------
    Tape
        `tape.h` (T, B, H), `tape.final`.

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
    given, params = params, check_params(cell, params)
    dtype = first_array(params).dtype
    x, steps = check_input(cell, x, dtype, lengths)
    initial = check_state(cell, state, x.shape[1], dtype)
    seed = check_seed(cell, seed)
    resets = check_resets(resets, x.shape[0], x.shape[1])
    noise = check_noise(cell, noise, x.shape[0], x.shape[1], dtype)
    resets, noise = NO_RESETS if resets is None else resets, NONE[dtype] if noise is None else noise
    batch = Batch(x, steps, longest_first(steps), resets, noise)
    if memory_budget is not None:
        check_budget_possible(cell, None)
        return checkpoint.forward(cell, params, batch, initial, memory_budget, seed)
    run = cell.run_forward(params, batch, initial, seed) if is_stack(cell) else run_forward(cell, params, batch, initial)
    tape = cast(Tape, run)
    tape.checked = given, params
    return tape


def run_forward(cell: Any, params: Any, batch: Batch, initial: Any) -> Tape:
    """The forward scan of one cell over checked arrays."""
    T, B = batch.x.shape[:2]
    arrays = cell.empty_tape(T, B, params[0].dtype)
    params = connected(cell, params)
    kernel = kernels_of(cell.tape_type, cell.state_type, cell.params_type).forward
    threads, launcher = enter_scan(cell, T, B, 1, B)
    try:
        kernel(tuple(arrays), tuple(batch), tuple(initial), tuple(params), tuple(cell.options), threads, launcher)
    finally:
        leave_threads(launcher)
    return Tape(cell, arrays, batch, initial)


def backward(cell: Any, params: Any, tape: Tape, dh: Any, truncation: Truncation | None = None, *, dfinal: Any = None,
             clip_state: float | None = None) -> Grads:
    """Backpropagation through time: gradients of L from dh_t = ∂L/∂h_t, exact or truncated.

    With δ_t = ∂L/∂a_t: ∂L/∂W = Σ_t δ_t h_{t−1}ᵀ, ∂L/∂U = Σ_t δ_t x_tᵀ, ∂L/∂b = Σ_t δ_t, ∂L/∂x_t = Uᵀ δ_t.

    Parameters
    ----------
    cell, params
        As given to `forward`.
    tape : Tape
        From `forward`; it is left as it was, any number of calls may follow one forward.
    dh : (T, B, H)
        ∂L/∂h_t injected at every step; not read at padded steps. With a tape of checkpoints also a function
        dh(start, stop, h) of the h_t of steps start+1 … stop, called once for each segment, last first.
    truncation : Truncation, optional
        Full BPTT without it.
    dfinal : State, optional
        ∂L/∂`tape.final`, what a loss of the final state or the steps after these send back: goes with the errors of the last end.
    clip_state : float, optional
        Largest norm of the error ∂L/∂state that a pass carries from a step to the one before, for each sequence and step
        (over h and c together for the LSTM, for each layer of a stack): longer ones are scaled. Gradients are then no longer
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
    params = tape.checked[1] if isinstance(tape, Tape) and params is tape.checked[0] else check_params(cell, params)
    dtype = first_array(params).dtype
    check_tape(cell, tape, Tape, dtype)
    truncation = check_horizon(truncation)
    T, B = tape.batch.x.shape[:2]
    if not (callable(dh) and isinstance(tape, checkpoint.CheckpointTape)):
        dh = check_array("dh", dh, (T, B, cell.hidden_size), dtype, cell)
    dfinal = _no_errors(cell, B, dtype) if dfinal is None else check_state(cell, dfinal, B, dtype, "dfinal")
    clip = 0.0 if clip_state is None else check_positive("clip_state", clip_state)
    if isinstance(tape, checkpoint.CheckpointTape):
        check_budget_possible(cell, truncation if truncation is not FULL else None)
        return checkpoint.backward(cell, params, tape, dh, dfinal, clip)
    if is_stack(cell):
        return cast(Grads, cell.run_backward(params, tape, dh, truncation, dfinal, clip))
    grads = empty_grads(cell, params, tape)
    run_backward(grads, cell, params, tape, dh, dfinal, plan_passes(tape.batch, truncation, cell.hidden_size, clip > 0), clip)
    return grads if grads.x.size else grads._replace(x=None)


@lru_cache(maxsize=16)
def _no_errors(cell: Any, B: int, dtype: Any) -> Any:
    """∂L/∂(final state) where nothing follows: zeros, which no scan writes to."""
    return check_state(cell, None, B, dtype)


def run_backward(grads: Grads, cell: Any, params: Any, tape: Tape, dh: Array, dfinal: Any, passes: Passes,
                 clip: float = 0.0) -> None:
    """The backward scan of one cell over checked arrays; adds to `grads`."""
    batch = tape.batch
    kernel = kernels_of(cell.tape_type, cell.state_type, cell.params_type).backward
    dstate = tuple(grads.state)
    params = connected(cell, params)
    options = cell.options if clip == 0 else cell.options._replace(clip=clip)
    T, B = batch.x.shape[:2]
    threads, launcher = enter_scan(cell, T, B, 2, len(passes.rows))
    try:
        kernel(NO_PARTS[dh.dtype], tuple(grads.params), grads.x, dstate, dh, tuple(dfinal), dstate, tuple(tape.arrays),
               tuple(batch), tuple(tape.initial), tuple(params), tuple(options), tuple(passes), threads, launcher)
    finally:
        leave_threads(launcher)
    drop_unconnected(cell, grads.params.W)


def check_horizon(truncation: Any) -> Truncation:
    """A Truncation; None: full BPTT."""
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
