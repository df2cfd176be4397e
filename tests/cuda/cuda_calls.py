"""Calls of every kind, on a device and by the oracle, for the simulator and for a GPU alike."""
from __future__ import annotations

from functools import partial

import numpy as np

import fastbptt as fb
from fastbptt import reference as ref
from fastbptt.tree import leaves, tree_map

# name: (the oracle's kind, cell, what the oracle is told besides)
CELLS = {name: ("rnn", partial(fb.RNN, activation=name), {"activation": name})
         for name in ("tanh", "sigmoid", "relu", "leaky_relu", "identity")}
CELLS |= {"leak": ("rnn", partial(fb.RNN, leak=0.3), {"leak": 0.3}),
          "gru_after": ("gru_after", fb.GRU, {}), "gru_before": ("gru_before", partial(fb.GRU, reset="before"), {}),
          "lstm": ("lstm", fb.LSTM, {}), "lstm_peephole": ("lstm_peephole", partial(fb.LSTM, peephole=True), {})}
TOLERANCE = {"float32": 2e-4, "float64": 1e-10}


def fetch(array):
    """An array of any library in host memory."""
    for name in ("copy_to_host", "cpu", "get"):
        if hasattr(array, name):
            return np.asarray(getattr(array, name)())
    raise AssertionError(f"not on the device: {type(array)}")


class Call:
    """A stack of layers with sizes (I, H, …), and what a call is given, drawn from a seed; `to` copies an array to the device."""

    def __init__(self, name, dtype, T, B, *sizes, to=None, ids=False, ragged=False, bidirectional=False, noise=False, mask=False):
        self.rng, self.dtype = np.random.default_rng(3), np.dtype(dtype)
        self.to = partial(tree_map, to or fb.cuda.to_device)
        self.kind, make, self.told = CELLS[name]
        if mask:
            self.told = {**self.told, "mask": self.rng.random((sizes[1], sizes[1])) < 0.5}
            make = partial(make, mask=self.told["mask"])
        inputs = [sizes[0], *((1 + bidirectional) * H for H in sizes[1:-1])]
        cells = [make(*pair) for pair in zip(inputs, sizes[1:], strict=True)]
        self.cell = fb.Stack(cells, bidirectional) if len(cells) > 1 or bidirectional else cells[0]
        self.params = self.cell.params_of({key: self.draw(*shape, scale=0.8 / shape[-1] ** 0.5)
                                           for key, shape in self.cell.shapes.items()})
        self.state = self.cell.per_layer(own.state_type(*[self.draw(B, own.hidden_size) for _ in own.state_type._fields])
                                         for own in self.cell.scans)
        self.x = self.rng.integers(0, sizes[0], (T, B)) if ids else self.draw(T, B, sizes[0])
        self.dh = self.draw(T, B, self.cell.hidden_size)
        self.noise = self.draw(T, B, sizes[1]) if noise else None
        self.lengths, self.resets = None, None
        if ragged:
            self.lengths = self.rng.integers(1, T + 1, B)
            self.lengths[0] = T
            self.resets = None if bidirectional else self.rng.random((T, B)) < 0.2
            for b, n in enumerate(self.lengths):      # what lies in the padding must not matter
                self.dh[n:, b] = np.nan
                if not ids:
                    self.x[n:, b] = np.nan

    def draw(self, *shape, scale=1.0):
        return (scale * self.rng.normal(size=shape)).astype(self.dtype)

    def on_device(self, truncation=None):
        """(h, final state, gradients) of the device, fetched."""
        params = self.to(self.params)
        tape = fb.forward(self.cell, params, self.to(self.x), self.to(self.state), self.lengths, resets=self.to(self.resets),
                          noise=self.to(self.noise))
        grads = fb.backward(self.cell, params, tape, self.to(self.dh), truncation and fb.Truncation(*truncation))
        return tree_map(fetch, (tape.h, tape.final, tuple(grads)))

    def by_oracle(self, truncation=None):
        """The same by the oracle, whose two directions know no resets."""
        x = np.where(np.isnan(self.x), 0, self.x)
        layer = partial(ref.Layer, self.kind, **self.told, noise=self.noise)
        if self.cell.bidirectional:
            run = ref.bidirectional_forward([[layer(p) for p in pair] for pair in self.params], x, self.state, self.lengths)
            final = tuple((one.final[0], two.final[0]) for one, two in run.tapes)
            return run.output, final, ref.bidirectional_backward(run, self.dh)
        parts = self.cell.flatten(self.params)
        tape = ref.stack_forward([layer(p) for p in parts], x, self.cell.flatten(self.state), self.lengths, self.resets)
        return tape.h[1:], tape.final, ref.stack_backward(tape, self.dh, truncation)

    def same(self, got, want):
        """The numbers agree, and are of the dtype of the call."""
        got, want = list(leaves(got)), list(leaves(tuples(want)))
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            assert one.shape == other.shape and one.dtype == self.dtype
            assert np.abs(one - other).max() <= TOLERANCE[self.dtype.name] * max(1.0, np.abs(other).max())


def tuples(tree):
    """Dictionaries of a tree as tuples of their values."""
    if isinstance(tree, dict):
        return tuple(tree.values())
    return tuple(tuples(branch) for branch in tree) if isinstance(tree, tuple) else tree
