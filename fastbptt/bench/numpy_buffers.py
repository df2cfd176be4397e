"""NumPy with preallocated buffers: no array is made inside the loops."""

from __future__ import annotations

from typing import Any

import numpy as np

from .buffers import Buffers, reordered
from .cases import Array, Arrays, Case
from .numpy_peer import NumpyPeer


def _product(out: Array, a: Array, h: Array, W: Array, scratch: Array) -> None:
    np.matmul(h, W, out=scratch)
    np.add(scratch, a, out=out)


class NumpyBuffersPeer(NumpyPeer):
    """The two loops of `Buffers` in NumPy."""

    name = "numpy-buffers"

    def supports(self, case: Case) -> bool:
        """Full backpropagation."""
        return case.truncation is None

    def setup(self, case: Case, arrays: Arrays) -> None:
        """Allocates everything, and puts the gates in order."""
        self._case, self._arrays = case, arrays
        self._params = {name: p if name == "b_hn" else reordered(p, case) for name, p in arrays.params.items()}
        self._buffers = Buffers(np, _product, case, lambda array: array)

    def run(self) -> Any:
        """One forward and one backward pass."""
        self._buffers.forward(self._params, self._arrays.x, self._arrays.state)
        return self._buffers.backward(self._params, self._arrays.x, self._arrays.dh)

    def gradients(self, result: dict[str, Array]) -> dict[str, Array]:
        """Gates in their usual order."""
        return {name: reordered(g, self._case, back=True) if name in "UWb" else g for name, g in result.items()}
