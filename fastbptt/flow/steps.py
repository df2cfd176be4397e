"""The steps of one cell's tape as linear maps: products with their Jacobians, and the gradients of the parameters.

All T·B steps are linearised once: besides the weights, a Jacobian needs a few numbers per unit, the derivatives of the
cell's point function (`cells/derivatives.py`). Any range of steps is then applied forward (J v) or backward (Jᵀ e) in
products over all of its rows.

Rows have the shape (n, B, m, S): n steps, B sequences, m vectors side by side. The Jacobian of
a step that begins with a reset is 0, that of a padded step the identity.
"""
from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from ..arrays import Array
from ..cells.derivatives import Derivatives, assemble, derivatives_kernel
from ..engine import products
from ..engine.activations import NAMES, TABLE
from ..engine.partition import MAX_SHARDS
from ..engine.threads import pool_for

Span = slice
"""Steps, numbered from 0: entry t leads from state t to state t+1."""
Deltas = list[Array]
"""∂L/∂a of a range of steps, (n, B, m, H) for every column of the working row."""

CACHED = 2**20
"""Floats of the Jacobians that are formed together."""


def times(rows: Array, matrix: Array) -> Array:
    """rows @ matrix over all leading axes, as one product."""
    flat = products.times(rows.reshape(-1, rows.shape[-1]), matrix)
    return flat.reshape(*rows.shape[:-1], matrix.shape[1])


def over_rows(left: Array, right: Array) -> Array:
    """leftᵀ right, summed over all rows."""
    return products.over_rows(left.reshape(-1, left.shape[-1]), right.reshape(-1, right.shape[-1]))


def _side_by_side(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _weighted(factors: list[Array | None], at: Span, parts: list[Array]) -> Array | None:
    """Σ_p factor_p ⊙ part_p over the factors that are not 0."""
    total: Array | None = None
    for factor, part in zip(factors, parts, strict=True):
        if factor is not None:
            product: Array = factor[at] * part
            total = product if total is None else np.add(total, product, out=total)
    return total


def _needed(array: Array) -> Array | None:
    """Rows (T, B, 1, H), or None where all are 0."""
    rows: Array = array[:, :, None]
    return rows if rows.any() else None


class CellSteps:
    """The steps of one cell over its tape."""

    def __init__(self, cell: Any, params: Any, tape: Any, dtype: Any):
        self.cell, self.given, self.dtype = cell, params, np.dtype(dtype)
        self.params = type(params)(*[a.astype(dtype, copy=False) for a in cell.apply_mask(params)])
        self.form = cell.form
        lay, H = self.form.layout, cell.hidden_size
        self.H, self.size = H, H * self.form.states
        batch = tape.batch
        self.T, self.B = batch.x.shape[:2]
        padded = np.arange(self.T)[:, None] >= batch.lengths
        self.padded = padded[:, :, None, None] if padded.any() else None
        self.crossed = ~batch.resets[:, :, None, None] if batch.resets.size and batch.resets.any() else None
        self.x = self._valid(batch.x) if batch.x.ndim == 3 else np.where(padded, 0, batch.x)
        self.before = self._states_before(tape)
        self._tape = tape
        self._differentiate(tape)
        self.input_columns = [(g - lay.first_gate) % lay.input_columns for g in range(lay.input_columns)]
        self.recurrent_columns = list(range(lay.recurrent_first, lay.recurrent_first + lay.recurrent))
        shared = H * (lay.recurrent - (self.form.second_product is not None))     # rows of W that multiply h itself
        self.W, self.second_W = self.params.W[:shared], self.params.W[shared:]
        self.U_T, self.W_T, self.second_W_T = (np.ascontiguousarray(a.T) for a in (self.params.U, self.W, self.second_W))

    # ------------------------------------------------------------------ reading the tape

    def _valid(self, array: Array) -> Array:
        """(T, B, n) as rows (T, B, 1, n), 0 at padded steps, whatever they hold."""
        with np.errstate(all="ignore"):
            rows: Array = array[:, :, None].astype(self.dtype, copy=False)
        return rows if self.padded is None else np.where(self.padded, self.dtype.type(0), rows)

    def _states_before(self, tape: Any) -> Array:
        """The h from which every step starts, as rows (T, B, 1, H)."""
        states = tape.arrays.h[:-1]
        if self.crossed is not None:
            states = np.where(tape.batch.resets[:, :, None], tape.initial.h, states)
        return self._valid(states)

    def _differentiate(self, tape: Any) -> None:
        cell, form, dtype = self.cell, self.form, self.dtype
        columns, shape = form.layout.columns, (self.T, self.B, self.H)
        found = Derivatives(np.zeros((form.states, columns + form.states, *shape), dtype),
                            np.zeros((3 if form.second_product else 0, *shape), dtype),
                            np.zeros((form.extra_count, columns if form.extra_count else 0, *shape), dtype))
        with np.errstate(all="ignore"):        # padded steps may hold anything
            cast = [tuple([np.ascontiguousarray(a, dtype) for a in part]) for part in (tape.arrays, tape.initial)]
        batch = tape.batch._replace(x=np.zeros((1, 1, 1), dtype))        # not read; one type for ids and vectors
        derivatives_kernel(cell.tape_type, cell.state_type, cell.params_type)(
            tuple(found), cast[0], tuple(batch), cast[1], tuple(self.params), tuple(cell.options))
        self.by_column = [[_needed(found.new[s, p]) for p in range(columns)] for s in range(form.states)]
        self.by_state = [[_needed(found.new[s, columns + r]) for r in range(form.states)] for s in range(form.states)]
        self.operand = [array[:, :, None] for array in found.operand]
        self.extra = [[_needed(found.extra[k, p]) for p in range(columns)] for k in range(form.extra_count)]

    def first_sequence(self) -> CellSteps:
        """The same steps of the first sequence alone, for products."""
        one = copy(self)
        one.B = 1
        for name in ("by_column", "by_state"):
            setattr(one, name, [[None if a is None else a[:, :1] for a in row] for row in getattr(self, name)])
        one.operand = [a[:, :1] for a in self.operand]
        one.padded = None if self.padded is None else self.padded[:, :1]
        one.crossed = None if self.crossed is None else self.crossed[:, :1]
        return one

    def candidate_slopes(self) -> Array | None:
        """σ′ of the candidate (in an RNN, of the unit), rows of all steps; None if σ does not saturate."""
        if self.cell.candidate is not None:
            H, k = self.H, self.cell.candidate
            y = self._valid(self._tape.arrays[self.form.states][..., k * H:(k + 1) * H])
            return np.asarray(1 - y * y)
        slopes = self.slopes()
        return slopes / self.cell.leak if TABLE[NAMES.index(self.cell.activation)].saturates else None

    def slopes(self) -> Array:
        """∂h_t/∂a_t of a cell with one gate, rows of all steps."""
        found = self.by_column[0][0]
        return np.zeros((self.T, self.B, 1, self.H), self.dtype) if found is None else found

    # ------------------------------------------------------------------ products

    def _parts(self, rows: Array) -> list[Array]:
        return [rows[..., s * self.H:(s + 1) * self.H] for s in range(self.form.states)]

    def vjp(self, at: Span, errors: Array) -> tuple[Deltas, Array]:
        """From ∂L/∂state after the steps to ∂L/∂a and ∂L/∂state before them."""
        parts = self._parts(errors)
        zero = np.zeros((*errors.shape[:-1], self.H), self.dtype)

        def found(table: Any, p: int) -> Array:
            total = _weighted([row[p] for row in table], at, parts)
            return zero if total is None else total
        deltas = [found(self.by_column, p) for p in range(self.form.layout.columns)]
        before = [found(self.by_state, r) for r in range(self.form.states)]
        recurrent = [deltas[p] for p in self.recurrent_columns]
        if self.operand:
            q = times(recurrent.pop(), self.second_W)
            first = self.recurrent_columns[0]
            deltas[first] = recurrent[0] = self.operand[0][at] * q
            before[0] = before[0] + self.operand[1][at] * q
        through = times(_side_by_side(recurrent), self.W)
        before[0] = through if before[0] is zero else before[0] + through
        rows = _side_by_side(before)
        if self.crossed is not None:
            rows = rows * self.crossed[at]
        if self.padded is not None:
            rows = np.where(self.padded[at], errors, rows)
        return deltas, rows

    def jvp(self, at: Span, vectors: Array, dx: Array | None = None) -> Array:
        """From a change of the state before the steps, and of x if given, to the change of the state after them."""
        held = vectors
        if self.crossed is not None:
            vectors = vectors * self.crossed[at]
        parts, H, columns = self._parts(vectors), self.H, self.form.layout.columns
        tangents: list[Any] = [None] * columns
        if dx is not None:
            u = times(dx, self.U_T)
            for g, p in enumerate(self.input_columns):
                tangents[p] = u[..., g * H:(g + 1) * H]
        through = times(np.ascontiguousarray(parts[0]), self.W_T)
        shared = self.recurrent_columns[:len(self.W) // H]
        for g, p in enumerate(shared):
            own = through[..., g * H:(g + 1) * H]
            tangents[p] = own if tangents[p] is None else tangents[p] + own
        if self.operand:
            operand = self.operand[1][at] * parts[0] + self.operand[0][at] * tangents[shared[0]]
            last, own = self.recurrent_columns[-1], times(operand, self.second_W_T)
            tangents[last] = own if tangents[last] is None else tangents[last] + own
        after = []
        for s in range(self.form.states):
            used = [p for p in range(columns) if tangents[p] is not None]
            total = _weighted([self.by_column[s][p] for p in used] + self.by_state[s], at, [tangents[p] for p in used] + parts)
            after.append(np.zeros_like(parts[0]) if total is None else total)
        rows = _side_by_side(after)
        return rows if self.padded is None else np.where(self.padded[at], held, rows)

    def jacobians(self, at: Span = slice(None)) -> Array:
        """(n, B, S, S): the Jacobians themselves."""
        first, last, _ = at.indices(self.T)
        H, states = self.H, self.form.states
        J = np.empty((last - first, self.B, self.size, self.size), self.dtype)
        together = max(1, CACHED // max(1, J[:1].size))
        for t in range(first, last, together):        # in parts, so that temporaries stay small
            part = slice(t, min(t + together, last))
            for s in range(states):
                for r in range(states):
                    J[t - first:part.stop - first, :, s * H:(s + 1) * H, r * H:(r + 1) * H] = self._block(part, s, r)
        if self.crossed is not None:
            J *= self.crossed[at]
        if self.padded is not None:
            J[self.padded[at][:, :, 0, 0]] = np.eye(self.size)
        return J

    def _block(self, at: Span, s: int, r: int) -> Array:
        """∂(state s)/∂(old state r), (n, B, H, H)."""
        direct = self.by_state[s][r]
        if r > 0:
            return self._assembled(at, [], self.W[:0], direct)
        shared = self.recurrent_columns[:len(self.W) // self.H]
        J = self._assembled(at, [self.by_column[s][p] for p in shared], self.W, direct)
        if self.operand:
            operand = self._assembled(at, [self.operand[0]], self.W[:self.H], self.operand[1])
            by_last = self.by_column[s][self.recurrent_columns[-1]]
            if by_last is not None:
                J += by_last[at][:, :, 0, :, None] * np.matmul(self.second_W, operand)
        return J

    def _assembled(self, at: Span, factors: list[Array | None], W: Array, direct: Array | None) -> Array:
        """Σ_g diag(factor_g) W_g + diag(direct)."""
        H = self.H
        present = [g for g, factor in enumerate(factors) if factor is not None]
        n, B = len(range(*at.indices(self.T))), self.B
        by_gate = np.empty((len(present), n * B, H), self.dtype)
        for out, g in zip(by_gate, present, strict=True):
            out[:] = factors[g][at].reshape(-1, H)  # type: ignore[index]
        blocks = np.concatenate([W[g * H:(g + 1) * H] for g in present]) if present else np.zeros((0, H), self.dtype)
        own = np.zeros((0, 0), self.dtype) if direct is None else np.ascontiguousarray(direct[at].reshape(-1, H))
        J = np.empty((n * B, H, H), self.dtype)
        shards = min(MAX_SHARDS, n * B)
        with pool_for(2.0 * max(1, len(present)) * J.size) as pool:
            assemble(J, by_gate, own, blocks, shards, pool)
        return J.reshape(n, B, H, H)

    # ------------------------------------------------------------------ gradients of the parameters

    def input_errors(self, deltas: Deltas) -> Array:
        """∂L/∂x."""
        return times(self._on_input(deltas), self.params.U)

    def _on_input(self, deltas: Deltas) -> Array:
        """∂L/∂(U x + b), gates in the order of U."""
        return _side_by_side([deltas[p] for p in self.input_columns])

    def gradients(self, at: Span, deltas: Deltas) -> Any:
        """The gradients of the parameters from these steps."""
        on_input = self._on_input(deltas)
        dW = [over_rows(delta, multiplied[at]) for delta, multiplied in self.recurrent_parts(deltas)]
        own = {"U": self._input_gradient(at, on_input), "W": dW[0] if len(dW) == 1 else np.concatenate(dW),
               "b": on_input.sum(axis=(0, 1, 2))}
        self.cell.mask_gradient(own["W"])
        if self.form.extra:
            shape = getattr(self.params, self.form.extra).shape
            sums = [_weighted(row, at, deltas) for row in self.extra]
            own[self.form.extra] = np.stack([np.zeros(self.H, self.dtype) if a is None else a.sum(axis=(0, 1, 2))
                                             for a in sums]).reshape(shape)
        return type(self.given)(**own)

    def _input_gradient(self, at: Span, deltas: Array) -> Array:
        if self.x.ndim == 4:
            return over_rows(deltas, self.x[at])
        ids, rows = self.x[at].ravel(), deltas.reshape(-1, deltas.shape[-1])
        order = np.argsort(ids, kind="stable")
        present, first = np.unique(ids[order], return_index=True)
        dU = np.zeros(self.params.U.shape, self.dtype)
        dU[:, present] = np.add.reduceat(rows[order], first, axis=0).T
        return dU

    def recurrent_parts(self, deltas: Deltas) -> list[tuple[Array, Array]]:
        """The pairs (δ, operand of W) of all steps, whose outer products make up ∂L/∂W."""
        shared = self.recurrent_columns[:len(self.W) // self.H]
        parts = [(_side_by_side([deltas[p] for p in shared]), self.before)]
        if self.operand:
            parts.append((deltas[self.recurrent_columns[-1]], self.operand[2]))
        return parts
