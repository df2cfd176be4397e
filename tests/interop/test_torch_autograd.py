"""Stacks against PyTorch's autograd on random shapes: all gradients, and truncation by detached joint states."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbptt as fb
from fastbptt.interop.torch import from_hidden, from_module, to_hidden, to_state_dict

torch = pytest.importorskip("torch")

KINDS = [torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM]


def as_tuple(hidden):
    return hidden if isinstance(hidden, tuple) else (hidden,)


def make(kind, seed, T, B, I, H, layers, bidirectional=False, bias=True):  # noqa: E741
    """A float64 module, an input and an initial state that want gradients, and the error of the outputs."""
    torch.manual_seed(seed)
    module = kind(I, H, layers, bias=bias, bidirectional=bidirectional, dtype=torch.float64)
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    hidden = tuple(torch.randn(layers * (1 + bidirectional), B, H, dtype=torch.float64, requires_grad=True)
                   for _ in range(2 if kind is torch.nn.LSTM else 1))
    return module, x, hidden if len(hidden) > 1 else hidden[0], torch.randn(T, B, H * (1 + bidirectional), dtype=torch.float64)


def compare(module, x, hidden, dh, h, truncation=None):
    """Ours against the gradients that PyTorch has by now."""
    cell, params = from_module(module)
    tape = fb.forward(cell, params, x.detach().numpy(), from_hidden(cell, hidden))
    np.testing.assert_allclose(tape.h, h.detach().numpy(), rtol=1e-10, atol=1e-12)
    grads = fb.backward(cell, params, tape, dh.numpy(), truncation)
    wanted = {name: p.grad.numpy() for name, p in module.named_parameters()}
    pairs = [(grads.x, x.grad.numpy())]
    pairs += [(a, b.grad.numpy()) for a, b in zip(as_tuple(to_hidden(cell, grads.state)), as_tuple(hidden), strict=True)]
    pairs += [(a, wanted[name]) for name, a in to_state_dict(cell, grads.params).items()
              if name in wanted and not name.startswith("bias_hh")]
    for got, want in pairs:
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11)


sizes = [st.integers(0, 2**31), st.integers(1, 20), st.integers(1, 9), st.integers(1, 18), st.integers(1, 21), st.integers(1, 3)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=25, deadline=None)
@given(*sizes, st.booleans(), st.booleans())
def test_random_shapes(kind, seed, T, B, I, H, layers, bidirectional, bias):  # noqa: E741
    module, x, hidden, dh = make(kind, seed, T, B, I, H, layers, bidirectional, bias)
    h, _ = module(x, hidden)
    (h * dh).sum().backward()
    compare(module, x, hidden, dh, h)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=15, deadline=None)
@given(*sizes, st.data())
def test_truncation_by_detached_states(kind, seed, T, B, I, H, layers, data):  # noqa: E741
    """Every end begins with the joint state of all layers, detached, h steps before it."""
    module, x, hidden, dh = make(kind, seed, T, B, I, H, layers)
    horizon = data.draw(st.integers(1, T))
    truncation = fb.Truncation(horizon, data.draw(st.integers(1, horizon)))
    for end, before, stop in truncation.passes(T):
        state = hidden
        if stop > 0:
            state = module(x[:stop].detach(), hidden)[1]
            state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
        h, _ = module(x[stop:end], state)
        (h[before - stop:] * dh[before:end]).sum().backward()
    compare(module, x, hidden, dh, module(x, hidden)[0], truncation)
