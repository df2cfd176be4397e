"""What a tape shows cannot be written through; its final state is a copy of its own, which does not hold the tape."""
from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.tree import leaves

X = np.random.default_rng(0).normal(size=(9, 3, 4))
CELLS = {"rnn": fb.RNN(4, 5), "leaky": fb.RNN(4, 5, leak=0.5), "gru": fb.GRU(4, 5), "lstm": fb.LSTM(4, 5),
         "stack": fb.Stack([fb.GRU(4, 6), fb.LSTM(6, 5)]),
         "two directions": fb.Stack([fb.GRU(4, 6), fb.LSTM(12, 5)], bidirectional=True)}


@pytest.fixture(params=list(CELLS))
def cell(request):
    return CELLS[request.param]


def tape_of(cell, **options):
    params = cell.init(seed=0, dtype=np.float64)
    return params, fb.forward(cell, params, X, lengths=[9, 2, 5], **options)


def gradients(cell, params, tape):
    return list(leaves(fb.backward(cell, params, tape, np.ones((9, 3, cell.hidden_size)))))


def shown(tape):
    """Every array that a tape and the tapes of its layers show."""
    arrays = [tape.h]
    for layer in getattr(tape, "layers", ()):
        for part in layer if isinstance(layer, tuple) else (layer,):
            arrays += [part.h, *([part.c] if hasattr(part.arrays, "c") else [])]
    return arrays + ([tape.c] if tape.cell == CELLS["lstm"] or tape.cell == CELLS["stack"] else [])


def test_states_cannot_be_written_through(cell):
    params, tape = tape_of(cell)
    want = gradients(cell, params, tape)
    for array in shown(tape):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7
        with pytest.raises(ValueError, match="read-only"):
            array -= 1
    with pytest.raises((AttributeError, ValueError)):
        tape.h -= X[..., :1]
    for a, b in zip(gradients(cell, params, tape), want, strict=True):
        assert np.array_equal(a, b)


def test_final_is_a_copy_of_its_own(cell):
    for budget in (None,) if cell.bidirectional else (None, "8 MiB"):
        params, tape = tape_of(cell, memory_budget=budget)
        want = gradients(cell, params, tape)
        for array in leaves(tape.final):
            assert array.base is None and array.flags.owndata and array.flags.writeable
            array[:] = 7
        for a, b in zip(gradients(cell, params, tape), want, strict=True):
            assert np.array_equal(a, b)


def test_finals_do_not_hold_their_tapes(cell):
    params, tape = tape_of(cell)
    kept, states = [], []
    for _ in range(100):
        _, tape = tape_of(cell)
        kept.append(tape.final)
        states += [weakref.ref(array) for scan in tape.scans for array in scan.arrays if array.size]
    del tape
    gc.collect()
    assert len(kept) == 100 and not any(state() is not None for state in states)


def test_the_initial_state_is_not_the_final_one():
    """One padded or one real step: never the caller's array."""
    cell = CELLS["rnn"]
    state = fb.RNNState(np.ones((3, 5)))
    tape = fb.forward(cell, cell.init(dtype=np.float64), X[:1], state, memory_budget="8 MiB")
    tape.final.h[:] = 7
    assert (state.h == 1).all() and (fb.step(cell, cell.init(dtype=np.float64), X[0], state).h != 7).all()


def test_ids_and_lengths_written_to_after_forward_harm_nothing():
    """A loader may use its buffers again: what backward reads of them cannot lead out of an array."""
    cell = fb.RNN(3, 5)
    params, dh = cell.init(seed=0, dtype=np.float64), np.ones((8, 2, 5))
    ids, lengths = np.zeros((8, 2), int), np.array([8, 3])
    tape = fb.forward(cell, params, ids, lengths=lengths)
    want = fb.backward(cell, params, tape, dh, fb.Truncation(3, 1))
    lengths[:] = 5000, 4
    for got, wanted in zip(fb.backward(cell, params, tape, dh, fb.Truncation(3, 1)).params, want.params, strict=True):
        assert np.array_equal(got, wanted)
    ids[:] = 90_000
    grads = fb.backward(cell, params, tape, dh)
    assert not grads.params.U.any() and grads.params.b.any()


def test_masked_weights_changed_after_forward_reach_backward():
    cell = fb.RNN(2, 3, mask=np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1]]))
    params, x = cell.init(seed=0, dtype=np.float64), np.random.default_rng(0).normal(size=(5, 2, 2))
    tape = fb.forward(cell, params, x)
    params.W[...] *= 2
    got, want = (fb.backward(cell, p, tape, np.ones((5, 2, 3))) for p in (params, fb.RNNParams(*params)))
    assert all(np.array_equal(a, b) for a, b in zip(got.params, want.params, strict=True))
