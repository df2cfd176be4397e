"""PyTorch as its users write it: the modules of torch.nn under autograd."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from .cases import Array, Arrays, Case
from .numpy_peer import passes
from .side import Side


class TorchPeer(Side):
    """nn.RNN, nn.GRU, nn.LSTM under autograd.

    Truncated as users write it: every pass re-runs its steps from a kept, detached state. For chunks that is the usual
    detach every k steps; for the sliding window, a re-run from k steps back for every t.
    """

    name = "torch"

    def __init__(self, threads: int | None = None) -> None:
        self._torch: Any = importlib.import_module("torch")
        self._threads_before = self._torch.get_num_threads()
        if threads is not None:
            self._torch.set_num_threads(threads)

    def supports(self, case: Case) -> bool:
        """Whether every pass starts where an earlier one ended: full, whole chunks, window, and mixtures that fit."""
        ends = {0, *(stop for _, _, stop in passes(case))}
        return all(first in ends for first, _, _ in passes(case))

    def setup(self, case: Case, arrays: Arrays) -> None:
        """Builds the module and copies the arrays."""
        torch = self._torch
        tensor = torch.from_numpy
        make = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[case.cell]
        self._module = make(case.I, case.H, dtype=getattr(torch, case.dtype))
        params = arrays.params
        bias_hh = np.zeros_like(params["b"])
        if case.cell == "gru":
            bias_hh[2 * case.H :] = params["b_hn"]
        values = {"weight_ih_l0": params["U"], "weight_hh_l0": params["W"], "bias_ih_l0": params["b"], "bias_hh_l0": bias_hh}
        self._module.load_state_dict({name: tensor(value) for name, value in values.items()})
        self._case, self._passes = case, tuple(passes(case))
        self._x, self._dh = tensor(arrays.x), tensor(arrays.dh)
        self._state = tuple(tensor(s)[None].requires_grad_() for s in arrays.state)

    def run(self) -> Any:
        """One backward per pass; gradients of the parameters and the state gather in ``.grad``."""
        self._module.zero_grad(set_to_none=True)
        for s in self._state:
            s.grad = None
        states, pieces = {0: self._state}, []
        for first, injected, stop in self._passes:
            x = self._x[first:stop].detach().requires_grad_()
            state = states[first]
            h, final = self._module(x, state if self._case.cell == "lstm" else state[0])
            h[injected - first :].backward(self._dh[injected:stop])
            states[stop] = tuple(s.detach() for s in (final if self._case.cell == "lstm" else (final,)))
            pieces.append((first, stop, x.grad))
        return pieces

    def gradients(self, result: Any) -> dict[str, Array]:
        """The ``.grad`` of the module and the state; the pieces of dL/dx added up."""
        grads = {name: p.grad.numpy() for name, p in self._module.named_parameters()}
        dx = np.zeros(tuple(self._x.shape), self._case.dtype)
        for first, stop, piece in result:
            dx[first:stop] += piece.numpy()
        found = {"U": grads["weight_ih_l0"], "W": grads["weight_hh_l0"], "b": grads["bias_ih_l0"], "x": dx}
        if self._case.cell == "gru":
            found["b_hn"] = grads["bias_hh_l0"][2 * self._case.H :]
        return {**found, **{name: s.grad[0].numpy() for name, s in zip(("h0", "c0"), self._state, strict=False)}}

    def close(self) -> None:
        """Gives the number of threads back."""
        self._torch.set_num_threads(self._threads_before)
