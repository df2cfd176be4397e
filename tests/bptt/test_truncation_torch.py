"""Truncation by its definition: steps written in PyTorch, the joint state detached where a pass stops, autograd for the rest."""
from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbptt as fb

torch = pytest.importorskip("torch")
sigmoid, tanh = torch.sigmoid, torch.tanh


def rnn(p, x, state):
    (h,) = state
    return (tanh(p["U"] @ x + p["W"] @ h + p["b"]),)


def leaky_rnn(p, x, state):
    (h,) = state
    return (0.75 * h + 0.25 * sigmoid(p["U"] @ x + p["W"] @ h + p["b"]),)


def gru(reset, p, x, state):
    (h,) = state
    a, w = (p["U"] @ x + p["b"]).chunk(3), p["W"].chunk(3)
    r, z = sigmoid(a[0] + w[0] @ h), sigmoid(a[1] + w[1] @ h)
    inner = r * (w[2] @ h + p["b_hn"]) if reset == "after" else w[2] @ (r * h)
    return ((1 - z) * tanh(a[2] + inner) + z * h,)


def lstm(p, x, state):
    h, c = state
    i, f, g, o = (p["U"] @ x + p["W"] @ h + p["b"]).chunk(4)
    P = p.get("P", torch.zeros(3, h.numel(), dtype=h.dtype))
    c_new = sigmoid(f + P[1] * c) * c + sigmoid(i + P[0] * c) * tanh(g)
    return sigmoid(o + P[2] * c_new) * tanh(c_new), c_new


KINDS = {"rnn": (fb.RNN, rnn), "leaky": (partial(fb.RNN, activation="sigmoid", leak=0.25), leaky_rnn),
         "gru_after": (fb.GRU, partial(gru, "after")), "gru_before": (partial(fb.GRU, reset="before"), partial(gru, "before")),
         "lstm": (fb.LSTM, lstm), "lstm_peephole": (partial(fb.LSTM, peephole=True), lstm)}


def leaves(tree):
    return [a for branch in tree for a in leaves(branch)] if isinstance(tree, tuple) else [tree]


def as_tensors(arrays):
    return [torch.tensor(a, requires_grad=True) for a in arrays]


def make(seed, kinds, T, B):
    """Layers of these kinds as one stack, or a cell where there is one layer, and everything they are given."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 11, size=len(kinds) + 1).tolist()
    cells = [KINDS[kind][0](*sizes[i:i + 2]) for i, kind in enumerate(kinds)]
    params = tuple(cell.params_type(*(rng.normal(size=s) / s[-1] ** 0.5 for s in cell.shapes.values())) for cell in cells)
    states, dfinal = (tuple(cell.state_type(*(rng.normal(size=(B, cell.hidden_size)) for _ in cell.state_type._fields))
                            for cell in cells) for _ in range(2))
    x, dh = rng.normal(size=(T, B, sizes[0])), rng.normal(size=(T, B, sizes[-1]))
    lengths, resets = rng.integers(1, T + 1, size=B), rng.random((T, B)) < 0.15
    lengths[0] = T
    if len(cells) == 1:
        return cells[0], params[0], x, states[0], dh, dfinal[0], lengths, resets
    return fb.Stack(cells), params, x, states, dh, dfinal, lengths, resets


def by_definition(kinds, params, x, states, dh, dfinal, lengths, resets, horizon, stride):
    """Gradients of params, x and state, sequence by sequence and end by end; nothing is shared between passes but leaves."""
    names = [KINDS[kind][0](1, 1).shapes for kind in kinds]
    weights = [dict(zip(own, as_tensors(layer), strict=True)) for own, layer in zip(names, params, strict=True)]
    inputs, initial = torch.tensor(x, requires_grad=True), [as_tensors(state) for state in states]

    def step(t, b, joint):
        joint = [[a[b] for a in layer] for layer in initial] if resets[t, b] else joint
        new, below = [], inputs[t, b]
        for kind, p, state in zip(kinds, weights, joint, strict=True):
            new.append(KINDS[kind][1](p, below, state))
            below = new[-1][0]
        return new

    for b, length in enumerate(lengths.tolist()):
        before = 0
        for end in [*range(stride, length, stride), length]:
            joint, loss = [[a[b] for a in layer] for layer in initial], 0.0
            for t in range(end):
                if 0 < t == end - horizon:
                    joint = [[a.detach() for a in layer] for layer in joint]
                joint = step(t, b, joint)
                if t >= before:
                    loss = loss + (joint[-1][0] * torch.tensor(dh[t, b])).sum()
            if end == length:
                loss = loss + sum((a * torch.tensor(d[b])).sum() for layer, error in zip(joint, dfinal, strict=True)
                                  for a, d in zip(layer, error, strict=True))
            loss.backward()
            before = end
    every = [*(a for p in weights for a in p.values()), inputs, *(a for layer in initial for a in layer)]
    return [np.zeros(a.shape) if a.grad is None else a.grad.numpy() for a in every]


def check(seed, kinds, T, B, horizon, stride):
    cell, params, x, state, dh, dfinal, lengths, resets = make(seed, kinds, T, B)
    if len(kinds) == 1:
        want = by_definition(kinds, (params,), x, (state,), dh, (dfinal,), lengths, resets, horizon, stride)
    else:
        want = by_definition(kinds, params, x, state, dh, dfinal, lengths, resets, horizon, stride)
    for b, length in enumerate(lengths):        # padded steps are not read
        x[length:, b], dh[length:, b] = np.nan, np.nan
    tape = fb.forward(cell, params, x, state, lengths, resets=resets)
    got = fb.backward(cell, params, tape, dh, fb.Truncation(horizon, stride), dfinal=dfinal)
    for a, wanted in zip(leaves(tuple(got)), want, strict=True):
        np.testing.assert_allclose(a, wanted, rtol=1e-9, atol=1e-11)


forms = st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(1, 14)).map(
    lambda drawn: (drawn[0], max(drawn[1:]), min(drawn[1:])))          # T, horizon, stride


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), forms, st.integers(1, 3))
def test_cells(kind, seed, form, B):
    T, horizon, stride = form
    check(seed, (kind,), T, B, horizon, stride)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.tuples(st.sampled_from(list(KINDS)), st.sampled_from(list(KINDS))), forms)
def test_stacks_of_two_layers(seed, kinds, form):
    T, horizon, stride = form
    check(seed, kinds, T, 2, horizon, stride)


@pytest.mark.parametrize(("horizon", "stride"), [(3, 3), (5, 1), (9, 4)])
def test_a_horizon_that_is_ignored_would_show(horizon, stride):
    """The definition itself: the three forms differ from each other and from full BPTT."""
    kinds, data = ("gru_before",), make(5, ("gru_before",), 12, 1)
    _, params, x, state, dh, dfinal, lengths, resets = data
    given = [by_definition(kinds, (params,), x, (state,), dh, (dfinal,), lengths, resets & False, *form)[1]
             for form in ((horizon, stride), (12, 12), (12, 1), (horizon, 1) if stride > 1 else (horizon, horizon))]
    np.testing.assert_allclose(given[1], given[2], rtol=1e-10, atol=1e-12)
    assert not np.allclose(given[0], given[1], rtol=1e-3) and not np.allclose(given[0], given[3], rtol=1e-3)
