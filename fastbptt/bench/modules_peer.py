"""The modules of `fastbptt.torch` as a side: what a call costs through PyTorch's autograd."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from .cases import Array, Arrays, Case


class ModulesPeer:
    """fastbptt.torch.RNN, GRU and LSTM under autograd, truncated by their own option."""

    name = "fastbptt.torch"

    def __init__(self, threads: int | None = None) -> None:
        self._torch: Any = importlib.import_module("torch")
        self._modules: Any = importlib.import_module("fastbptt.torch")
        self._threads_before = self._torch.get_num_threads()
        if threads is not None:
            self._torch.set_num_threads(threads)      # which the modules keep to as well

    def supports(self, case: Case) -> bool:
        """Every case."""
        return True

    def setup(self, case: Case, arrays: Arrays) -> None:
        """Builds the module and copies the arrays."""
        torch, tensor = self._torch, self._torch.from_numpy
        truncation = None if case.truncation is None else importlib.import_module("fastbptt").Truncation(*case.truncation)
        make = getattr(self._modules, case.cell.upper())
        self._module = make(case.I, case.H, dtype=getattr(torch, case.dtype), truncation=truncation)
        bias_hh = np.zeros_like(arrays.params["b"])
        if case.cell == "gru":
            bias_hh[2 * case.H :] = arrays.params["b_hn"]
        values = (arrays.params["U"], arrays.params["W"], arrays.params["b"], bias_hh)
        self._module.load_state_dict({name: tensor(a) for name, a in zip(self._module.state_dict(), values, strict=True)})
        self._case, self._dh = case, tensor(arrays.dh)
        self._x, *self._state = (tensor(a).requires_grad_() for a in (arrays.x, *[s[None] for s in arrays.state]))

    def run(self) -> Any:
        """One forward and one backward pass; the gradients are in ``.grad``."""
        leaves = (self._x, *self._state, *self._module.parameters())
        for leaf in leaves:
            leaf.grad = None
        h, _ = self._module(self._x, tuple(self._state) if self._case.cell == "lstm" else self._state[0])
        h.backward(self._dh)
        return leaves

    def gradients(self, result: Any) -> dict[str, Array]:
        """The ``.grad`` of input, state and parameters."""
        x, *rest = (leaf.grad.numpy() for leaf in result)
        states, (dU, dW, db, db_hh) = rest[:-4], rest[-4:]
        found = {"U": dU, "W": dW, "b": db, "x": x, **{name: s[0] for name, s in zip(("h0", "c0"), states, strict=False)}}
        return {**found, "b_hn": db_hh[2 * self._case.H :]} if self._case.cell == "gru" else found

    def close(self) -> None:
        """Gives the number of threads back."""
        self._torch.set_num_threads(self._threads_before)
