"""Layer after layer: what a stack does with the scans of its cells.

Full BPTT: ∂L/∂x of a layer, times the dropout, is the error injected into the layer below. Truncated: the same for the passes of
ends whose windows do not overlap; the error of a pass is injected into the lower layers at all steps of its window, not only at
those between its end and the one before. Groups of such ends follow one another, and their gradients are summed.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..arrays import Array, Batch, Grads
from .dropout import draw_kept, dropped
from .passes import run_backward, run_forward
from .tape import Tape, empty_grads
from .truncation import FULL, Truncation, given_passes, plan_passes


class StackTape(Tape):
    """What `forward` of a stack kept: the tape of every layer, and what was dropped between them."""

    __slots__ = ("_h", "kept", "layers")

    def __init__(self, cell: Any, batch: Batch, layers: tuple[Any, ...], kept: tuple[Array | None, ...], h: Array):
        self.cell, self.batch, self.layers, self.kept, self._h, self.checked = cell, batch, layers, kept, h, (None, None)

    @property
    def h(self) -> Array:
        """(T, B, H): output of the last layer at steps 1 … T; with two directions (T, B, 2H)."""
        return self._h

    @property
    def c(self) -> Array:
        """(T, B, H): c_t of the last layer, where it is an LSTM; with two directions (T, B, 2H)."""
        last = self.layers[-1]
        if not self.cell.bidirectional:
            c: Array = last.c
            return c
        return np.concatenate([last.forward.c, turned(last.reverse.c, self.batch.lengths)], axis=2)

    @property
    def initial(self) -> Any:
        """The State that every layer began with."""
        return self.cell.per_layer(tape.initial for tape in parts(self))

    @property
    def final(self) -> Any:
        """State of every layer after the last valid step of every sequence; of a reverse direction after its own last, step 1."""
        return self.cell.per_layer(tape.final for tape in parts(self))


def parts(tape: StackTape) -> Iterator[Tape]:
    """The tapes of the cells, forward before reverse."""
    for layer in tape.layers:
        yield from layer if tape.cell.bidirectional else (layer,)


def turned(array: Array, lengths: Array) -> Array:
    """Each sequence's valid steps in reverse order, the padded ones where they were; (T, B, …). A view where none is padded."""
    T = array.shape[0]
    if lengths.min() == T:
        return array[::-1]
    t = np.arange(T)[:, None]
    return np.asarray(array[np.where(t < lengths, lengths - 1 - t, t), np.arange(array.shape[1])])


def opposite(batch: Batch) -> Batch:
    """What a reverse direction reads. A reset before step t parts steps t−1 and t, so there it comes before step t−1."""
    resets = batch.resets
    if resets.size:
        resets = np.ascontiguousarray(turned(np.concatenate([resets[1:], np.zeros_like(resets[:1])]), batch.lengths))
    return batch._replace(x=np.ascontiguousarray(turned(batch.x, batch.lengths)), resets=resets)


def forward(stack: Any, params: Any, batch: Batch, initial: Any, seed: int | None) -> StackTape:
    """All steps, layer after layer, over checked arrays."""
    tapes: list[Any] = []
    masks: list[Array | None] = []
    inputs = batch
    for i, cell in enumerate(stack.cells):
        if stack.bidirectional:
            ahead = run_forward(cell, params[i].forward, inputs, initial[i].forward)
            back = run_forward(cell, params[i].reverse, opposite(inputs), initial[i].reverse)
            tapes.append(stack.direction_type(ahead, back))
            h = np.concatenate([ahead.h, turned(back.h, batch.lengths)], axis=2)
        else:
            tapes.append(run_forward(cell, params[i], inputs, initial[i]))
            h = tapes[-1].h
        masks.append(draw_kept(stack, seed, i, h.shape))
        inputs = inputs._replace(x=dropped(stack, h, masks[-1]))
    return StackTape(stack, batch, tuple(tapes), tuple(masks), h)


def backward(stack: Any, params: Any, tape: StackTape, dh: Array, dfinal: Any, clip: float) -> Grads:
    """Full BPTT, last layer first, over checked arrays."""
    grads: list[Any] = []
    for i in reversed(range(len(stack.cells))):
        cell, runs, dh = stack.cells[i], tape.layers[i], dropped(stack, dh, tape.kept[i])
        passes = plan_passes(tape.batch, FULL, cell.hidden_size)
        if not stack.bidirectional:
            parts_of = empty_grads(cell, params[i], runs)
            run_backward(parts_of, cell, params[i], runs, dh, dfinal[i], passes, clip)
            dh = parts_of.x
            grads.insert(0, parts_of)
            continue
        H, lengths = cell.hidden_size, tape.batch.lengths
        errors = map(np.ascontiguousarray, (dh[..., :H], turned(dh[..., H:], lengths)))
        pair = [empty_grads(cell, *of) for of in zip(params[i], runs, strict=True)]
        for part, weights, run, error, last in zip(pair, params[i], runs, errors, dfinal[i], strict=True):
            run_backward(part, cell, weights, run, error, last, passes, clip)
        dh = pair[0].x
        if dh.size:
            dh += turned(pair[1].x, lengths)
        grads[:0] = pair
    return gathered(stack, grads, dh)


def truncated_backward(stack: Any, params: Any, tape: StackTape, dh: Array, truncation: Truncation, dfinal: Any,
                       clip: float) -> Grads:
    """BPTT(h; s) of the joint state, over checked arrays: group after group of ends, each last layer first."""
    top = len(stack.cells) - 1
    grads = [empty_grads(cell, params[i], tape.layers[i]) for i, cell in enumerate(stack.cells)]
    for rows in truncation.groups(tape.batch.lengths, clip > 0):
        windows = rows.copy()
        windows[:, 2] = windows[:, 3]          # errors from the layer above come in at every step of the window
        errors = dh
        for i in reversed(range(top + 1)):
            if 0 < i:
                grads[i].x.fill(0)             # the errors of this group alone
            passes = given_passes(rows if i == top else windows, stack.cells[i].hidden_size)
            errors = dropped(stack, errors, tape.kept[i])
            run_backward(grads[i], stack.cells[i], params[i], tape.layers[i], errors, dfinal[i], passes, clip)
            errors = grads[i].x
    return gathered(stack, grads, grads[0].x)


def gathered(stack: Any, grads: list[Any], dx: Array) -> Grads:
    """The gradients of the stack from those of its cells."""
    return Grads(stack.per_layer(part.params for part in grads), dx if dx.size else None,
                 stack.per_layer(part.state for part in grads))
