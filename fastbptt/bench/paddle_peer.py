"""PaddlePaddle as its users write it: SimpleRNN, GRU and LSTM of paddle.nn."""

from __future__ import annotations

import importlib
import os
import warnings
from typing import Any

import numpy as np

from .cases import Array, Arrays, Case
from .side import Side


class PaddlePeer(Side):
    """paddle.nn.SimpleRNN, GRU, LSTM, time-major.

    Paddle does its products on one thread unless it is told otherwise, and cannot be asked how many it uses: ``close`` gives
    it back one.
    """

    name = "paddle"

    def __init__(self, threads: int | None = None) -> None:
        with warnings.catch_warnings():      # it misses a tool for compiling extensions, and says so
            warnings.simplefilter("ignore")
            self._paddle: Any = importlib.import_module("paddle")
        self._paddle.set_device("cpu")
        self._paddle.base.core.set_num_threads(threads or os.cpu_count() or 1)

    def supports(self, case: Case) -> bool:
        """Full backpropagation."""
        return case.truncation is None

    def setup(self, case: Case, arrays: Arrays) -> None:
        """Builds the module and copies the arrays."""
        paddle, self._case = self._paddle, case
        before = paddle.get_default_dtype()
        paddle.set_default_dtype(case.dtype)
        make = {"rnn": paddle.nn.SimpleRNN, "gru": paddle.nn.GRU, "lstm": paddle.nn.LSTM}[case.cell]
        self._module = make(case.I, case.H, time_major=True)
        paddle.set_default_dtype(before)
        params = arrays.params
        bias_hh = np.zeros_like(params["b"])
        if case.cell == "gru":
            bias_hh[2 * case.H :] = params["b_hn"]
        values = {"weight_ih_l0": params["U"], "weight_hh_l0": params["W"], "bias_ih_l0": params["b"], "bias_hh_l0": bias_hh}
        self._weights = dict(self._module.named_parameters())
        for name, value in values.items():
            self._weights[name].set_value(value)
        self._x = paddle.to_tensor(arrays.x, stop_gradient=False)
        self._state = [paddle.to_tensor(s[None], stop_gradient=False) for s in arrays.state]
        self._dh = paddle.to_tensor(arrays.dh)

    def run(self) -> Any:
        """One forward and one backward pass."""
        h, _ = self._module(self._x, tuple(self._state) if self._case.cell == "lstm" else self._state[0])
        return self._paddle.grad([h], [*self._weights.values(), self._x, *self._state], [self._dh])

    def gradients(self, result: Any) -> dict[str, Array]:
        """The gradients as NumPy arrays."""
        found = dict(zip((*self._weights, "x", "h0", "c0"), (g.numpy() for g in result), strict=False))
        named = {"U": found["weight_ih_l0"], "W": found["weight_hh_l0"], "b": found["bias_ih_l0"], "x": found["x"]}
        if self._case.cell == "gru":
            named["b_hn"] = found["bias_hh_l0"][2 * self._case.H :]
        return {**named, **{name: found[name][0] for name in ("h0", "c0") if name in found}}

    def close(self) -> None:
        """Gives the number of threads back."""
        self._paddle.base.core.set_num_threads(1)
