"""A plain @njit loop with np.dot: what users of Numba write themselves. np.dot in compiled code needs SciPy.

The products that do not depend on the recurrence are one product each, outside the loops; gates are loops over elements.
These functions share nothing with the package's kernels, and are compiled with Numba's own flags.
"""

from __future__ import annotations

import importlib
from typing import Any

import numba
import numpy as np

from .cases import Array, Arrays, Case
from .numpy_peer import NumpyPeer


@numba.njit
def sigmoid(x):  # type: ignore[no-untyped-def]
    return 1 / (1 + np.exp(-x))


@numba.njit
def rnn(U, W, b, x, dh, h0):  # type: ignore[no-untyped-def]
    T, B, I = x.shape  # noqa: E741
    H = W.shape[1]
    flat_x = x.reshape(T * B, I)
    a = np.dot(flat_x, U.T)
    h = np.empty((T + 1, B, H), x.dtype)
    h[0] = h0
    for t in range(T):
        wh = np.dot(h[t], W.T)
        for i in range(B):
            for j in range(H):
                h[t + 1, i, j] = np.tanh(a[t * B + i, j] + wh[i, j] + b[j])
    da = np.empty((T, B, H), x.dtype)
    carry = np.zeros((B, H), x.dtype)
    for t in range(T - 1, -1, -1):
        for i in range(B):
            for j in range(H):
                da[t, i, j] = (dh[t, i, j] + carry[i, j]) * (1 - h[t + 1, i, j] ** 2)
        np.dot(da[t], W, carry)
    errors = da.reshape(T * B, H)
    dU, dW = np.dot(errors.T, flat_x), np.dot(errors.T, h[:-1].copy().reshape(T * B, H))
    return dU, dW, errors.sum(0), np.dot(errors, U).reshape(x.shape), carry


@numba.njit
def gru(U, W, b, b_hn, x, dh, h0):  # type: ignore[no-untyped-def]
    T, B, I = x.shape  # noqa: E741
    H = W.shape[1]
    flat_x = x.reshape(T * B, I)
    a = np.dot(flat_x, U.T).reshape(T, B, 3 * H)
    p = np.empty((T, B, H), x.dtype)
    h = np.empty((T + 1, B, H), x.dtype)
    h[0] = h0
    for t in range(T):
        wh = np.dot(h[t], W.T)
        for i in range(B):
            for j in range(H):
                r = sigmoid(a[t, i, j] + wh[i, j] + b[j])
                z = sigmoid(a[t, i, H + j] + wh[i, H + j] + b[H + j])
                p[t, i, j] = wh[i, 2 * H + j] + b_hn[j]
                n = np.tanh(a[t, i, 2 * H + j] + b[2 * H + j] + r * p[t, i, j])
                h[t + 1, i, j] = n + z * (h[t, i, j] - n)
                a[t, i, j], a[t, i, H + j], a[t, i, 2 * H + j] = r, z, n
    d_input, d_recurrent = np.empty((T, B, 3 * H), x.dtype), np.empty((T, B, 3 * H), x.dtype)
    carry, direct = np.zeros((B, H), x.dtype), np.zeros((B, H), x.dtype)
    for t in range(T - 1, -1, -1):
        for i in range(B):
            for j in range(H):
                r, z, n = a[t, i, j], a[t, i, H + j], a[t, i, 2 * H + j]
                e = dh[t, i, j] + carry[i, j] + direct[i, j]
                dn = e * (1 - z) * (1 - n * n)
                d_input[t, i, j] = d_recurrent[t, i, j] = dn * p[t, i, j] * r * (1 - r)
                d_input[t, i, H + j] = d_recurrent[t, i, H + j] = e * (h[t, i, j] - n) * z * (1 - z)
                d_input[t, i, 2 * H + j], d_recurrent[t, i, 2 * H + j] = dn, dn * r
                direct[i, j] = e * z
        np.dot(d_recurrent[t], W, carry)
    flat_input, flat_recurrent = d_input.reshape(T * B, 3 * H), d_recurrent.reshape(T * B, 3 * H)
    dU, dW = np.dot(flat_input.T, flat_x), np.dot(flat_recurrent.T, h[:-1].copy().reshape(T * B, H))
    dx = np.dot(flat_input, U).reshape(x.shape)
    return dU, dW, flat_input.sum(0), flat_recurrent[:, 2 * H:].sum(0), dx, carry + direct


@numba.njit
def lstm(U, W, b, x, dh, h0, c0):  # type: ignore[no-untyped-def]
    T, B, I = x.shape  # noqa: E741
    H = W.shape[1]
    flat_x = x.reshape(T * B, I)
    a = np.dot(flat_x, U.T).reshape(T, B, 4 * H)
    h, c, tanh_c = np.empty((T + 1, B, H), x.dtype), np.empty((T + 1, B, H), x.dtype), np.empty((T, B, H), x.dtype)
    h[0], c[0] = h0, c0
    for t in range(T):
        wh = np.dot(h[t], W.T)
        for k in range(B):
            for j in range(H):
                i = sigmoid(a[t, k, j] + wh[k, j] + b[j])
                f = sigmoid(a[t, k, H + j] + wh[k, H + j] + b[H + j])
                g = np.tanh(a[t, k, 2 * H + j] + wh[k, 2 * H + j] + b[2 * H + j])
                o = sigmoid(a[t, k, 3 * H + j] + wh[k, 3 * H + j] + b[3 * H + j])
                c[t + 1, k, j] = f * c[t, k, j] + i * g
                tanh_c[t, k, j] = np.tanh(c[t + 1, k, j])
                h[t + 1, k, j] = o * tanh_c[t, k, j]
                a[t, k, j], a[t, k, H + j], a[t, k, 2 * H + j], a[t, k, 3 * H + j] = i, f, g, o
    da = np.empty((T, B, 4 * H), x.dtype)
    carry, carry_c = np.zeros((B, H), x.dtype), np.zeros((B, H), x.dtype)
    for t in range(T - 1, -1, -1):
        for k in range(B):
            for j in range(H):
                i, f, g, o = a[t, k, j], a[t, k, H + j], a[t, k, 2 * H + j], a[t, k, 3 * H + j]
                e = dh[t, k, j] + carry[k, j]
                dc = carry_c[k, j] + e * o * (1 - tanh_c[t, k, j] ** 2)
                da[t, k, j] = dc * g * i * (1 - i)
                da[t, k, H + j] = dc * c[t, k, j] * f * (1 - f)
                da[t, k, 2 * H + j] = dc * i * (1 - g * g)
                da[t, k, 3 * H + j] = e * tanh_c[t, k, j] * o * (1 - o)
                carry_c[k, j] = dc * f
        np.dot(da[t], W, carry)
    errors = da.reshape(T * B, 4 * H)
    dU, dW = np.dot(errors.T, flat_x), np.dot(errors.T, h[:-1].copy().reshape(T * B, H))
    return dU, dW, errors.sum(0), np.dot(errors, U).reshape(x.shape), carry, carry_c


FUNCTIONS = {"rnn": rnn, "gru": gru, "lstm": lstm}


class NumbaPeer(NumpyPeer):
    """The functions above; ``threads`` limits the BLAS of SciPy, which np.dot calls (needs threadpoolctl)."""

    name = "numba"

    def __init__(self, threads: int | None = None) -> None:
        try:
            importlib.import_module("scipy.linalg.cython_blas")      # before the limit, which reaches what is loaded
        except ImportError as error:
            raise ImportError("np.dot in compiled code needs SciPy; pip install scipy") from error
        super().__init__(threads)

    def supports(self, case: Case) -> bool:
        """Full backpropagation."""
        return case.truncation is None

    def setup(self, case: Case, arrays: Arrays) -> None:
        """Takes the arrays of a case; the first run compiles."""
        self._function = FUNCTIONS[case.cell]
        self._values = (*arrays.params.values(), arrays.x, arrays.dh, *arrays.state)
        self._names = (*arrays.params, "x", "h0", "c0")

    def run(self) -> Any:
        """One forward and one backward pass."""
        return self._function(*self._values)

    def gradients(self, result: Any) -> dict[str, Array]:
        """Gradients by name."""
        return dict(zip(self._names, result, strict=False))
