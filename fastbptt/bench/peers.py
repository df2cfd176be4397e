"""The sides of the benchmark: this package, and each peer as its own users would write it.

Every side computes the same thing: forward, then the gradients of L = Σ h·dh with respect to U, W, b (b_hn), x and the
initial state. A side keeps its own kind of arrays between ``setup`` and ``run``, so conversions are never timed.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from .cases import Array, Arrays, Case
from .numpy_peer import NumpyPeer, gradients, passes

OURS = "fastbptt"

TOLERANCE = {"float32": 2e-4, "float64": 1e-10}
"""Largest allowed max|g − r| / max|r| of any gradient g against r, the plain NumPy loop run in float64."""


class Side(Protocol):
    """What the benchmark needs of a side. ``threads=None`` leaves it its default, all cores."""

    name: str

    def supports(self, case: Case) -> bool:
        """Whether users of this side have a recipe for the case."""

    def setup(self, case: Case, arrays: Arrays) -> None:
        """Prepares a case; the first ``run`` after it may still compile."""

    def run(self) -> Any:
        """One forward and one backward pass, complete when it returns."""

    def gradients(self, result: Any) -> dict[str, Array]:
        """The gradients in what ``run`` returned, as NumPy arrays named U, W, b, b_hn, x, h0, c0."""

    def close(self) -> None:
        """Gives back what ``threads`` changed."""


class OursSide:
    """fastbptt itself, through its public names."""

    name = OURS

    def __init__(self, threads: int | None = None) -> None:
        # Imported here: the package under test is a side like the others, and the table of cases must not need it.
        self._fb: Any = importlib.import_module("fastbptt")
        self._threads_before: int | None = None
        if threads is not None:
            self._threads_before = self._fb.get_num_threads()
            self._fb.set_num_threads(threads)

    def supports(self, case: Case) -> bool:
        """Every case."""
        return True

    def setup(self, case: Case, arrays: Arrays) -> None:
        """Builds cell, parameters, state and truncation."""
        fb = self._fb
        make = {"rnn": fb.RNN, "gru": fb.GRU, "lstm": fb.LSTM}[case.cell]
        self._cell = make(case.I, case.H)
        self._params = self._cell.init(seed=0, dtype=np.dtype(case.dtype))._replace(**arrays.params)
        self._x, self._dh = arrays.x, arrays.dh
        self._state = fb.forward(self._cell, self._params, arrays.x[:1]).final._make(arrays.state)
        self._truncation = None if case.truncation is None else fb.Truncation(*case.truncation)

    def forward(self) -> Any:
        """``fb.forward`` alone: the tape."""
        return self._fb.forward(self._cell, self._params, self._x, state=self._state)

    def run(self) -> Any:
        """``fb.forward`` and ``fb.backward``."""
        return self._fb.backward(self._cell, self._params, self.forward(), self._dh, truncation=self._truncation)

    def gradients(self, result: Any) -> dict[str, Array]:
        """The three parts of Grads under one set of names."""
        state = dict(zip(("h0", "c0"), result.state, strict=False))
        return {**result.params._asdict(), "x": result.x, **state}

    def close(self) -> None:
        """Gives the number of threads back."""
        if self._threads_before is not None:
            self._fb.set_num_threads(self._threads_before)


class TorchPeer:
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


class JaxPeer:
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


PEERS: dict[str, Callable[[int | None], Side]] = {"numpy": NumpyPeer, "torch": TorchPeer, "jax": JaxPeer}
"""The peers by name. Constructing one that is not installed raises ImportError."""


def assert_same_gradients(case: Case, arrays: Arrays, sides: Iterable[Side]) -> None:
    """Runs every side (set up with ``case`` and ``arrays``) once and compares it with the plain NumPy loop in float64.

    Raises
    ------
    AssertionError
        If a gradient is missing, has another shape or dtype, or is off by more than ``TOLERANCE``.
    """
    expected = gradients(case, arrays.astype("float64"))
    for side in sides:
        found = side.gradients(side.run())
        who = f"{case.name}: {side.name}"
        if found.keys() != expected.keys():
            raise AssertionError(f"{who} gives gradients of {sorted(found)}, expected {sorted(expected)}")
        for name, want in expected.items():
            got = found[name]
            if got.shape != want.shape or got.dtype != case.dtype:
                raise AssertionError(f"{who}, d{name}: expected {want.shape} {case.dtype}, got {got.shape} {got.dtype}")
            error = float(np.max(np.abs(got - want)) / np.max(np.abs(want)))
            if not error <= TOLERANCE[case.dtype]:  # a NaN is an error too
                raise AssertionError(f"{who}, d{name}: off by {error:.1e}, allowed {TOLERANCE[case.dtype]:.0e}")


def checked_setup(side: Side, case: Case) -> Side:
    """The side, set up on ``case`` and warm, after a tiny case of the same form has shown that its gradients are right.

    For asv and pytest-benchmark, which time one side at a time.

    Raises
    ------
    NotImplementedError
        If the side has no recipe for the case (asv then skips it).
    AssertionError
        If a gradient is wrong.
    """
    if not side.supports(case):
        raise NotImplementedError(f"{side.name} has no recipe for {case.name}")
    tiny = case.tiny()
    arrays = tiny.arrays()
    side.setup(tiny, arrays)
    assert_same_gradients(tiny, arrays, [side])
    side.setup(case, case.arrays())
    side.run()
    return side
