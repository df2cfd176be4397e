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

from ..arrays import Array, Batch, Grads
from ..cells.protocol import connected, drop_unconnected
from ..cells.rows import TIME_ROWS
from ..engine.shards import (
    BLOCK_FLOATS,
    LEAST_ROWS,
    MAX_SHARDS,
    MIN_BLOCK_ROWS,
    get_num_threads,
    leave_threads,
)
from ..errors import check_array, check_budget, is_stack, refuse_budget
from .dropout import draw_kept, dropped
from .kernels import enter_scan, kernels_of
from .tape import Tape, empty_dx
from .truncation import FULL, plan_passes

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

    __slots__ = ("_final", "params", "schedule", "seed", "states")

    def __init__(self, cell: Any, batch: Batch, initial: Any, params: Any, seed: int | None, schedule: Schedule,
                 states: list[Any], final: Any):
        self.cell, self.batch, self.initial, self.params, self.schedule = cell, batch, initial, params, schedule
        self.seed, self.states, self._final, self.checked = seed, states, final, (None, None)

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


class _Run(NamedTuple):
    """What one layer's scan over a segment read and wrote."""

    batch: Batch
    rows: Any
    """Of the tape."""
    kept: Array | None
    """Dropout of the outputs."""


class _Layer:
    """One cell's scans over segments, on one tape that is used again and again."""

    def __init__(self, cell: Any, params: Any, initial: Any, steps: int):
        self.cell, self.initial = cell, tuple(initial)
        self.params = tuple(connected(cell, params))
        self.kernels = kernels_of(cell.tape_type, cell.state_type, cell.params_type)
        self.tape = cell.empty_tape(steps, self.initial[0].shape[0], self.params[0].dtype)
        self.grads = tuple([np.zeros_like(a) for a in self.params])
        self.dstate = tuple([np.zeros_like(a) for a in self.initial])

    def rows(self, steps: int) -> Any:
        """The first rows of the tape."""
        states = len(self.initial)
        return tuple([a[:steps + (k < states)] if a.size else a for k, a in enumerate(self.tape)])

    def empty_parts(self, batch: Batch) -> tuple[Any, int]:
        """Parts of the gradients to be added up, and what the length of a segment has to be a multiple of."""
        parts, unit = self.kernels.parts_for(self.rows(1), tuple(batch), self.initial, self.params, self._passes(batch))
        return tuple(parts), unit

    def _passes(self, batch: Batch) -> Any:
        return tuple(plan_passes(batch, FULL, self.cell.hidden_size))

    def _threads(self, steps: int) -> tuple[int, int]:
        B = self.initial[0].shape[0]
        return enter_scan(self.cell, steps, B, 1, B)

    def forward(self, batch: Batch, state: Any) -> Any:
        """The rows of the tape of a segment that begins with this state."""
        rows = self.rows(batch.x.shape[0])
        for saved, first in zip(rows, state, strict=False):
            saved[0] = first
        threads, launcher = self._threads(batch.x.shape[0])
        try:
            self.kernels.forward(rows, tuple(batch), self.initial, self.params, tuple(self.cell.options), threads, launcher)
        finally:
            leave_threads(launcher)
        return rows

    def backward(self, run: _Run, parts: Any, dx: Array, dh: Array, incoming: Any, clip: float) -> Any:
        """The error that leaves the segment; its gradients are added to `parts`, dx, and what reaches resets to `dstate`."""
        options = self.cell.options if clip == 0 else self.cell.options._replace(clip=clip)
        outgoing = tuple([np.zeros_like(a) for a in self.initial])
        threads, launcher = self._threads(len(dh))
        try:
            self.kernels.backward(parts, self.grads, dx, self.dstate, dh, incoming, outgoing, run.rows, tuple(run.batch),
                                  self.initial, self.params, tuple(options), self._passes(run.batch), threads, launcher)
        finally:
            leave_threads(launcher)
        return outgoing

    def gradients(self, batch: Batch, parts: Any) -> tuple[Any, Any]:
        """Of the parameters and of the initial state, from all parts."""
        self.kernels.add_up(self.grads, self.dstate, parts, self.rows(1), tuple(batch), self.initial, self.params)
        grads = self.cell.params_type(*self.grads)
        drop_unconnected(self.cell, grads.W)
        return grads, self.cell.state_type(*self.dstate)


class _Segments:
    """The scans of a cell, or of a stack layer after layer, over parts of a batch."""

    def __init__(self, cell: Any, params: Any, batch: Batch, initial: Any, seed: int | None, steps: int):
        self.cell, self.batch, self.seed = cell, batch, seed
        entries = zip(cell.cells, params, initial, strict=True) if is_stack(cell) else [(cell, params, initial)]
        self.layers = [_Layer(*entry, steps) for entry in entries]

    def part(self, start: int, stop: int) -> Batch:
        """The batch of steps start+1 … stop."""
        b = self.batch
        resets, noise = (a[start:stop] if a.size else a for a in (b.resets, b.noise))
        return Batch(np.ascontiguousarray(b.x[start:stop]), b.lengths, b.order, resets, noise, start)

    def inputs(self, layer: int, part: Batch) -> Batch:
        """A batch of this shape as a layer sees it, of which only the shape and the type of x count."""
        return part if layer == 0 else part._replace(x=self.layers[layer - 1].tape[0][1:1 + part.x.shape[0]])

    def run(self, start: int, stop: int, states: Any) -> list[_Run]:
        """Steps start+1 … stop of all layers from their states; the tapes are theirs until the next run."""
        batch, runs = self.part(start, stop), []
        for i, (layer, state) in enumerate(zip(self.layers, states, strict=True)):
            rows = layer.forward(batch, state)
            h = rows[0][1:]
            kept = draw_kept(self.cell, self.seed, i, h.shape, start) if len(self.layers) > 1 else None
            runs.append(_Run(batch, rows, kept))
            batch = batch._replace(x=dropped(self.cell, h, kept))
        return runs

    def last_states(self, runs: list[_Run]) -> list[Any]:
        """Copies of the states after the last step of a run."""
        return [tuple([a[-1].copy() for a in run.rows[:len(layer.initial)]])
                for layer, run in zip(self.layers, runs, strict=True)]

    def advance(self, size: int, start: int, stop: int, states: Any) -> Any:
        """The states after step `stop`, from those after step `start`."""
        for at in range(start, stop, size):
            states = self.last_states(self.run(at, min(stop, at + size), states))
        return states

    def per_layer(self, entries: Any) -> Any:
        """What a cell has one of, and a stack a tuple."""
        entries = tuple(entries)
        return entries if is_stack(self.cell) else entries[0]


def _bytes_of(layers: list[_Layer]) -> tuple[int, int]:
    """Bytes of a step of all tapes, with what a layer takes from and hands to the next, and of all states."""
    per_step = per_state = 0
    for i, layer in enumerate(layers):
        B, H = layer.initial[0].shape
        handed = 1 if i == 0 else 4          # the error at every step; x with its dropout, and ∂L/∂x
        per_step += (sum(a[-1].size for a in layer.tape if a.size) + handed * B * H) * layer.initial[0].itemsize
        per_state += sum(a.nbytes for a in layer.initial)
    return per_step, per_state


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


def forward(cell: Any, params: Any, batch: Batch, initial: Any, memory_budget: Any, seed: int | None) -> CheckpointTape:
    """All steps, over checked arrays; keeps what the budget allows."""
    budget = check_budget(memory_budget)
    T = batch.x.shape[0]
    one = _Segments(cell, params, batch, initial, seed, 1)
    found = [layer.empty_parts(one.inputs(i, one.part(0, 1))) for i, layer in enumerate(one.layers)]
    per_step, per_state = _bytes_of(one.layers)
    fixed = max(_working_bytes(layer.cell, batch, layer.params[0].dtype) for layer in one.layers)
    fixed += sum(a.nbytes for layer, (parts, _) in zip(one.layers, found, strict=True) for a in (*parts, *layer.params))
    # The units of all layers are powers of two: the largest is a multiple of each.
    schedule = plan_schedule(T, max(unit for _, unit in found), budget, per_step, per_state, fixed)
    segments = _Segments(cell, params, batch, initial, seed, min(T, schedule.segment))
    stretch = schedule.segment * schedule.fan ** (schedule.levels - 1)
    now, states = [layer.initial for layer in segments.layers], []
    for start in range(0, T, stretch):
        states.append(now)
        now = segments.advance(schedule.segment, start, min(T, start + stretch), now)
    final = segments.per_layer(layer.cell.state_type(*state) for layer, state in zip(segments.layers, now, strict=True))
    return CheckpointTape(cell, batch, initial, params, seed, schedule, states, final)


def backward(cell: Any, params: Any, tape: CheckpointTape, dh: Array | DhFunction, dfinal: Any, clip: float) -> Grads:
    """Full BPTT over checked arrays, segment after segment, last first."""
    T, schedule = tape.batch.x.shape[0], tape.schedule
    segments = _Segments(cell, params, tape.batch, tape.initial, tape.seed, min(T, schedule.segment))
    layers, first = segments.layers, segments.part(0, 1)
    parts = [layer.empty_parts(segments.inputs(i, first))[0] for i, layer in enumerate(layers)]
    dtype = layers[0].params[0].dtype
    dx = empty_dx(tape.batch.x, dtype)
    carry = [tuple(part) for part in (dfinal if is_stack(cell) else (dfinal,))]

    def back(start: int, stop: int, states: Any, level: int) -> None:
        """Steps stop … start+1, from the states before them."""
        if level > 0:
            size = schedule.segment * schedule.fan ** (level - 1)
            places, before = list(range(start, stop, size)), []
            for at in places:
                before.append(states)
                if at != places[-1]:
                    states = segments.advance(schedule.segment, at, at + size, states)
            for at in reversed(places):
                back(at, min(stop, at + size), before.pop(), level - 1)
            return
        runs = segments.run(start, stop, states)
        h = runs[-1].rows[0][1:]
        h.flags.writeable = False       # a function that works in place would spoil the tape
        error = dh[start:stop] if isinstance(dh, np.ndarray) else dh(start, stop, h)
        error = check_array("dh", error, h.shape, dtype, cell)
        for i in reversed(range(len(layers))):
            error = dropped(cell, error, runs[i].kept)
            below = np.zeros(runs[i].batch.x.shape, dtype) if i > 0 else dx[start:stop] if dx.size else dx
            carry[i] = layers[i].backward(runs[i], parts[i], below, error, carry[i], clip)
            error = below

    stretch = schedule.segment * schedule.fan ** (schedule.levels - 1)
    for i in reversed(range(len(tape.states))):
        back(i * stretch, min(T, (i + 1) * stretch), tape.states[i], schedule.levels - 1)
    found = []
    for i, layer in enumerate(layers):
        for total, left in zip(layer.dstate, carry[i], strict=True):
            total += left
        found.append(layer.gradients(segments.inputs(i, first), parts[i]))
    return Grads(segments.per_layer(p for p, _ in found), dx if dx.size else None, segments.per_layer(s for _, s in found))
