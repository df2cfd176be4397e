"""JAX as its users write it: the gradient of a scan, left to automatic differentiation."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from .cases import Array, Arrays, Case
from .side import Side


class JaxPeer(Side):
    """jit of value_and_grad over lax.scan, the input product outside the scan; chunks stop the gradient of the carry.

    XLA sizes its pool when a backend starts, from the environment variable NPROC; so ``threads`` starts a fresh backend.
    """

    name = "jax"

    def __init__(self, threads: int | None = None) -> None:
        self._jax: Any = importlib.import_module("jax")
        self._x64_before = self._jax.config.jax_enable_x64
        self._jax.config.update("jax_enable_x64", True)
        self._nproc_before, self._limited = os.environ.get("NPROC"), threads is not None
        if threads is not None:
            os.environ["NPROC"] = str(threads)
            self._restart()

    def _restart(self) -> None:
        importlib.import_module("jax.extend.backend").clear_backends()

    def supports(self, case: Case) -> bool:
        """Full, and chunks whose length divides T: otherwise the last chunk would be shorter and need code of its own."""
        return case.truncation is None or (case.form == "chunks" and case.T % case.truncation[0] == 0)

    def setup(self, case: Case, arrays: Arrays) -> None:
        """Compiles on the first run."""
        jax = self._jax
        self._step = jax.jit(jax.value_and_grad(_jax_loss(jax, case), argnums=(0, 1, 2)))
        self._arguments = jax.tree.map(jax.numpy.asarray, (arrays.params, arrays.x, arrays.state, arrays.dh))

    def run(self) -> Any:
        """Loss and gradients, complete when it returns."""
        return self._jax.block_until_ready(self._step(*self._arguments))

    def gradients(self, result: Any) -> dict[str, Array]:
        """The gradients as NumPy arrays."""
        params, x, state = result[1]
        named = {**params, "x": x, **dict(zip(("h0", "c0"), state, strict=False))}
        return {name: np.asarray(g) for name, g in named.items()}

    def close(self) -> None:
        """Gives dtype policy and number of threads back."""
        self._jax.config.update("jax_enable_x64", self._x64_before)
        if self._limited:
            os.environ.pop("NPROC", None)
            if self._nproc_before is not None:
                os.environ["NPROC"] = self._nproc_before
            self._restart()


def _jax_loss(jax: Any, case: Case) -> Callable[..., Any]:
    jnp, nn, H = jax.numpy, jax.nn, case.H
    reach = case.truncation[0] if case.truncation is not None else case.T

    def cell(params: Any, state: Any, a: Any) -> Any:
        wh = state[0] @ params["W"].T
        if case.cell == "rnn":
            return (jnp.tanh(a + wh),)
        if case.cell == "gru":
            r, z = jnp.split(nn.sigmoid(a[:, : 2 * H] + wh[:, : 2 * H]), 2, axis=1)
            n = jnp.tanh(a[:, 2 * H :] + r * (wh[:, 2 * H :] + params["b_hn"]))
            return ((1 - z) * n + z * state[0],)
        i, f, g, o = jnp.split(a + wh, 4, axis=1)
        c = nn.sigmoid(f) * state[1] + nn.sigmoid(i) * jnp.tanh(g)
        return nn.sigmoid(o) * jnp.tanh(c), c

    def loss(params: Any, x: Any, state: Any, dh: Any) -> Any:
        def step(carry: Any, row: Any) -> Any:
            a, t = row
            if reach < case.T:
                cut = (t % reach == 0) & (t > 0)
                carry = jax.tree.map(lambda s: jnp.where(cut, jax.lax.stop_gradient(s), s), carry)
            carry = cell(params, carry, a)
            return carry, carry[0]

        a = (x.reshape(-1, case.I) @ params["U"].T + params["b"]).reshape(case.T, case.B, -1)
        _, h = jax.lax.scan(step, state, (a, jnp.arange(case.T)))
        return (h * dh).sum()

    return loss
