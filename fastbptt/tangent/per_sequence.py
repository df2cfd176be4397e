"""The gradient of every sequence of a batch by itself, or its norm alone: what clipping each sequence needs."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..arrays import NONE, Array, Passes
from ..bptt.api import check_horizon
from ..bptt.execute import Execution, Scan, scans_of
from ..bptt.kernels import cell_dims, sum_shapes
from ..bptt.plan import plan_backward
from ..bptt.tape import CheckpointTape, Tape
from ..bptt.truncation import Truncation
from ..cells.sequences import sequence_kernels
from ..engine import products
from ..engine.partition import MAX_SHARDS
from ..engine.threads import pool_for
from ..errors import check_array, check_kept_steps, check_params, check_positive, check_state, check_tape
from ..tree import first_array

TOGETHER = 2**22      # floats of the gradients that are formed together, at least those of MAX_SHARDS sequences


def per_sequence_gradients(cell: Any, params: Any, tape: Tape, dh: Any, truncation: Truncation | None = None, *,
                           dfinal: Any = None, clip_state: float | None = None) -> Any:
    """The gradients of the parameters from the errors of each sequence alone; they add up to those of `backward`.

    ∂L_b/∂W = Σ_t δ_{t,b} h_{t−1,b}ᵀ, where L = Σ_b L_b and δ_{t,b} = ∂L/∂a_{t,b}.

    Parameters
    ----------
    cell, params, tape, dh, truncation, dfinal, clip_state
        As for `backward`, with a tape of all steps.

    Returns
    -------
    Params
        Each array with a leading axis of B.

    Raises
    ------
    TypeError, ValueError
        As `backward`, and if the tape is one of checkpoints.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=3, hidden_size=4)
    >>> params = cell.init(seed=0)
    >>> tape = fb.forward(cell, params, np.ones((5, 2, 3), np.float32))
    >>> fb.per_sequence_gradients(cell, params, tape, np.ones_like(tape.h)).W.shape
    (2, 4, 4)
    """
    errors = _errors_of(cell, params, tape, dh, truncation, dfinal, clip_state)
    B = tape.batch.x.shape[1]
    result = cell.per_layer(scan.cell.params_type(*[np.empty((B, *a.shape), a.dtype) for a in scan.params]) for scan in errors)
    for own, scan, run in zip(cell.flatten(result), errors, tape.scans, strict=True):
        for sequences, sums in scan.sums(run):
            for name, rows, part in scan.parts(sums, run.batch.x.ndim == 2):
                getattr(own, name)[sequences, rows] = part
    return result


def per_sequence_norms(cell: Any, params: Any, tape: Tape, dh: Any, truncation: Truncation | None = None, *, dfinal: Any = None,
                       clip_state: float | None = None) -> Array:
    """The norm of each sequence's gradient over all parameters, without holding the gradients of all sequences.

    Since gradients are linear in dh, ``backward(cell, params, tape, dh * factors[:, None])`` with
    ``factors = np.minimum(1, limit / norms)`` is the sum of the gradients clipped one by one (without `clip_state`).

    Parameters
    ----------
    cell, params, tape, dh, truncation, dfinal, clip_state
        As for `per_sequence_gradients`.

    Returns
    -------
    (B,) float64

    Raises
    ------
    TypeError, ValueError
        As `per_sequence_gradients`.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=3, hidden_size=4)
    >>> params = cell.init(seed=0)
    >>> tape = fb.forward(cell, params, np.ones((5, 2, 3), np.float32))
    >>> norms = fb.per_sequence_norms(cell, params, tape, np.ones_like(tape.h))
    >>> norms.shape, norms.dtype
    ((2,), dtype('float64'))

    References
    ----------
    M. Abadi et al., "Deep learning with differential privacy", CCS 2016 (clipping each example's gradient).
    """
    errors = _errors_of(cell, params, tape, dh, truncation, dfinal, clip_state)
    squares = np.zeros(tape.batch.x.shape[1])
    for scan, run in zip(errors, tape.scans, strict=True):
        for sequences, sums in scan.sums(run):
            for padded in sums:      # the padding is 0
                squares[sequences] += [np.einsum("i,i", row, row) for row in map(np.float64, padded)]
    return np.sqrt(squares)


def _errors_of(cell: Any, params: Any, tape: Any, dh: Any, truncation: Any, dfinal: Any, clip_state: Any) -> list[ErrorScan]:
    """The arguments checked, and the errors of every scan."""
    params = check_params(cell, params)
    dtype = first_array(params).dtype
    check_tape(cell, tape, Tape, dtype)
    check_kept_steps(tape, CheckpointTape)
    T, B = tape.batch.x.shape[:2]
    dh = check_array("dh", dh, (T, B, cell.hidden_size), dtype, cell)
    dfinal = check_state(cell, dfinal, B, dtype, "dfinal")
    clip = 0.0 if clip_state is None else check_positive("clip_state", clip_state)
    actions = plan_backward(cell, tape.batch.lengths, T, check_horizon(truncation), clip > 0)
    scans = [ErrorScan(scan, k >= 1 + cell.bidirectional) for k, scan in enumerate(scans_of(cell, params, tape.initial))]
    execution = Execution(cell, list(scans), tape.batch)
    execution.runs, execution.masks = tape.scans, tape.masks
    execution.start_backward(dh, cell.flatten(dfinal), clip)
    execution.run(actions)
    return scans


class ErrorScan(Scan):
    """One cell of a backward call that keeps δ of every step."""

    __slots__ = ("above", "delta", "dims", "kernels")

    def __init__(self, scan: Scan, above: bool):
        super().__init__(scan.cell, scan.cell.params_type(*scan.params), scan.initial, scan.reverse)
        self.above = above
        """Whether a layer below needs its ∂L/∂x."""
        self.delta: Any = None
        cell = self.cell
        self.kernels = sequence_kernels(cell.tape_type, cell.state_type, cell.params_type)

    def backward(self, run: Tape, passes: Passes, sums: Any, grads: Any, errors: Any, clip: float, whole: bool,
                 last: bool) -> None:
        """All passes over a run: their δ are added to `delta`, and to ∂L/∂x where it is needed."""
        T, B = run.batch.x.shape[:2]
        options = self.cell.options._replace(clip=clip) if clip else self.cell.options
        self.dims = cell_dims(self.cell, T, B, self.dtype)
        delta = np.zeros((T, B, self.dims.row), self.dtype)
        resets = sum(a.size for a in self.initial) if run.batch.resets.size else 0
        with pool_for(self.cell.row_flops * T * B) as pool:
            self.kernels.errors(delta, np.zeros((passes.shards, resets), self.dtype), errors, tuple(run.arrays), tuple(run.batch),
                                tuple(self.initial), self.params, tuple(options), tuple(passes), pool)
        if self.above:
            grads[1][:] += self._input_errors(delta)
        self.delta = delta if self.delta is None else np.add(self.delta, delta, out=self.delta)

    def _input_errors(self, delta: Array) -> Array:
        """∂L/∂x = δ U."""
        form, H, Hp = self.cell.form, self.cell.hidden_size, self.dims.Hp
        lay, U = form.layout, self.params[0]
        weights = np.zeros((lay.input_columns * Hp, U.shape[1]), self.dtype)
        for p, gate in enumerate(_gates(lay)):
            weights[p * Hp:p * Hp + H] = U[gate * H:(gate + 1) * H]
        rows = np.ascontiguousarray(delta.reshape(-1, delta.shape[2])[:, :len(weights)])
        return products.times(rows, weights).reshape(*delta.shape[:2], -1)

    def sums(self, tape: Tape) -> Iterator[tuple[slice, Any]]:
        """(which sequences, their sums, padded as the products leave them) for a few sequences at a time."""
        cell, batch, B = self.cell, tape.batch, tape.batch.x.shape[1]
        together = max(MAX_SHARDS, TOGETHER // sum(a.size for a in self.params))
        for first in range(0, B, together):
            n = min(together, B - first)
            found = tuple([np.zeros(shape, self.dtype) for shape in sum_shapes(
                cell.params_type, cell.input_size, cell.hidden_size, self.dtype, batch.x.ndim == 2, B, n, False)])
            shards = min(n, MAX_SHARDS)
            with pool_for(cell.row_flops * len(self.delta) * n) as pool:
                self.kernels.products(found, self.delta, NONE[self.dtype].ravel(), tuple(tape.arrays), tuple(batch),
                                      tuple(self.initial), self.params, (first, shards, pool))
            if cell.mask is not None:
                for name, _, part in self.parts(found, batch.x.ndim == 2):
                    if name == "W":      # of one gate: that of the RNN, which alone has a mask
                        part *= cell.mask
            yield slice(first, first + n), found

    def parts(self, sums: Any, ids: bool) -> Iterator[tuple[str, slice, Array]]:
        """(field of Params, rows of its first axis, view of `sums`), gate by gate."""
        cell, form, H, Hp = self.cell, self.cell.form, self.cell.hidden_size, self.dims.Hp
        n, I, lay = len(sums[0]), cell.input_size, form.layout  # noqa: E741
        inputs = sums[0].reshape(n, I + 1, lay.input_columns, Hp).transpose(0, 2, 3, 1) if ids else \
            sums[0].reshape(n, lay.input_columns, Hp, -1)
        square = lay.recurrent * Hp * Hp
        for p, gate in enumerate(_gates(lay)):
            rows = slice(gate * H, (gate + 1) * H)
            yield "U", rows, inputs[:, p, :H, :I]
            yield "b", rows, inputs[:, p, :H, I]
        W = sums[1][:, :square].reshape(n, lay.recurrent, Hp, Hp)
        for gate in range(lay.recurrent):
            yield "W", slice(gate * H, (gate + 1) * H), W[:, gate, :H, :H]
        if form.extra:
            shape = cell.shapes[form.extra]
            own = sums[1][:, square:].reshape(n, form.extra_count, Hp)[:, :, :H]
            yield form.extra, slice(None), own if len(shape) > 1 else own[:, 0]


def _gates(lay: Any) -> list[int]:
    """The gate of U that every input column belongs to."""
    return [(p + lay.first_gate) % lay.input_columns for p in range(lay.input_columns)]
