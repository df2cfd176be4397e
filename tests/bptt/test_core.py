"""Every cell, alone and stacked, in every form of a call, at the sizes where vectors, blocks and shards end: against the oracle.

`tests/engine/conftest.py` runs this file again with bounds checks and at other vector widths. There all kernels are compiled
anew, so it takes real inputs, and ids for one cell only; `test_passes.py` and `test_gates.py` draw the rest.
"""
from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import fastbptt as fb
from fastbptt import reference as ref
from fastbptt.bptt.kernels import cell_dims
from fastbptt.bptt.tape import CheckpointTape
from fastbptt.cells.time_blocks import product_rows

KINDS = {"rnn": fb.RNN, "gru_after": fb.GRU, "gru_before": partial(fb.GRU, reset="before"), "lstm": fb.LSTM,
         "lstm_peephole": partial(fb.LSTM, peephole=True)}
TOLERANCE = {"float32": 2e-4, "float64": 1e-10}


@pytest.fixture(params=list(KINDS))
def kind(request):
    return request.param


@pytest.fixture(params=list(TOLERANCE))
def dtype(request):
    return request.param


class Call:
    """A stack of layers of one kind with sizes (I, H, …), and what a call is given, drawn from a seed."""

    def __init__(self, kind, dtype, T, B, *sizes, ids=False, ragged=False, bidirectional=False):
        self.rng, self.kind, self.dtype = np.random.default_rng(3), kind, np.dtype(dtype)
        ways = 1 + bidirectional
        inputs = [sizes[0], *(ways * H for H in sizes[1:-1])]
        self.stack = fb.Stack([KINDS[kind](*pair) for pair in zip(inputs, sizes[1:], strict=True)], bidirectional)
        self.params = self.stack.params_of({name: self.draw(*shape, scale=0.8 / shape[-1] ** 0.5)
                                            for name, shape in self.stack.shapes.items()})
        self.state = self.stack.per_layer(cell.state_type(*[self.draw(B, cell.hidden_size) for _ in cell.state_type._fields])
                                          for cell in self.stack.scans)
        self.x = self.rng.integers(0, sizes[0], (T, B)) if ids else self.draw(T, B, sizes[0])
        self.dh = self.draw(T, B, self.stack.hidden_size)
        self.lengths, self.resets = None, None
        if ragged:
            self.lengths = self.rng.integers(1, T + 1, B)
            self.lengths[0] = T
            if not bidirectional:      # the oracle's directions know no resets
                self.resets = self.rng.random((T, B)) < 0.1
            for b, n in enumerate(self.lengths):      # what lies in the padding must not matter
                self.dh[n:, b] = np.nan
                self.x[n:, b] = -5 if ids else np.nan

    def draw(self, *shape, scale=1.0):
        return (scale * self.rng.normal(size=shape)).astype(self.dtype)

    def forward(self, **options):
        return fb.forward(self.stack, self.params, self.x, self.state, self.lengths, resets=self.resets, **options)

    def check(self, tape, truncation=None):
        """The outputs of a tape, and the gradients from it, are the oracle's."""
        x = np.where(np.isnan(self.x), 0, self.x)
        if self.stack.bidirectional:
            pairs = [[ref.Layer(self.kind, p) for p in pair] for pair in self.params]
            want = ref.bidirectional_forward(pairs, x, self.state, self.lengths)
            h, final = want.output, tuple((one.final[0], two.final[0]) for one, two in want.tapes)
        else:
            want = ref.stack_forward([ref.Layer(self.kind, p) for p in self.params], x, self.state, self.lengths, self.resets)
            h, final = want.h[1:], want.final
        if not isinstance(tape, CheckpointTape):
            self.close(tape.h, h)
        self.close(tape.final, final)
        grads = fb.backward(self.stack, self.params, tape, self.dh, truncation and fb.Truncation(*truncation))
        self.close(grads, ref.bidirectional_backward(want, self.dh) if self.stack.bidirectional else
                   ref.stack_backward(want, self.dh, truncation))

    def close(self, got, want):
        if isinstance(want, dict):
            want = tuple(want.values())
        if isinstance(want, tuple):
            for one, other in zip(got, want, strict=True):
                self.close(one, other)
        elif want is None:
            assert got is None
        else:
            assert got.shape == want.shape and got.dtype == self.dtype
            assert np.abs(got - want).max() <= TOLERANCE[self.dtype.name] * max(1.0, np.abs(want).max())


@pytest.mark.parametrize("H", [1, 7, 37])
@pytest.mark.parametrize(("T", "B", "inputs"), [(1, 1, 1), (1, 9, 7), (12, 1, 37), (5, 17, 7)])
def test_sizes(kind, dtype, H, T, B, inputs):
    for ragged in (False, True):
        call = Call(kind, dtype, T, B, inputs, H, ragged=ragged)
        call.check(call.forward())


@pytest.mark.parametrize("H", [7, 37])
@pytest.mark.parametrize(("T", "B", "truncation"), [(90, 1, (5, 1)), (150, 3, (4, 4)), (40, 2, (9, 4)), (1, 2, (1, 1))])
def test_truncation(kind, dtype, H, T, B, truncation):
    call = Call(kind, dtype, T, B, 3, H, ragged=True)
    call.check(call.forward(), truncation)


@pytest.mark.parametrize("truncation", [None, (4, 4), (5, 2)])
def test_stacks(kind, dtype, truncation):
    call = Call(kind, dtype, 13, 3, 7, 37, 1, 7, ragged=True)
    call.check(call.forward(), truncation)


def test_two_directions(kind, dtype):
    call = Call(kind, dtype, 9, 3, 1, 7, 5, ragged=True, bidirectional=True)
    call.check(call.forward())


@pytest.mark.parametrize("H", [1, 37])
def test_ids(H):
    call = Call("gru_after", "float32", 6, 9, 7, H, ids=True, ragged=True)
    call.check(call.forward())
    call.check(call.forward(), (3, 2))


def test_checkpoints(kind, dtype):
    call = Call(kind, dtype, 200, 5, 3, 37, 7, ragged=True)
    with pytest.raises(ValueError, match="memory_budget: expected at least") as refused:
        call.forward(memory_budget=1)
    tape = call.forward(memory_budget=int(str(refused.value).split()[4]))
    assert tape.schedule.segment < 200
    call.check(tape)


def test_more_than_one_block(kind, dtype):
    T, B, H = 1100, 1, 37
    call = Call(kind, dtype, T, B, 7, H, ragged=True)
    dims = cell_dims(call.stack.cells[0], T, B, call.dtype)
    assert T * B > product_rows(dims)
    call.check(call.forward())
