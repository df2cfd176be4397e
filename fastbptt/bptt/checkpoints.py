"""Exact BPTT in bounded memory: some states are stored, the steps between them are recomputed on the way back.

With one level, T steps in segments of S take T/S states and the tape of one segment: S = √T needs the least. With L levels
the steps are divided into n parts, each part into n again, and so on: n^L segments in all, with L·n states stored at a time;
each level costs one more forward pass. Segments begin at multiples of the scan's blocks of steps, so that every sum has the
same order, and the gradients the same bits, as without a budget.

A. Griewank and A. Walther, "Algorithm 799: revolve", ACM Transactions on Mathematical Software 26(1), 2000; T. Chen, B. Xu,
C. Zhang and C. Guestrin, "Training deep nets with sublinear memory cost", arXiv:1604.06174.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, Batch
from ..engine.partition import BLOCK_FLOATS, MAX_SHARDS, MIN_BLOCK_ROWS
from ..engine.threads import get_num_threads
from ..errors import check_budget, refuse_budget
from .kernels import empty_sums, segment_unit
from .passes import plan_passes
from .truncation import FULL


class Schedule(NamedTuple):
    """How a call is divided into segments."""

    segment: int
    """Steps of a segment, S."""
    branching: int
    """Parts into which each level divides its steps, n."""
    levels: int

    @property
    def stretch(self) -> int:
        """Steps between the checkpoints that a forward call stores."""
        return int(self.segment * self.branching ** (self.levels - 1))


def schedule_for(cell: Any, params: list[Any], batch: Batch, memory_budget: Any) -> Schedule:
    """The schedule of a call, from its shapes, its parameters by layer and the budget."""
    T, B = batch.x.shape[:2]
    dtype = params[0][0].dtype
    per_step = per_state = fixed = working = unit = 0
    for i, layer in enumerate(cell.layers):
        inputs = batch if i == 0 else batch._replace(x=_like(T, B, layer.input_size, dtype))
        passes = plan_passes(batch.lengths, T, FULL, layer.sizes)
        form, H = layer.form, layer.hidden_size
        handed = 1 if i == 0 else 4          # the error at every step; x with its dropout, and ∂L/∂x
        saved = layer.empty_tape(1, 1, dtype)[form.states].size
        per_step += (form.states * H + saved + handed * H) * B * dtype.itemsize
        per_state += form.states * B * H * dtype.itemsize
        fixed += sum(a.nbytes for a in empty_sums(layer, inputs, passes, dtype)) + sum(a.nbytes for a in params[i])
        working = max(working, _working_bytes(layer, B, T, dtype))
        unit = max(unit, segment_unit(layer, inputs, passes.shards, dtype))       # powers of two: multiples of each other
    return plan_schedule(T, unit, check_budget(memory_budget), per_step, per_state, fixed + working)


def _like(T: int, B: int, size: int, dtype: Any) -> Array:
    """An array of this shape that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), (T, B, size))


def _working_bytes(cell: Any, B: int, T: int, dtype: Any) -> int:
    """Roughly the bytes of a scan's own buffers: a block of working and of gathered rows for each running shard."""
    gathered = max(cell.input_size, cell.hidden_size) + 16
    width = (cell.gates + 1) * (cell.hidden_size + 16) + gathered
    rows = max(MIN_BLOCK_ROWS, BLOCK_FLOATS // width) * min(MAX_SHARDS, get_num_threads())
    return int(min(rows, T * B) * width * dtype.itemsize)


def plan_schedule(T: int, unit: int, budget: int, per_step: int, per_state: int, fixed: int) -> Schedule:
    """The schedule with the fewest levels that fits, and among these the one with the longest segments.

    Parameters
    ----------
    T : int
        Steps.
    unit : int
        Segments are multiples of it.
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
            branching = max(1, round(segments ** (1 / levels)))
            while branching ** levels < segments:
                branching += 1
            need = fixed + segment * per_step + levels * branching * per_state
            if need <= budget:
                return Schedule(segment, branching, levels)
            least = min(least, need)
            segment -= max(unit, segment // 16 // unit * unit)
        if -(-T // unit) <= 2 ** levels:     # more levels store no fewer states
            break
    raise refuse_budget(budget, least)
