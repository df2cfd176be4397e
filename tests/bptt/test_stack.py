"""Stacks against the oracle: layers, directions, dropout, lengths, states, truncation of the joint state."""
from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbptt as fb
from fastbptt import reference as ref
from fastbptt.tree import tree_map

SIZES = (3, 5, 4, 2)
KINDS = {"rnn": fb.RNN, "gru_after": fb.GRU, "gru_before": partial(fb.GRU, reset="before"), "lstm": fb.LSTM,
         "lstm_peephole": partial(fb.LSTM, peephole=True)}


def kind_of(cell):
    """The oracle's name of a cell."""
    if isinstance(cell, fb.RNN):
        return "rnn"
    return f"gru_{cell.reset}" if isinstance(cell, fb.GRU) else "lstm_peephole" if cell.peephole else "lstm"


def make(seed, depth, T, B, bidirectional=False, ids=False, dropout=0.0, kinds=("rnn",)):
    """A float64 stack, its parameters, an input, a state and errors, all drawn from the seed."""
    rng = np.random.default_rng(seed)
    ways = 2 if bidirectional else 1
    cells = [KINDS[kinds[i % len(kinds)]](SIZES[i] * (ways if i else 1), SIZES[i + 1]) for i in range(depth)]
    stack = fb.Stack(cells, bidirectional, dropout)
    params = stack.params_of({name: rng.normal(size=shape) / shape[-1] ** 0.5 for name, shape in stack.shapes.items()})
    state = stack.per_layer(drawn_state(cell, B, rng) for _, cell in stack.parts)
    x = rng.integers(0, 3, size=(T, B)) if ids else rng.normal(size=(T, B, 3))
    return stack, params, x, state, rng.normal(size=(T, B, stack.hidden_size))


def drawn_state(cell, B, rng):
    return cell.state_type(*(rng.normal(size=(B, cell.hidden_size)) for _ in cell.state_type._fields))


def layers(stack, params):
    """The oracle's layers."""
    if stack.bidirectional:
        return [[ref.Layer(kind_of(cell), p) for p in pair] for cell, pair in zip(stack.cells, params, strict=True)]
    return [ref.Layer(kind_of(cell), p) for cell, p in zip(stack.cells, params, strict=True)]


def factors(stack, tape):
    return [np.where(kept, 1 / (1 - stack.dropout), 0) for kept in tape.masks if kept is not None]


def flat(tree):
    """Arrays of tuples and dicts, in order."""
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    return [a for branch in tree for a in flat(branch)] if isinstance(tree, tuple) else [] if tree is None else [tree]


def assert_close(got, want):
    for a, b in zip(flat(got), flat(want), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


KINDS_DRAWN = st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=3)     # first layer first


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 14), st.integers(1, 5), st.booleans(), st.booleans(),
       st.booleans(), KINDS_DRAWN, st.data())
def test_layers_equal_the_reference(seed, depth, T, B, ids, ragged, drop, kinds, data):
    stack, params, x, state, dh = make(seed, depth, T, B, ids=ids and kinds[0] == "rnn", dropout=0.4, kinds=kinds)
    lengths = np.array(data.draw(st.lists(st.integers(1, T), min_size=B, max_size=B))) if ragged else None
    horizon = data.draw(st.integers(1, T + 1))
    truncation = data.draw(st.sampled_from([None, (horizon, data.draw(st.integers(1, horizon)))]))
    tape = fb.forward(stack, params, x, state, lengths, seed=seed if drop else None)
    want = ref.stack_forward(layers(stack, params), x, state, lengths, dropout=factors(stack, tape))
    for b, n in enumerate(lengths if ragged else ()):      # what lies in the padding must not matter
        dh[n:, b] = np.nan
    grads = fb.backward(stack, params, tape, dh, None if truncation is None else fb.Truncation(*truncation))
    assert_close((tape.h, tape.final), (want.h[1:], want.final))
    assert_close(grads, ref.stack_backward(want, dh, truncation))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 10), st.integers(1, 5), st.booleans(), st.booleans(),
       st.booleans(), KINDS_DRAWN, st.data())
def test_directions_equal_the_reference(seed, depth, T, B, ids, ragged, drop, kinds, data):
    stack, params, x, state, dh = make(seed, depth, T, B, True, ids and kinds[0] == "rnn", 0.4, kinds)
    lengths = np.array(data.draw(st.lists(st.integers(1, T), min_size=B, max_size=B))) if ragged else None
    tape = fb.forward(stack, params, x, state, lengths, seed=seed if drop else None)
    want = ref.bidirectional_forward(layers(stack, params), x, state, lengths, dropout=factors(stack, tape))
    finals = tuple((one.final[0], two.final[0]) for one, two in want.tapes)
    assert_close((tape.h, tape.final), (want.output, finals))
    assert_close(fb.backward(stack, params, tape, dh), ref.bidirectional_backward(want, dh))


@pytest.mark.parametrize("truncation", [(7, 7), (20, 6), (9, 1)])
def test_truncation_in_several_shards(truncation):
    stack, params, x, state, dh = make(1, 2, 61, 9)
    lengths = np.array([61, 61, 5, 30, 61, 1, 60, 44, 7])
    grads = fb.backward(stack, params, fb.forward(stack, params, x, state, lengths), dh, fb.Truncation(*truncation))
    want = ref.stack_backward(ref.stack_forward(layers(stack, params), x, state, lengths), dh, truncation)
    assert_close(grads, want)


@pytest.mark.parametrize(("horizon", "stride", "lengths"), [(3, 3, [7, 6, 1]), (5, 2, [11, 4]), (4, 1, [9]), (9, 4, [8, 21])])
def test_groups_hold_every_pass_once_and_separate_windows(horizon, stride, lengths):
    truncation = fb.Truncation(horizon, stride)
    seen = []
    for group in truncation.groups(np.array(lengths)):
        steps = [(b, step) for b, end, _, stop in group.tolist() for step in range(stop, end)]
        assert len(steps) == len(set(steps))
        seen += map(tuple, group.tolist())
    assert sorted(seen) == sorted((b, *passed) for b, n in enumerate(lengths) for passed in truncation.passes(n))


def test_one_layer_is_its_cell():
    stack, params, x, state, dh = make(3, 1, 9, 3)
    cell = stack.cells[0]
    tape, single = fb.forward(stack, params, x, state), fb.forward(cell, params[0], x, state[0])
    assert np.array_equal(tape.h, single.h)
    for truncation in (None, fb.Truncation(4, 2)):
        got, want = fb.backward(stack, params, tape, dh, truncation), fb.backward(cell, params[0], single, dh, truncation)
        assert_close(got, want)


def test_c_of_the_last_layer():
    stack, params, x, state, _ = make(3, 2, 6, 2, True, kinds=("rnn", "lstm"))
    lengths = np.array([6, 3])
    c = fb.forward(stack, params, x, state, lengths).c
    want = ref.bidirectional_forward(layers(stack, params), x, state, lengths)
    assert_close(c, np.concatenate([want.tapes[1][0].c[1:], ref.reverse(want.tapes[1][1].c[1:], lengths)], axis=2))
    stack, params, x, state, _ = make(3, 2, 6, 2, kinds=("rnn", "lstm"))
    assert_close(fb.forward(stack, params, x, state).c, ref.stack_forward(layers(stack, params), x, state).c[1:])


def test_dropout_follows_the_seed_and_keeps_the_mean():
    stack, params, x, state, dh = make(4, 2, 200, 9, dropout=0.25)
    h = [fb.forward(stack, params, x, state, seed=seed).h for seed in (1, 1, 2, None)]
    assert np.array_equal(h[0], h[1]) and not np.array_equal(h[0], h[2])
    assert np.array_equal(h[3], fb.forward(fb.Stack(stack.cells), params, x, state, seed=1).h)
    assert fb.forward(fb.Stack(stack.cells), params, x, state, seed=1).masks == [None, None]
    tape = fb.forward(stack, params, x, state, seed=1)
    assert abs(tape.masks[0].mean() - 0.75) < 0.02 and tape.masks[1] is None
    assert_close(tape.layers[1].batch.x, tape.layers[0].h * tape.masks[0] / 0.75)


def test_error_of_the_final_state():
    """L = Σ dh h + Σ dfinal · final, by differences along one direction."""
    for bidirectional in (False, True):
        stack, params, x, state, dh = make(5, 2, 6, 3, bidirectional, kinds=("rnn", "lstm"))
        lengths, rng = np.array([6, 2, 4]), np.random.default_rng(0)
        dfinal = stack.per_layer(drawn_state(cell, 3, rng) for _, cell in stack.parts)
        valid = (np.arange(6)[:, None] < lengths)[..., None]

        def loss(x, stack=stack, params=params, state=state, lengths=lengths, dfinal=dfinal, weight=dh * valid):
            tape = fb.forward(stack, params, x, state, lengths)
            ends = sum((a * b).sum() for a, b in zip(flat(tape.final), flat(dfinal), strict=True))
            return (tape.h * weight).sum() + ends

        grads = fb.backward(stack, params, fb.forward(stack, params, x, state, lengths), dh, dfinal=dfinal)
        v = rng.normal(size=x.shape)
        slope = (loss(x + 1e-6 * v) - loss(x - 1e-6 * v)) / 2e-6
        assert abs(slope - (grads.x * v).sum()) < 1e-7 * max(1, abs(slope))


def test_final_state_carries_on_and_steps_equal_forward():
    stack, params, x, state, _ = make(6, 3, 8, 2)
    whole = fb.forward(stack, params, x, state)
    half = fb.forward(stack, params, x[:5], state)
    assert_close(fb.forward(stack, params, x[5:], half.final).h, whole.h[5:])
    for t in range(8):
        state = fb.step(stack, params, x[t], state)
    assert_close(state, whole.final)


def test_nan_stays_in_its_sequence():
    stack, params, x, state, dh = make(7, 2, 6, 3, True)
    clean = fb.backward(stack, params, fb.forward(stack, params, x, state), dh)
    x[2, 1] = np.nan
    tape = fb.forward(stack, params, x, state)
    grads = fb.backward(stack, params, tape, dh)
    assert np.isnan(tape.h[:, 1]).all() and np.isfinite(tape.h[:, [0, 2]]).all()
    assert np.array_equal(grads.x[:, [0, 2]], clean.x[:, [0, 2]])


ONE, TWO = fb.RNN(3, 4), fb.RNN(4, 2)
STACK = fb.Stack([ONE, TWO])
PARAMS = STACK.init(seed=0)
X = np.ones((5, 2, 3), np.float32)


@pytest.mark.parametrize(("make_it", "message"), [
    (lambda: fb.Stack([]), "cells: expected a list of one or more cells"),
    (lambda: fb.Stack(ONE), "cells: expected a list"),
    (lambda: fb.Stack([ONE, 3]), r"cells\[1\]: expected a cell"),
    (lambda: fb.Stack([STACK]), r"cells\[0\]: expected a cell"),
    (lambda: fb.Stack([ONE, ONE]), r"cells\[1\]: expected input_size=4, .* got RNN\(input_size=3"),
    (lambda: fb.Stack([ONE, TWO], True), r"cells\[1\]: expected input_size=8, .* two directions"),
    (lambda: fb.Stack([ONE], 1), "bidirectional: expected True or False"),
    (lambda: fb.Stack([ONE], dropout=1.0), "dropout: expected 0 ≤ dropout < 1"),
    (lambda: fb.forward(STACK, PARAMS[:1], X), r"params: expected a tuple of 2 layers for Stack\(.*, got a tuple of 1"),
    (lambda: fb.forward(STACK, PARAMS[::-1], X), r"params\[0\].U: expected \(4, 3\)"),
    (lambda: fb.forward(STACK, (PARAMS[0], TWO.init(dtype=np.float64)), X), r"params\[1\]: expected float32"),
    (lambda: fb.forward(STACK, list(PARAMS), X), "params: expected a tuple of 2 layers .* got list"),
    (lambda: fb.forward(fb.Stack([ONE], True), PARAMS[:1], X), r"params\[0\]: expected Directions\(forward, reverse\), got RNNP"),
    (lambda: fb.forward(STACK, PARAMS, X[..., :2]), r"x: expected \(T, B, 3\) for Stack"),
    (lambda: fb.forward(STACK, PARAMS, X, PARAMS), r"state\[0\]: expected RNNState"),
    (lambda: fb.forward(STACK, PARAMS, X, seed=-1), "seed: expected an integer"),
    (lambda: fb.forward(ONE, PARAMS[0], X, seed=1), r"seed: expected None for RNN\("),
    (lambda: fb.backward(STACK, PARAMS, fb.forward(STACK, PARAMS, X), X), r"dh: expected \(5, 2, 2\) for Stack"),
    (lambda: fb.backward(ONE, PARAMS[0], fb.forward(STACK, PARAMS, X), X), "tape: expected a tape of RNN"),
    (lambda: fb.backward(STACK, PARAMS, fb.forward(STACK, PARAMS, X), X[..., :2], dfinal=3), "dfinal: expected a tuple of 2"),
])
def test_refused(make_it, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make_it()


def test_two_directions_refuse_truncation_and_steps():
    stack, params, x, _, dh = make(8, 1, 4, 2, True)
    with pytest.raises(ValueError, match="cell: expected one direction for truncation, got Stack"):
        fb.backward(stack, params, fb.forward(stack, params, x), dh, fb.Truncation(9))
    with pytest.raises(ValueError, match="cell: expected one direction for single steps"):
        fb.step(stack, params, x[0])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 12), st.integers(1, 4), KINDS_DRAWN, st.data())
def test_resets_of_layers_equal_the_reference(seed, depth, T, B, kinds, data):
    stack, params, x, state, dh = make(seed, depth, T, B, kinds=kinds)
    rng = np.random.default_rng(seed)
    resets, lengths = rng.random((T, B)) < 0.3, rng.integers(1, T + 1, size=B)
    horizon = data.draw(st.integers(1, T))
    truncation = data.draw(st.sampled_from([None, (horizon, data.draw(st.integers(1, horizon)))]))
    tape = fb.forward(stack, params, x, state, lengths, resets=resets)
    want = ref.stack_forward(layers(stack, params), x, state, lengths, resets)
    assert_close(tape.h, want.h[1:])
    grads = fb.backward(stack, params, tape, dh, None if truncation is None else fb.Truncation(*truncation))
    assert_close(grads, ref.stack_backward(want, dh, truncation))


def test_a_reset_parts_both_directions_into_sequences_of_their_own():
    stack, params, x, state, dh = make(9, 2, 9, 2, True)
    resets = np.zeros((9, 2), bool)
    resets[4] = True
    tape = fb.forward(stack, params, x, state, resets=resets)
    grads = fb.backward(stack, params, tape, dh)
    halves = [fb.forward(stack, params, x[part], state) for part in (slice(0, 4), slice(4, 9))]
    first, second = (fb.backward(stack, params, half, dh[part])
                     for half, part in zip(halves, (slice(0, 4), slice(4, 9)), strict=True))
    assert_close(tape.h, np.concatenate([half.h for half in halves]))
    assert_close(grads.x, np.concatenate([first.x, second.x]))
    assert_close((grads.params, grads.state), tree_map(np.add, (first.params, first.state), (second.params, second.state)))
