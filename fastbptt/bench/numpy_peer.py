"""Backpropagation through time in plain NumPy: the loop over t that one writes by hand, vectorised over rows and units.

It is a peer in the benchmark and, run in float64, the reference that every side is checked against; it shares no code with the
package's kernels. Products that do not depend on the recurrence (U x before the loop; dW, dU, dx after it) are one product
each. Gate order as in PyTorch: r z n for the GRU, i f g o for the LSTM.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from .cases import Array, Arrays, Case
from .side import Side

State = tuple[Array, ...]


def _sigmoid(a: Array) -> Array:
    return 0.5 * np.tanh(0.5 * a) + 0.5


def _input_product(params: dict[str, Array], x: Array) -> Array:
    # One flat product: matmul on a 3-D x would call BLAS once per step.
    rows = params["U"].shape[0]
    product: Array = (x.reshape(-1, x.shape[2]) @ params["U"].T).reshape(*x.shape[:2], rows)
    product += params["b"]
    return product


class _Tape(Protocol):
    """What the forward loop saves; ``back`` carries the errors of the state after step t (0-based) to the state before it."""

    h: Array  # (T+1, B, H), row 0 the initial state

    def back(self, t: int, errors: State) -> tuple[Array, Array, State]:
        """Errors of U x + b and of W h at step t, each (B, G·H), and of the state before it."""


class _RNN:
    def __init__(self, params: dict[str, Array], x: Array, state: State) -> None:
        self.W = params["W"]
        a = _input_product(params, x)
        self.h = np.empty((len(x) + 1, *state[0].shape), x.dtype)
        self.h[0] = state[0]
        for t in range(len(x)):
            self.h[t + 1] = np.tanh(a[t] + self.h[t] @ self.W.T)

    def back(self, t: int, errors: State) -> tuple[Array, Array, State]:
        da = errors[0] * (1 - self.h[t + 1] ** 2)
        return da, da, (da @ self.W,)


class _GRU:
    def __init__(self, params: dict[str, Array], x: Array, state: State) -> None:
        self.W, b_hn = params["W"], params["b_hn"]
        H = state[0].shape[1]
        self.gates = _input_product(params, x)  # becomes r, z, n
        self.product = np.empty((len(x), *state[0].shape), x.dtype)  # W_n h + b_hn
        self.h = np.empty((len(x) + 1, *state[0].shape), x.dtype)
        self.h[0] = state[0]
        for t in range(len(x)):
            g, wh = self.gates[t], self.h[t] @ self.W.T
            g[:, : 2 * H] = _sigmoid(g[:, : 2 * H] + wh[:, : 2 * H])
            self.product[t] = wh[:, 2 * H :] + b_hn
            g[:, 2 * H :] = np.tanh(g[:, 2 * H :] + g[:, :H] * self.product[t])
            self.h[t + 1] = g[:, 2 * H :] + g[:, H : 2 * H] * (self.h[t] - g[:, 2 * H :])

    def back(self, t: int, errors: State) -> tuple[Array, Array, State]:
        (dh,) = errors
        r, z, n = np.split(self.gates[t], 3, axis=1)
        dn = dh * (1 - z) * (1 - n * n)
        dz = dh * (self.h[t] - n) * z * (1 - z)
        dr = dn * self.product[t] * r * (1 - r)
        d_recurrent = np.concatenate((dr, dz, dn * r), axis=1)
        return np.concatenate((dr, dz, dn), axis=1), d_recurrent, (d_recurrent @ self.W + dh * z,)


class _LSTM:
    def __init__(self, params: dict[str, Array], x: Array, state: State) -> None:
        self.W = params["W"]
        H = state[0].shape[1]
        self.gates = _input_product(params, x)  # becomes i, f, g, o
        self.h = np.empty((len(x) + 1, *state[0].shape), x.dtype)
        self.c = np.empty_like(self.h)
        self.h[0], self.c[0] = state
        for t in range(len(x)):
            a = self.gates[t]
            a += self.h[t] @ self.W.T
            a[:, : 2 * H] = _sigmoid(a[:, : 2 * H])
            a[:, 2 * H : 3 * H] = np.tanh(a[:, 2 * H : 3 * H])
            a[:, 3 * H :] = _sigmoid(a[:, 3 * H :])
            self.c[t + 1] = a[:, H : 2 * H] * self.c[t] + a[:, :H] * a[:, 2 * H : 3 * H]
            self.h[t + 1] = a[:, 3 * H :] * np.tanh(self.c[t + 1])

    def back(self, t: int, errors: State) -> tuple[Array, Array, State]:
        dh, dc = errors
        i, f, g, o = np.split(self.gates[t], 4, axis=1)
        tanh_c = np.tanh(self.c[t + 1])
        dc = dc + dh * o * (1 - tanh_c * tanh_c)
        di, df = dc * g * i * (1 - i), dc * self.c[t] * f * (1 - f)
        da = np.concatenate((di, df, dc * i * (1 - g * g), dh * tanh_c * o * (1 - o)), axis=1)
        return da, da, (da @ self.W, dc * f)


TAPES: dict[str, type[_RNN] | type[_GRU] | type[_LSTM]] = {"rnn": _RNN, "gru": _GRU, "lstm": _LSTM}


def passes(case: Case) -> Iterator[tuple[int, int, int]]:
    """For each end of BPTT(horizon; stride) the 0-based steps (first visited, first injected, one past the last)."""
    horizon, stride = case.truncation or (case.T, case.T)
    before = 0
    for end in (*range(stride, case.T, stride), case.T):
        yield max(0, end - horizon), before, end
        before = end


def gradients(case: Case, arrays: Arrays) -> dict[str, Array]:
    """Gradients of L = Σ h·dh with respect to U, W, b, (b_hn,) x, h0 and (c0), in the dtype of the arrays."""
    tape: _Tape = TAPES[case.cell](arrays.params, arrays.x, arrays.state)
    rows = arrays.params["U"].shape[0]
    d_input = np.zeros((case.T, case.B, rows), arrays.x.dtype)
    d_recurrent = np.zeros_like(d_input)
    d_state = tuple(np.zeros_like(s) for s in arrays.state)
    for first, injected, stop in passes(case):
        errors = tuple(np.zeros_like(s) for s in arrays.state)
        for t in range(stop - 1, first - 1, -1):
            if t >= injected:
                errors = (errors[0] + arrays.dh[t], *errors[1:])
            di, dr, errors = tape.back(t, errors)
            d_input[t] += di
            d_recurrent[t] += dr
        if first == 0:
            d_state = tuple(d + e for d, e in zip(d_state, errors, strict=True))
    flat_input, flat_recurrent = d_input.reshape(-1, rows), d_recurrent.reshape(-1, rows)
    result = {
        "U": flat_input.T @ arrays.x.reshape(-1, case.I),
        "W": flat_recurrent.T @ tape.h[:-1].reshape(-1, case.H),
        "b": flat_input.sum(axis=0),
        "x": (flat_input @ arrays.params["U"]).reshape(arrays.x.shape),
        **dict(zip(("h0", "c0"), d_state, strict=False)),
    }
    if case.cell == "gru":
        result["b_hn"] = flat_recurrent[:, 2 * case.H :].sum(axis=0)
    return result


class NumpyPeer(Side):
    """The plain NumPy loop as a side of the benchmark; ``threads`` limits the pool of NumPy's BLAS (needs threadpoolctl)."""

    name = "numpy"

    def __init__(self, threads: int | None = None) -> None:
        self._limit = contextlib.ExitStack()
        if threads is not None:
            try:
                pools = importlib.import_module("threadpoolctl")
            except ImportError as error:
                raise ImportError("threads: limiting NumPy needs threadpoolctl; pip install 'fastbptt[bench]'") from error
            self._limit.enter_context(pools.threadpool_limits(threads, user_api="blas"))

    def supports(self, case: Case) -> bool:
        """Every case."""
        return True

    def setup(self, case: Case, arrays: Arrays) -> None:
        """Takes the arrays of a case."""
        self._case, self._arrays = case, arrays

    def run(self) -> dict[str, Array]:
        """One forward and one backward pass."""
        return gradients(self._case, self._arrays)

    def gradients(self, result: dict[str, Array]) -> dict[str, Array]:
        """What ``run`` returned, as arrays by name."""
        return result

    def close(self) -> None:
        """Gives the number of threads back."""
        self._limit.close()
