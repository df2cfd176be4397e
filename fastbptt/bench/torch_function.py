"""PyTorch as an expert writes it: an autograd.Function around two loops over preallocated buffers."""

from __future__ import annotations

from typing import Any

from .buffers import Buffers, reordered
from .cases import Array, Arrays, Case
from .torch_peer import TorchPeer


class TorchFunctionPeer(TorchPeer):
    """The two loops of `Buffers` as the forward and the backward pass of one function."""

    name = "torch-function"

    def supports(self, case: Case) -> bool:
        """Full backpropagation."""
        return case.truncation is None

    def setup(self, case: Case, arrays: Arrays) -> None:
        """Allocates everything, and puts the gates in order."""
        torch = self._torch
        self._case, self._dh = case, torch.from_numpy(arrays.dh)
        params = {name: p if name == "b_hn" else reordered(p, case) for name, p in arrays.params.items()}
        self._names = (*params, "x", "h0", "c0")[: len(params) + 1 + len(arrays.state)]
        # Leaves of their own: a gradient may be asked of them, and not of what others hold.
        self._leaves = [torch.from_numpy(a).clone().requires_grad_() for a in (*params.values(), arrays.x, *arrays.state)]

        def product(out: Any, a: Any, h: Any, W: Any, scratch: Any) -> None:
            torch.addmm(a, h, W, out=out)

        self._function = _function(torch, Buffers(torch, product, case, torch.from_numpy), self._names)

    def run(self) -> Any:
        """One forward and one backward pass."""
        h = self._function.apply(*self._leaves)
        return self._torch.autograd.grad(h, self._leaves, self._dh)

    def gradients(self, result: Any) -> dict[str, Array]:
        """Gates in their usual order."""
        found = {name: g.numpy() for name, g in zip(self._names, result, strict=True)}
        return {name: reordered(g, self._case, back=True) if name in "UWb" else g for name, g in found.items()}


def _function(torch: Any, buffers: Buffers, names: tuple[str, ...]) -> Any:
    class Recurrence(torch.autograd.Function):      # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, *leaves: Any) -> Any:
            params = dict(zip(names, leaves, strict=True))
            ctx.save_for_backward(*leaves)
            return buffers.forward(params, params["x"], tuple(params[s] for s in ("h0", "c0") if s in params))

        @staticmethod
        def backward(ctx: Any, dh: Any) -> Any:
            params = dict(zip(names, ctx.saved_tensors, strict=True))
            found = buffers.backward(params, params["x"], dh)
            return tuple(found[name] for name in names)

    return Recurrence
