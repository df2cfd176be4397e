"""What other derivatives than one gradient cost, over the sizes S, M and L: along a direction, and for each sequence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import fastbptt as fb
from fastbptt.bench.cases import CELLS, Case
from fastbptt.tree import leaves

from .cells import SIZES, case_of


def problem(case: Case) -> tuple[Any, ...]:
    """The cell, its parameters and tape, and a direction, of a case."""
    rng, kind = np.random.default_rng(0), np.dtype(case.dtype)
    cell = getattr(fb, case.cell.upper())(case.I, case.H)
    x, dx = rng.normal(size=(2, case.T, case.B, case.I)).astype(kind)
    params, dparams = (cell.init(seed=seed, dtype=kind) for seed in (0, 1))
    tape = fb.forward(cell, params, x)
    return cell, params, tape, (dparams, dx, tape.final)


def assert_adjoint(case: Case) -> None:
    """⟨u, J v⟩ = ⟨Jᵀ u, v⟩."""
    cell, params, tape, direction = problem(case)
    tangent, grads = fb.jvp(cell, params, tape, *direction), fb.backward(cell, params, tape, tape.h)
    theirs = sum(float(np.vdot(a, b)) for a, b in zip(leaves(tuple(grads)), leaves(direction), strict=True))
    np.testing.assert_allclose(float(np.vdot(tape.h, tangent.h)), theirs, rtol=1e-2)


class JacobianVector:
    """`fb.jvp` and the forward pass that it follows."""

    params = (list(CELLS), list(SIZES))
    param_names = ["cell", "size"]

    def setup(self, cell: str, size: str) -> None:
        case = case_of(cell, size, "float32")
        assert_adjoint(replace(case, T=3, B=2))
        self.given = problem(case)

    def time_forward(self, cell: str, size: str) -> None:
        cell_, params, tape, _ = self.given
        fb.forward(cell_, params, tape.batch.x)

    def time_jvp(self, cell: str, size: str) -> None:
        cell_, params, tape, direction = self.given
        fb.jvp(cell_, params, tape, *direction)


class PerSequence:
    """The gradient of each sequence and its norm, and the gradient of their sum."""

    params = (list(CELLS), [size for size in SIZES if "-B1-" not in size])
    param_names = ["cell", "size"]

    def setup(self, cell: str, size: str) -> None:
        case = case_of(cell, size, "float32")
        own, params, tape, _ = problem(replace(case, T=3))
        parts = fb.per_sequence_gradients(own, params, tape, tape.h)
        for part, whole in zip(parts, fb.backward(own, params, tape, tape.h).params, strict=True):
            np.testing.assert_allclose(part.sum(axis=0), whole, rtol=1e-2, atol=1e-3)
        self.given = problem(case)[:3]

    def time_backward(self, cell: str, size: str) -> None:
        fb.backward(*self.given, self.given[2].h)

    def time_gradients(self, cell: str, size: str) -> None:
        fb.per_sequence_gradients(*self.given, self.given[2].h)

    def time_norms(self, cell: str, size: str) -> None:
        fb.per_sequence_norms(*self.given, self.given[2].h)
