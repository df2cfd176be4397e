"""Exact BPTT in bounded memory: states at some steps are kept, what lies between them is computed again on the way back.

With one level, T steps in segments of S keep T/S states and the tape of one segment: S = √T needs the least. With L levels a
stretch is cut into n parts, each part into n again …, n^L segments in all, and L·n states are kept at a time; every level
more is one forward pass more. Segments begin at multiples of the scan's blocks of steps, so that every sum has the same order,
and the gradients the same bits, as without a budget.

A. Griewank and A. Walther, "Algorithm 799: revolve", ACM Transactions on Mathematical Software 26(1), 2000; T. Chen, B. Xu,
C. Zhang and C. Guestrin, "Training deep nets with sublinear memory cost", arXiv:1604.06174.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..arrays import NO_RESETS, NONE, Array, Batch, Grads
from ..cells.scan import TIME_ROWS
from ..engine.shards import (
    BLOCK_FLOATS,
    LEAST_ROWS,
    MAX_SHARDS,
    MIN_BLOCK_ROWS,
    enter_threads,
    get_num_threads,
    leave_threads,
)
from ..errors import check_array, check_budget, refuse_budget
from .kernels import FAR, kernels_of
from .tape import Tape, empty_grads
from .truncation import NO_ROWS, Plan

WHOLE = tuple(Plan(FAR, FAR, NO_ROWS))
DhFunction = Callable[[int, int, Array], Any]


class Schedule(NamedTuple):
    """How a call is cut."""

    segment: int
    """Steps of a segment, S."""
    fan: int
    """Parts into which each level cuts a stretch, n."""
    levels: int


class CheckpointTape(Tape):
    """What `forward` kept within a memory budget: the states at the ends of a few long stretches of steps."""

    __slots__ = ("_final", "params", "schedule", "states")

    def __init__(self, cell: Any, batch: Batch, initial: Any, params: Any, schedule: Schedule, states: list[Any], final: Any):
        self.cell, self.batch, self.initial, self.params, self.schedule = cell, batch, initial, params, schedule
        self.states, self._final, self.checked = states, final, (None, None)

    @property
    def h(self) -> Array:
        """Not kept."""
        raise AttributeError("tape.h: expected a tape of all steps, got one of checkpoints, which memory_budget asks for; "
                             "take h from the arguments of a function dh(start, stop, h), or call forward without a budget")

    @property
    def c(self) -> Array:
        """Not kept."""
        raise AttributeError("tape.c: expected a tape of all steps, got one of checkpoints; call forward without memory_budget")

    @property
    def final(self) -> Any:
        """State after the last valid step of every sequence."""
        return self._final


class _Segments:
    """One cell's scans over parts of a batch, on one tape that is used again and again."""

    def __init__(self, cell: Any, params: Any, batch: Batch, initial: Any, most: int):
        self.cell, self.batch, self.initial = cell, batch, initial
        self.params = params if cell.mask is None else cell.masked(params)
        self.kernels = kernels_of(cell.tape_type, cell.state_type, cell.params_type)
        self.tape = cell.empty_tape(most, batch.x.shape[1], params[0].dtype)

    def part(self, start: int, stop: int) -> Batch:
        """The batch of steps start+1 … stop."""
        b = self.batch
        return Batch(np.ascontiguousarray(b.x[start:stop]), b.lengths, b.resets[start:stop] if b.resets.size else b.resets,
                     b.noise[start:stop] if b.noise.size else b.noise, start)

    def rows(self, steps: int) -> Any:
        """The first rows of the tape."""
        states = len(self.initial)
        return tuple([a[:steps + (k < states)] if a.size else a for k, a in enumerate(self.tape)])

    def threads(self, steps: int) -> tuple[int, int]:
        """For a scan of so many steps."""
        B, H = self.batch.x.shape[1], self.cell.hidden_size
        return enter_threads(2.0 * steps * B * self.cell.gates * H * (H + self.cell.input_size), B)

    def run(self, start: int, stop: int, state: Any) -> tuple[Batch, Any]:
        """Steps start+1 … stop from a state; the tape is theirs until the next run."""
        part, rows = self.part(start, stop), self.rows(stop - start)
        for saved, first in zip(rows, state, strict=False):
            saved[0] = first
        threads, launcher = self.threads(stop - start)
        try:
            self.kernels.forward(rows, tuple(part), tuple(self.initial), tuple(self.params), tuple(self.cell.options),
                                         threads, launcher)
        finally:
            leave_threads(launcher)
        return part, rows

    def last_state(self, rows: Any) -> tuple[Array, ...]:
        """A copy of the state after the last step of a run."""
        return tuple([a[-1].copy() for a in rows[:len(self.initial)]])


def _bytes_of(cell: Any, batch: Batch, dtype: Any) -> tuple[int, int]:
    """Bytes of a step of a tape, with the errors injected at it, and of a state."""
    B, tape = batch.x.shape[1], cell.empty_tape(1, 1, dtype)
    per_step = sum(a[-1].size for a in tape if a.size) + cell.hidden_size
    return B * per_step * dtype.itemsize, B * cell.hidden_size * len(cell.state_type._fields) * dtype.itemsize


def _working_bytes(cell: Any, batch: Batch, dtype: Any) -> int:
    """About the bytes of a scan's own buffers: a block of working rows and of gathered rows for each shard under way."""
    T, B = batch.x.shape[:2]
    gathered = max(cell.input_size, cell.hidden_size) + 16
    width = (cell.gates + 1) * (cell.hidden_size + 16) + gathered
    rows = TIME_ROWS if B < 2 * LEAST_ROWS else max(MIN_BLOCK_ROWS, BLOCK_FLOATS // width) * min(MAX_SHARDS, get_num_threads())
    return int(min(rows, T * B) * width * dtype.itemsize)


def plan_schedule(T: int, unit: int, budget: int, per_step: int, per_state: int, fixed: int) -> Schedule:
    """The fewest levels that fit, and among these the longest segments.

    Parameters
    ----------
    T : int
        Steps.
    unit : int
        What a segment has to be a multiple of.
    budget : int
        Bytes.
    per_step, per_state, fixed : int
        Bytes of one step of a tape, of one state, and of what does not depend on the schedule.

    Raises
    ------
    ValueError
        If no schedule fits; the message names the least budget that would do.
    """
    least = fixed + unit * per_step + T * per_state
    for levels in range(1, 64):
        units = max(1, (budget - fixed) // (unit * per_step))
        segment = min(units, -(-T // unit)) * unit
        while segment >= unit:
            segments = -(-T // segment)
            fan = max(1, round(segments ** (1 / levels)))
            while fan ** levels < segments:
                fan += 1
            need = fixed + segment * per_step + levels * fan * per_state
            if need <= budget:
                return Schedule(segment, fan, levels)
            least = min(least, need)
            segment -= max(unit, segment // 16 // unit * unit)
        if -(-T // unit) <= 2 ** levels:     # more levels keep no fewer states
            break
    raise refuse_budget(budget, least)


def forward(cell: Any, params: Any, batch: Batch, initial: Any, memory_budget: Any) -> CheckpointTape:
    """All steps, over checked arrays; keeps what the budget allows."""
    budget = check_budget(memory_budget)
    T, dtype = batch.x.shape[0], params[0].dtype
    kernels = kernels_of(cell.tape_type, cell.state_type, cell.params_type)
    one = cell.empty_tape(1, batch.x.shape[1], dtype)
    empty = Batch(np.ascontiguousarray(batch.x[:1]), batch.lengths, batch.resets[:1] if batch.resets.size else NO_RESETS,
                  NONE[np.dtype(dtype)])
    parts, unit = kernels.parts_for(tuple(one), tuple(empty), tuple(initial), tuple(params))
    per_step, per_state = _bytes_of(cell, batch, dtype)
    fixed = _working_bytes(cell, batch, dtype) + sum(a.nbytes for a in (*parts, *params))
    schedule = plan_schedule(T, unit, budget, per_step, per_state, fixed)
    segments = _Segments(cell, params, batch, initial, min(T, schedule.segment))
    stretch = schedule.segment * schedule.fan ** (schedule.levels - 1)
    state, states = tuple(initial), []
    for start in range(0, T, stretch):
        states.append(state)
        state = _advance(segments, schedule.segment, start, min(T, start + stretch), state)
    return CheckpointTape(cell, batch, initial, params, schedule, states, cell.state_type(*state))


def _advance(segments: _Segments, size: int, start: int, stop: int, state: Any) -> Any:
    """The state after step `stop`, from that after step `start`."""
    for at in range(start, stop, size):
        state = segments.last_state(segments.run(at, min(stop, at + size), state)[1])
    return state


def backward(cell: Any, params: Any, tape: CheckpointTape, dh: Array | DhFunction, dfinal: Any, clip: float) -> Grads:
    """Full BPTT over checked arrays, segment after segment, last first."""
    T, schedule = tape.batch.x.shape[0], tape.schedule
    segments = _Segments(cell, params, tape.batch, tape.initial, min(T, schedule.segment))
    grads = empty_grads(cell, params, tape)
    first = segments.part(0, 1)
    parts, _ = segments.kernels.parts_for(segments.rows(1), tuple(first), tuple(tape.initial), tuple(segments.params))
    options = cell.options if clip == 0 else cell.options._replace(clip=clip)
    carry = tuple(dfinal)

    def back(start: int, stop: int, state: Any, level: int) -> None:
        """Steps stop … start+1, from the state before them."""
        nonlocal carry
        if level > 0:
            size = schedule.segment * schedule.fan ** (level - 1)
            places, states = list(range(start, stop, size)), []
            for at in places:
                states.append(state)
                if at != places[-1]:
                    state = _advance(segments, schedule.segment, at, at + size, state)
            for at in reversed(places):
                back(at, min(stop, at + size), states.pop(), level - 1)
            return
        part, rows = segments.run(start, stop, state)
        error = dh[start:stop] if isinstance(dh, np.ndarray) else dh(start, stop, rows[0][1:])
        error = check_array("dh", error, (stop - start, *rows[0].shape[1:]), rows[0].dtype, cell)
        outgoing = tuple([np.zeros_like(a) for a in tape.initial])
        dx = grads.x[start:stop] if grads.x.size else grads.x
        threads, launcher = segments.threads(stop - start)
        try:
            segments.kernels.backward(tuple(parts), tuple(grads.params), dx, tuple(grads.state), error, carry, outgoing, rows,
                                      tuple(part), tuple(tape.initial), tuple(segments.params), tuple(options), WHOLE,
                                      threads, launcher)
        finally:
            leave_threads(launcher)
        carry = outgoing

    stretch = schedule.segment * schedule.fan ** (schedule.levels - 1)
    for i in reversed(range(len(tape.states))):
        back(i * stretch, min(T, (i + 1) * stretch), tape.states[i], schedule.levels - 1)
    for total, left in zip(grads.state, carry, strict=True):
        total += left
    segments.kernels.add_up(tuple(grads.params), tuple(grads.state), tuple(parts), segments.rows(1), tuple(first),
                            tuple(tape.initial), tuple(segments.params))
    if cell.mask is not None:
        grads.params.W[~cell.mask] = 0
    return grads if grads.x.size else grads._replace(x=None)
