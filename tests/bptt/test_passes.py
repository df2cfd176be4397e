"""forward and backward against the oracle: every activation, ids, lengths, truncation, both dtypes, awkward sizes."""
from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbptt as fb
from fastbptt import reference as ref
from fastbptt.bptt import execute
from fastbptt.engine.activations import NAMES


def make(seed, T, B, I, H, activation="tanh", dtype=np.float64, ids=False):  # noqa: E741
    """A cell, its parameters, an input, a state and errors, all drawn from the seed."""
    rng = np.random.default_rng(seed)
    cell = fb.RNN(I, H, activation)
    params = fb.RNNParams(*(rng.normal(size=s).astype(dtype) / max(1, s[-1]) ** 0.5 for s in cell.shapes.values()))
    x = rng.integers(0, I, size=(T, B)) if ids else rng.normal(size=(T, B, I)).astype(dtype)
    return cell, params, x, fb.RNNState(rng.normal(size=(B, H)).astype(dtype)), rng.normal(size=(T, B, H)).astype(dtype)


def assert_equal_to_reference(cell, params, x, state, dh, lengths=None, truncation=None, tolerance=1e-10):
    tape = fb.forward(cell, params, x, state, lengths)
    grads = fb.backward(cell, params, tape, dh, None if truncation is None else fb.Truncation(*truncation))
    want = ref.forward("rnn", [*params] and params, x, state, lengths, activation=cell.activation)
    wanted = ref.backward(want, dh, truncation=truncation)
    pairs = [(tape.h, want.h[1:]), (tape.final.h, want.h[-1]), (grads.state.h, wanted.state[0])]
    pairs += list(zip(grads.params, wanted.params.values(), strict=True))
    if x.ndim == 3:
        pairs.append((grads.x, wanted.x))
    else:
        assert grads.x is None
    for got, expected in pairs:
        assert got.shape == expected.shape and got.dtype == params.U.dtype
        assert np.abs(got - expected).max() <= tolerance * max(1.0, np.abs(expected).max())


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 9), st.sampled_from([1, 2, 7, 16, 37]),
       st.sampled_from([1, 3, 7, 8, 20, 37]), st.sampled_from(NAMES), st.booleans(), st.booleans(), st.booleans(), st.data())
def test_equals_the_reference(seed, T, B, I, H, activation, ids, ragged, single, data):  # noqa: E741
    cell, params, x, state, dh = make(seed, T, B, I, H, activation, ids=ids)
    lengths = np.array(data.draw(st.lists(st.integers(1, T), min_size=B, max_size=B))) if ragged else None
    horizon = data.draw(st.integers(1, T + 1))
    truncation = data.draw(st.sampled_from([None, (horizon, data.draw(st.integers(1, horizon)))]))
    if ragged:      # what lies in the padding must not matter
        for b, n in enumerate(lengths):
            dh[n:, b] = np.nan
            x[n:, b] = -5 if ids else np.nan
    assert_equal_to_reference(cell, params, x, state, dh, lengths, truncation)
    if single:
        small = lambda a: a if a.dtype.kind == "i" else a.astype(np.float32)  # noqa: E731
        params32, state32 = fb.RNNParams(*map(small, params)), fb.RNNState(small(state.h))
        if activation not in ("relu", "leaky_relu"):       # their derivative jumps: rounding may put a unit on the other side
            assert_equal_to_reference(cell, params32, small(x), state32, small(dh), lengths, truncation, 2e-4)


@pytest.mark.parametrize("truncation", [None, (16, 16), (16, 1), (20, 7)])
def test_sizes_of_several_blocks_and_shards(truncation):
    cell, params, x, state, dh = make(1, 150, 13, 10, 33)
    assert_equal_to_reference(cell, params, x, state, dh, truncation=truncation)
    cell, params, x, state, dh = make(2, 700, 1, 5, 17)
    assert_equal_to_reference(cell, params, x, state, dh, truncation=truncation)


def test_horizon_of_the_whole_sequence_is_full_bptt():
    cell, params, x, state, dh = make(4, 9, 3, 4, 5)
    tape = fb.forward(cell, params, x, state)
    full = fb.backward(cell, params, tape, dh)
    for stride in (1, 4, 9):
        cut = fb.backward(cell, params, tape, dh, fb.Truncation(9, stride))
        assert np.array_equal(cut.params.W, full.params.W)      # one pass, whatever the stride: to the bit
    clipped = fb.backward(cell, params, tape, dh, clip_state=0.1).params.W
    for horizon in (9, 12):      # and with a norm to keep to, where the stride leaves one pass as well
        assert np.array_equal(fb.backward(cell, params, tape, dh, fb.Truncation(horizon, 9), clip_state=0.1).params.W, clipped)
    assert not np.allclose(fb.backward(cell, params, tape, dh, fb.Truncation(9, 4), clip_state=0.1).params.W, clipped)


@pytest.mark.parametrize("make_cell", [fb.RNN, fb.LSTM])
def test_work_is_counted_in_flops_of_the_products(make_cell, monkeypatch):
    """What `pool_for` decides by: 2·G·H·(H + I) of every row, twice that on the way back."""
    T, B, I, H = 6, 3, 5, 7  # noqa: E741
    cell, noted = make_cell(I, H), []
    monkeypatch.setattr(execute, "pool_for", lambda flops: noted.append(flops) or nullcontext(0))
    params = cell.init(seed=0)
    tape = fb.forward(cell, params, np.ones((T, B, I), np.float32))
    fb.backward(cell, params, tape, np.ones((T, B, H), np.float32))
    fb.backward(cell, params, tape, np.ones((T, B, H), np.float32), fb.Truncation(2))
    work = 2 * cell.gates * H * (H + I) * T * B
    assert noted == [work, 2 * work, 2 * work]


def test_gradient_is_linear_in_dh_and_shards_of_a_batch_add_up():
    cell, params, x, state, dh = make(5, 11, 6, 4, 7)
    tape = fb.forward(cell, params, x, state)
    one, three = fb.backward(cell, params, tape, dh), fb.backward(cell, params, tape, 3 * dh)
    np.testing.assert_allclose(three.params.U, 3 * one.params.U, rtol=1e-12)
    parts = []
    for rows in (slice(0, 2), slice(2, 6)):
        part = fb.forward(cell, params, x[:, rows], fb.RNNState(state.h[rows]))
        parts.append(fb.backward(cell, params, part, dh[:, rows]).params.W)
    np.testing.assert_allclose(sum(parts), one.params.W, rtol=1e-11, atol=1e-12)


def test_ids_equal_one_hot_vectors():
    cell, params, x, state, dh = make(6, 8, 3, 5, 6, ids=True)
    got = fb.backward(cell, params, fb.forward(cell, params, x, state), dh)
    want = fb.backward(cell, params, fb.forward(cell, params, np.eye(5)[x], state), dh)
    for a, b in zip(got.params, want.params, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_nan_stays_in_its_sequence():
    cell, params, x, state, dh = make(7, 10, 5, 4, 9)
    clean_tape = fb.forward(cell, params, x, state)
    clean = fb.backward(cell, params, clean_tape, dh)
    x[3, 2] = np.nan
    tape = fb.forward(cell, params, x, state)
    grads = fb.backward(cell, params, tape, dh)
    others = [0, 1, 3, 4]
    assert np.isnan(tape.h[3:, 2]).all() and np.isfinite(tape.h[:3, 2]).all()
    for got, want in ((tape.h, clean_tape.h), (grads.x, clean.x)):
        assert np.array_equal(got[:, others], want[:, others])
    assert np.array_equal(grads.state.h[others], clean.state.h[others])


def test_scalar_chains():
    """w = 0.5 and 1.5 over ten steps."""
    for w, product in ((0.5, 0.0009765625), (1.5, 57.6650390625)):
        cell = fb.RNN(1, 1, "identity")
        params = fb.RNNParams(np.zeros((1, 1)), np.array([[w]]), np.zeros(1))
        tape = fb.forward(cell, params, np.zeros((10, 1, 1)), fb.RNNState(np.ones((1, 1))))
        dh = np.zeros((10, 1, 1))
        dh[-1] = 1
        assert fb.backward(cell, params, tape, dh).state.h[0, 0] == product == tape.final.h[0, 0]


def test_step_equals_forward():
    cell, params, x, state, _ = make(8, 5, 3, 4, 6)
    tape = fb.forward(cell, params, x, state)
    for t in range(5):
        state = fb.step(cell, params, x[t], state)
        np.testing.assert_allclose(state.h, tape.h[t], rtol=1e-13)


def test_finite_differences():
    cell, params, x, state, dh = make(9, 6, 2, 3, 5)
    grads = fb.backward(cell, params, fb.forward(cell, params, x, state), dh)
    rng = np.random.default_rng(0)
    v = fb.RNNParams(*(rng.normal(size=a.shape) for a in params))

    def loss(eps):
        return (fb.forward(cell, fb.RNNParams(*(a + eps * d for a, d in zip(params, v, strict=True))), x, state).h * dh).sum()
    slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    assert abs(slope - sum((g * d).sum() for g, d in zip(grads.params, v, strict=True))) < 1e-7 * abs(slope) + 1e-8
