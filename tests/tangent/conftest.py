"""Random calls of every cell and option, for the identities that derivatives along a direction obey."""
from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.tree import tree_map

ACTIVATIONS = ("tanh", "sigmoid", "relu", "leaky_relu", "identity")
CELLS = {
    **{name: partial(fb.RNN, activation=name) for name in ACTIVATIONS},
    "leaky": lambda inputs, H: fb.RNN(inputs, H, "sigmoid", leak=0.3, mask=np.tri(H), signs=np.arange(H) % 3 - 1),
    "gru_after": fb.GRU, "gru_before": partial(fb.GRU, reset="before"),
    "lstm": fb.LSTM, "lstm_peephole": partial(fb.LSTM, peephole=True),
}


def inner(a, b):
    """⟨a, b⟩ over two trees of arrays, in float64; what is None or NaN counts as 0."""
    if a is None or b is None:
        return 0.0
    if isinstance(a, np.ndarray):
        return float((np.nan_to_num(a.astype(np.float64)) * np.nan_to_num(b.astype(np.float64))).sum())
    return sum(map(inner, a, b))


class Call:
    """A forward call and a direction, drawn from a seed."""

    def __init__(self, cell, T, B, seed, dtype=np.float64, ids=False, ragged=True, resets=True, noise=False):
        self.rng, self.cell, self.dtype, self.T, self.B = np.random.default_rng(seed), cell, np.dtype(dtype), T, B
        self.params, self.dparams = self.draw_params(), self.draw_params()
        self.state, self.dstate = self.draw_state(), self.draw_state()
        self.x = self.rng.integers(0, cell.input_size, (T, B)) if ids else self.draw(T, B, cell.input_size)
        self.dx = None if ids else self.draw(T, B, cell.input_size)
        self.lengths = self.rng.integers(1, T + 1, B) if ragged else None
        self.options = {"resets": self.rng.random((T, B)) < 0.2} if resets else {}
        if noise:
            self.options["noise"] = self.draw(T, B, cell.hidden_size)
        if getattr(cell, "dropout", 0):
            self.options["seed"] = seed
        for b, n in enumerate(self.lengths if ragged else ()):      # what lies in the padding must not matter
            self.x[n:, b] = -5 if ids else np.nan
            if not ids:
                self.dx[n:, b] = np.nan
        self.tape = self.forward()

    def draw(self, *shape, scale=1.0):
        return (scale * self.rng.normal(size=shape)).astype(self.dtype)

    def draw_params(self):
        return self.cell.params_of({name: self.draw(*shape, scale=0.9 / shape[-1] ** 0.5)
                                    for name, shape in self.cell.shapes.items()})

    def draw_state(self):
        return self.cell.per_layer(own.state_type(*[self.draw(self.B, own.hidden_size) for _ in own.state_type._fields])
                                   for own in self.cell.scans)

    def draw_errors(self):
        """dh and dfinal; NaN in the padding."""
        dh = self.draw(self.T, self.B, self.cell.hidden_size)
        for b, n in enumerate(self.tape.batch.lengths):
            dh[n:, b] = np.nan
        return dh, self.draw_state()

    def forward(self, params=None, x=None, state=None):
        given = [mine if value is None else value for mine, value in
                 ((self.params, params), (self.x, x), (self.state, state))]
        return fb.forward(self.cell, *given, self.lengths, **self.options)

    def moved(self, step):
        """The forward call at a step along the direction."""
        shift = lambda a, d: a + self.dtype.type(step) * d  # noqa: E731
        return self.forward(tree_map(shift, self.params, self.dparams), self.x if self.dx is None else shift(self.x, self.dx),
                            tree_map(shift, self.state, self.dstate))


@pytest.fixture
def draw_call():
    return Call


@pytest.fixture
def inner_product():
    return inner


@pytest.fixture
def cells():
    return CELLS


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", CELLS)
    if "typical" in metafunc.fixturenames:      # a type of parameters that only others' code has compiles for `slow` tests alone
        metafunc.parametrize("typical", [pytest.param(name, marks=[pytest.mark.slow] if name in ("gru_after", "lstm") else [])
                                         for name in CELLS])
