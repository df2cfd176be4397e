"""The Jacobian of one step, for every cell: what its products need, read from the tape."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays import Array
from ..cells.gru import GRUBeforeParams, GRUParams
from ..cells.lstm import LSTMParams, LSTMPeepholeParams
from ..cells.rnn import RNNParams
from .linear import Deltas, Linear, Span, add_diagonal, over_rows, scaled, sigmoid_grad, tanh_grad, times

SLOPES: dict[str, Callable[[Array], Array]] = {
    "tanh": tanh_grad,
    "sigmoid": sigmoid_grad,
    "relu": lambda y: (y > 0).astype(y.dtype),
    "leaky_relu": lambda y: np.where(y > 0, y.dtype.type(1), y.dtype.type(0.01)),
    "identity": np.ones_like,
}
"""σ′(a) from y = σ(a)."""


class RNNSteps(Linear):
    """∂h_t/∂h_{t−1} = (1−α) + α diag(σ′(a_t)) W."""

    def _linearise(self, arrays: Any) -> list[Array]:
        options = self.cell.options
        y = arrays.h[1:] if options.leak == 1 else arrays.y
        slope = SLOPES[self.cell.activation](self._kept(y)) * self.dtype.type(options.leak)
        return [slope if self.padded is None else np.where(self.padded, self.dtype.type(0), slope)]

    def candidate_slopes(self) -> Array | None:
        """σ′(a_t) of tanh and sigmoid."""
        return self.factors[0] / self.cell.leak if self.cell.activation in ("tanh", "sigmoid") else None

    @property
    def _stay(self) -> Any:
        return self.dtype.type(1 - self.cell.leak)

    def _back(self, errors: Array, *factors: Array) -> tuple[Deltas, Array]:
        delta = factors[0] * errors
        before = times(delta, self.params.W)
        if self.cell.leak != 1:
            before += self._stay * errors
        return Deltas(delta, delta), before

    def _ahead(self, vectors: Array, u: Array | None, *factors: Array) -> Array:
        a = times(vectors, self.W_T)
        if u is not None:
            a += u
        a *= factors[0]
        return a if self.cell.leak == 1 else a + self._stay * vectors

    def _jacobians(self, *factors: Array) -> Array:
        J = scaled(factors[0], self.params.W)
        if self.cell.leak != 1:
            places = np.arange(self.H)
            J[..., places, places] += self._stay
        return J


class GRUSteps(Linear):
    """Reset after: diag(z) + by_r W_r + by_z W_z + by_m W_n, where by_x is the diagonal of ∂h_t/∂(argument of gate x)."""

    def candidate_slopes(self) -> Array:
        """1 − n²."""
        return tanh_grad(self._gates(self._tape.arrays.gates)[2])

    def _linearise(self, arrays: Any) -> list[Array]:
        r, z, n, m = self._gates(arrays.gates)
        by_n = (1 - z) * tanh_grad(n)
        if self.padded is not None:
            by_n = np.where(self.padded, self.dtype.type(0), by_n)
        return [z, by_n * m * sigmoid_grad(r), (self.before - n) * sigmoid_grad(z), by_n, by_n * r]

    def _back(self, errors: Array, *factors: Array) -> tuple[Deltas, Array]:
        z, by_r, by_z, by_n, by_m = factors
        recurrent = np.concatenate([by_r * errors, by_z * errors, by_m * errors], axis=-1)
        inputs = np.concatenate([recurrent[..., :2 * self.H], by_n * errors], axis=-1)
        return Deltas(inputs, recurrent), z * errors + times(recurrent, self.params.W)

    def _ahead(self, vectors: Array, u: Array | None, *factors: Array) -> Array:
        z, by_r, by_z, by_n, by_m = factors
        a_r, a_z, a_n = np.split(times(vectors, self.W_T), 3, axis=-1)
        after = z * vectors + by_r * a_r + by_z * a_z + by_m * a_n
        if u is not None:
            u_r, u_z, u_n = np.split(u, 3, axis=-1)
            after += by_r * u_r + by_z * u_z + by_n * u_n
        return np.asarray(after)

    def _jacobians(self, *factors: Array) -> Array:
        z, by_r, by_z, _, by_m = factors
        W_r, W_z, W_n = np.split(self.params.W, 3)
        J = scaled(by_r, W_r)
        J += scaled(by_z, W_z)
        J += scaled(by_m, W_n)
        add_diagonal(J, z)
        return J

    def _recurrent_gradients(self, at: Span, deltas: Deltas) -> dict[str, Array]:
        return {"W": over_rows(deltas.recurrent, self.before[at]),
                "b_hn": deltas.recurrent[..., 2 * self.H:].sum(axis=(0, 1, 2))}


class GRUBeforeSteps(Linear):
    """Reset before: diag(z) + by_z W_z + by_n W_n (diag(r) + by_r W_r), by_r the diagonal h_{t−1} r(1−r)."""

    def candidate_slopes(self) -> Array:
        """1 − n²."""
        return tanh_grad(self._gates(self._tape.arrays.gates)[2])

    def _linearise(self, arrays: Any) -> list[Array]:
        r, z, n = self._gates(arrays.gates)
        by_n = (1 - z) * tanh_grad(n)
        if self.padded is not None:
            by_n = np.where(self.padded, self.dtype.type(0), by_n)
        return [z, r, self.before * sigmoid_grad(r), (self.before - n) * sigmoid_grad(z), by_n]

    def _back(self, errors: Array, *factors: Array) -> tuple[Deltas, Array]:
        z, r, by_r, by_z, by_n = factors
        H, W = self.H, self.params.W
        d_n = by_n * errors
        q = times(d_n, W[2 * H:])
        deltas = np.concatenate([by_r * q, by_z * errors, d_n], axis=-1)
        before = z * errors + r * q + times(np.ascontiguousarray(deltas[..., :2 * H]), W[:2 * H])
        return Deltas(deltas, deltas), before

    def _ahead(self, vectors: Array, u: Array | None, *factors: Array) -> Array:
        z, r, by_r, by_z, by_n = factors
        H, W = self.H, self.params.W
        a = times(vectors, W[:2 * H].T)
        u_n: Any = 0
        if u is not None:
            a, u_n = a + u[..., :2 * H], u[..., 2 * H:]
        inner = r * vectors + by_r * a[..., :H]
        return np.asarray(z * vectors + by_z * a[..., H:] + by_n * (times(inner, W[2 * H:].T) + u_n))

    def _jacobians(self, *factors: Array) -> Array:
        z, r, by_r, by_z, by_n = factors
        W_r, W_z, W_n = np.split(self.params.W, 3)
        J: Array = np.matmul(W_n * by_r, W_r)
        J += W_n * r
        J *= by_n[:, :, 0, :, None]
        J += scaled(by_z, W_z)
        add_diagonal(J, z)
        return J

    def _recurrent_gradients(self, at: Span, deltas: Deltas) -> dict[str, Array]:
        H = self.H
        gates, candidate = (np.ascontiguousarray(d) for d in np.split(deltas.recurrent, [2 * H], axis=-1))
        entered = self.factors[1][at] * self.before[at]
        return {"W": np.concatenate([over_rows(gates, self.before[at]), over_rows(candidate, entered)])}

    def recurrent_parts(self, deltas: Deltas) -> list[tuple[Array, Array]]:
        """The gates r and z multiplied h, the candidate r ⊙ h."""
        gates, candidate = np.split(deltas.recurrent, [2 * self.H], axis=-1)
        return [(gates, self.before), (candidate, self.factors[1] * self.before)]


class LSTMSteps(Linear):
    """Of the pair (h, c): c by the gates i, f, g; h by c and by the gate o."""

    def candidate_slopes(self) -> Array:
        """1 − g²."""
        return tanh_grad(self._gates(self._tape.arrays.gates)[2])

    def _linearise(self, arrays: Any) -> list[Array]:
        i, f, g, o = self._gates(arrays.gates)
        self.c_before, self.c = self._states("c"), self._kept(arrays.c[1:])
        k = np.tanh(self.c)
        by_i, by_f, by_o = g * sigmoid_grad(i), self.c_before * sigmoid_grad(f), k * sigmoid_grad(o)
        h_by_c, c_by_c = o * tanh_grad(k), f
        if "P" in self.cell.shapes:
            P = self.params.P
            h_by_c, c_by_c = h_by_c + by_o * P[2], f + by_i * P[0] + by_f * P[1]
        return [by_i, by_f, i * tanh_grad(g), by_o, h_by_c, c_by_c]

    def _back(self, errors: Array, *factors: Array) -> tuple[Deltas, Array]:
        by_i, by_f, by_g, by_o, h_by_c, c_by_c = factors
        H = self.H
        e_h = errors[..., :H]
        e = errors[..., H:] + h_by_c * e_h
        deltas = np.concatenate([by_i * e, by_f * e, by_g * e, by_o * e_h], axis=-1)
        return Deltas(deltas, deltas), np.concatenate([times(deltas, self.params.W), c_by_c * e], axis=-1)

    def _ahead(self, vectors: Array, u: Array | None, *factors: Array) -> Array:
        by_i, by_f, by_g, by_o, h_by_c, c_by_c = factors
        H = self.H
        a = times(np.ascontiguousarray(vectors[..., :H]), self.W_T)
        if u is not None:
            a += u
        c = by_i * a[..., :H] + by_f * a[..., H:2 * H] + by_g * a[..., 2 * H:3 * H] + c_by_c * vectors[..., H:]
        return np.concatenate([h_by_c * c + by_o * a[..., 3 * H:], c], axis=-1)

    def _jacobians(self, *factors: Array) -> Array:
        by_i, by_f, by_g, by_o, h_by_c, c_by_c = factors
        H = self.H
        W_i, W_f, W_g, W_o = np.split(self.params.W, 4)
        n, B = by_i.shape[:2]
        J = np.zeros((n, B, 2 * H, 2 * H), self.dtype)
        c_by_h = J[..., H:, :H]
        c_by_h += scaled(by_i, W_i)
        c_by_h += scaled(by_f, W_f)
        c_by_h += scaled(by_g, W_g)
        np.multiply(h_by_c[:, :, 0, :, None], c_by_h, out=J[..., :H, :H])
        J[..., :H, :H] += scaled(by_o, W_o)
        add_diagonal(J[..., :H, H:], h_by_c * c_by_c)
        add_diagonal(J[..., H:, H:], c_by_c)
        return J

    def _recurrent_gradients(self, at: Span, deltas: Deltas) -> dict[str, Array]:
        own = {"W": over_rows(deltas.recurrent, self.before[at])}
        if "P" in self.cell.shapes:
            d_i, d_f, _, d_o = np.split(deltas.recurrent, 4, axis=-1)
            seen = (d_i * self.c_before[at], d_f * self.c_before[at], d_o * self.c[at])
            own["P"] = np.stack([part.sum(axis=(0, 1, 2)) for part in seen])
        return own


STEPS: dict[type, type[Linear]] = {RNNParams: RNNSteps, GRUParams: GRUSteps, GRUBeforeParams: GRUBeforeSteps,
                                   LSTMParams: LSTMSteps, LSTMPeepholeParams: LSTMSteps}
"""By the type of the parameters, as the scans."""
