"""The steps of a tape as linear maps: every cell's Jacobian, its products with vectors, and the gradients of its parameters.

A step is linearised once for all T·B rows: what its Jacobian needs besides the weights are a few numbers per unit, read
from the tape. After that any stretch of steps is taken forwards (J v) or back (Jᵀ e) as products over all of its rows.

Rows have the shape (n, B, m, S): n steps, B sequences, m vectors side by side. A step that a reset begins has the Jacobian
0, a padded one the identity.
"""
from __future__ import annotations

from copy import copy
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..cells.protocol import connected, drop_unconnected
from ..engine import products

Span = slice
"""Steps, numbered from 0: entry t leads from state t to state t+1."""


CACHED = 2**16
"""Floats of the Jacobians that are made together."""


class Deltas(NamedTuple):
    """∂L/∂(gates) of a stretch of steps."""

    inputs: Array
    """(n, B, m, G·H): of what U x + b is added to."""
    recurrent: Array
    """The same, of what W h is added to; the same array where a cell does not tell them apart."""


def times(rows: Array, matrix: Array) -> Array:
    """rows @ matrix over all leading axes, as one product."""
    flat = products.times(rows.reshape(-1, rows.shape[-1]), matrix)
    return flat.reshape(*rows.shape[:-1], matrix.shape[1])


def over_rows(left: Array, right: Array) -> Array:
    """leftᵀ right, summed over all rows."""
    return products.over_rows(left.reshape(-1, left.shape[-1]), right.reshape(-1, right.shape[-1]))


def sigmoid_grad(y: Array) -> Array:
    """The derivative of the sigmoid from its output."""
    return np.asarray(y * (1 - y))


def tanh_grad(y: Array) -> Array:
    """The derivative of tanh from its output."""
    return np.asarray(1 - y * y)


class Linear:
    """The steps of one cell over its tape; what differs between cells is in the methods that begin with an underscore."""

    def __init__(self, cell: Any, params: Any, tape: Any, dtype: Any):
        self.cell = cell
        self.params = type(params)(*[a.astype(dtype, copy=False) for a in connected(cell, params)])
        self.given = params
        self.W_T, self.U_T = (np.ascontiguousarray(a.T) for a in (self.params.W, self.params.U))
        batch = tape.batch
        self.T, self.B = batch.x.shape[:2]
        self.H = cell.hidden_size
        self.dtype = np.dtype(dtype)
        padded = np.arange(self.T)[:, None] >= batch.lengths
        self.padded = padded[:, :, None, None] if padded.any() else None
        self.crossed = ~batch.resets[:, :, None, None] if batch.resets.size and batch.resets.any() else None
        self.x = self._kept(batch.x) if batch.x.ndim == 3 else np.where(padded, 0, batch.x)
        self._tape = tape
        self.before = self._states("h")
        self.factors: tuple[Array, ...] = tuple(self._linearise(tape.arrays))

    # ------------------------------------------------------------------ reading the tape

    def _kept(self, array: Array) -> Array:
        """(T, B, n) as rows (T, B, 1, n), 0 at padded steps, whatever they hold."""
        rows: Array = array[:, :, None].astype(self.dtype, copy=False)
        return rows if self.padded is None else np.where(self.padded, self.dtype.type(0), rows)

    def _states(self, name: str) -> Array:
        """The state that every step starts from, as rows (T, B, 1, H)."""
        states = getattr(self._tape.arrays, name)[:-1]
        if self.crossed is not None:
            states = np.where(self._tape.batch.resets[:, :, None], getattr(self._tape.initial, name), states)
        return self._kept(states)

    def _gates(self, array: Array) -> list[Array]:
        """(T, B, g·H) as g arrays of rows."""
        rows = self._kept(array)
        return [np.ascontiguousarray(part) for part in np.split(rows, rows.shape[-1] // self.H, axis=-1)]

    @property
    def size(self) -> int:
        """S."""
        return int(self.H) * len(self.cell.state_type._fields)

    def first_sequence(self) -> Linear:
        """The same steps of the first sequence alone, for products."""
        one = copy(self)
        one.B, one.factors = 1, tuple(f[:, :1] for f in self.factors)
        one.padded = None if self.padded is None else self.padded[:, :1]
        one.crossed = None if self.crossed is None else self.crossed[:, :1]
        return one

    # ------------------------------------------------------------------ products

    def back(self, at: Span, errors: Array) -> tuple[Deltas, Array]:
        """From ∂L/∂state after the steps to ∂L/∂(gates) and ∂L/∂state before them."""
        deltas, before = self._back(errors, *[f[at] for f in self.factors])
        if self.crossed is not None:
            before = before * self.crossed[at]
        if self.padded is not None:
            before = np.where(self.padded[at], errors, before)
        return deltas, before

    def ahead(self, at: Span, vectors: Array, dx: Array | None = None) -> Array:
        """What a change of the state before the steps, and of x if given, makes of the state after them."""
        held = vectors
        if self.crossed is not None:
            vectors = vectors * self.crossed[at]
        u = None if dx is None else times(dx, self.U_T)
        after: Array = self._ahead(vectors, u, *[f[at] for f in self.factors])
        return after if self.padded is None else np.where(self.padded[at], held, after)

    def inputs_back(self, deltas: Deltas) -> Array:
        """∂L/∂x."""
        return times(deltas.inputs, self.params.U)

    def jacobians(self, at: Span = slice(None)) -> Array:
        """(n, B, S, S): the Jacobians themselves."""
        first, last, _ = at.indices(self.T)
        J = np.empty((last - first, self.B, self.size, self.size), self.dtype)
        together = max(1, CACHED // J[:1].size)
        for t in range(0, last - first, together):        # so that what the sums are made of stays in cache
            J[t:t + together] = self._jacobians(*[f[first + t:min(first + t + together, last)] for f in self.factors])
        if self.crossed is not None:
            J *= self.crossed[at]
        if self.padded is not None:
            J[self.padded[at][:, :, 0, 0]] = np.eye(self.size)
        return J

    # ------------------------------------------------------------------ gradients of the parameters

    def gradients(self, at: Span, deltas: Deltas) -> Any:
        """The gradients of the parameters from the steps' use of them."""
        own = {"U": self._input_gradient(at, deltas.inputs), "b": deltas.inputs.sum(axis=(0, 1, 2)),
               **self._recurrent_gradients(at, deltas)}
        drop_unconnected(self.cell, own["W"])
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

    def _recurrent_gradients(self, at: Span, deltas: Deltas) -> dict[str, Array]:
        return {"W": over_rows(deltas.recurrent, self.before[at])}

    def recurrent_parts(self, deltas: Deltas) -> list[tuple[Array, Array]]:
        """The pairs (δ, what W multiplied) of all steps, whose outer products are the parts of ∂L/∂W."""
        return [(deltas.recurrent, self.before)]

    # ------------------------------------------------------------------ what a cell provides

    def candidate_slopes(self) -> Array | None:
        """σ′ of what the step adds to the state, rows of all steps; None where σ has no flat ends."""
        raise NotImplementedError

    def _linearise(self, arrays: Any) -> list[Array]:
        """The numbers per unit that the other methods get, as rows of all steps, 0 where padded."""
        raise NotImplementedError

    def _back(self, errors: Array, *factors: Array) -> tuple[Deltas, Array]:
        raise NotImplementedError

    def _ahead(self, vectors: Array, u: Array | None, *factors: Array) -> Array:
        raise NotImplementedError

    def _jacobians(self, *factors: Array) -> Array:
        raise NotImplementedError


def scaled(factor: Array, matrix: Array) -> Array:
    """diag(factor) matrix for every row: (n, B, 1, H) and (H, K) to (n, B, H, K)."""
    product: Array = factor[:, :, 0, :, None] * matrix
    return product


def add_diagonal(matrices: Array, factor: Array) -> None:
    """matrices (n, B, H, H) += diag(factor)."""
    H = matrices.shape[-1]
    places = np.arange(H)
    matrices[..., places, places] += factor[:, :, 0]
