"""The sides of the benchmark: this package, and each peer, as its own users write it and as an expert does."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .cases import Array, Arrays, Case
from .jax_peer import JaxPeer
from .jax_vjp import JaxVjpPeer
from .numba_peer import NumbaPeer
from .numpy_buffers import NumpyBuffersPeer
from .numpy_peer import NumpyPeer, gradients
from .paddle_peer import PaddlePeer
from .side import Side
from .torch_function import TorchFunctionPeer
from .torch_peer import TorchPeer

OURS = "fastbptt"

TOLERANCE = {"float32": 2e-4, "float64": 1e-10}
"""Largest allowed max|g − r| / max|r| of any gradient g against r, the plain NumPy loop run in float64."""


class OursSide(Side):
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


PEERS: dict[str, Callable[[int | None], Side]] = {
    "numpy": NumpyPeer, "numpy-buffers": NumpyBuffersPeer, "numba": NumbaPeer, "torch": TorchPeer,
    "torch-function": TorchFunctionPeer, "jax": JaxPeer, "jax-vjp": JaxVjpPeer, "paddle": PaddlePeer}
"""The peers by name. Constructing one that is not installed raises ImportError."""


def assert_equal_gradients(case: Case, side: str, found: dict[str, Array], expected: dict[str, Array]) -> None:
    """Compares the gradients of a side with those of the plain NumPy loop in float64.

    Raises
    ------
    AssertionError
        If a gradient is missing, has another shape or dtype, or is off by more than ``TOLERANCE``.
    """
    who = f"{case.name}: {side}"
    if found.keys() != expected.keys():
        raise AssertionError(f"{who} gives gradients of {sorted(found)}, expected {sorted(expected)}")
    for name, want in expected.items():
        got = found[name]
        if got.shape != want.shape or got.dtype != case.dtype:
            raise AssertionError(f"{who}, d{name}: expected {want.shape} {case.dtype}, got {got.shape} {got.dtype}")
        error = float(np.max(np.abs(got - want)) / np.max(np.abs(want)))
        if not error <= TOLERANCE[case.dtype]:  # a NaN is an error too
            raise AssertionError(f"{who}, d{name}: off by {error:.1e}, allowed {TOLERANCE[case.dtype]:.0e}")


def assert_same_gradients(case: Case, arrays: Arrays, sides: Iterable[Side]) -> None:
    """Runs every side (set up with ``case`` and ``arrays``) once and compares it with the plain NumPy loop in float64.

    Raises
    ------
    AssertionError
        See `assert_equal_gradients`.
    """
    expected = gradients(case, arrays.astype("float64"))
    for side in sides:
        assert_equal_gradients(case, side.name, side.gradients(side.run()), expected)


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
    side.tune()
    return side
