"""GRU and LSTM, every form, against the plain oracle and PyTorch."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbptt as fb
from fastbptt import reference as ref

FORMS = {"gru_after": lambda i, h: fb.GRU(i, h), "gru_before": lambda i, h: fb.GRU(i, h, "before"),
         "lstm": lambda i, h: fb.LSTM(i, h), "lstm_peephole": lambda i, h: fb.LSTM(i, h, peephole=True)}
SIZES = st.sampled_from([1, 2, 7, 8, 16, 37])


def make(form, seed, T, B, inputs, hidden, dtype=np.float64):
    rng = np.random.default_rng(seed)
    cell = FORMS[form](inputs, hidden)
    params = cell.params_type(*[(rng.normal(size=s) / s[-1] ** 0.5).astype(dtype) for s in cell.shapes.values()])
    state = cell.state_type(*[rng.normal(size=(B, hidden)).astype(dtype) for _ in cell.state_type._fields])
    return cell, params, rng.normal(size=(T, B, inputs)).astype(dtype), state, rng.normal(size=(T, B, hidden)).astype(dtype), rng


def assert_grads(grads, want, tolerance=1e-10):
    for name, got in grads.params._asdict().items():
        np.testing.assert_allclose(got, want.params[name], rtol=tolerance, atol=tolerance, err_msg=name)
    for got, wanted in zip(grads.state, want.state, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)
    if grads.x is not None:
        np.testing.assert_allclose(grads.x, want.x, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_equals_reference(form, data):
    T, B = data.draw(st.integers(1, 11)), data.draw(st.integers(1, 9))
    inputs, hidden, seed = data.draw(SIZES), data.draw(SIZES), data.draw(st.integers(0, 10**6))
    cell, params, x, state, dh, rng = make(form, seed, T, B, inputs, hidden)
    lengths = data.draw(st.none() | st.just(rng.integers(1, T + 1, size=B)))
    resets = data.draw(st.none() | st.just(rng.random((T, B)) < 0.2))
    if data.draw(st.booleans()):
        x = rng.integers(0, inputs, size=(T, B))
    horizon = data.draw(st.integers(1, T + 1))
    pair = data.draw(st.none() | st.just((horizon, data.draw(st.integers(1, horizon)))))
    clip = data.draw(st.none() | st.just(0.3))
    tape = fb.forward(cell, params, x, state, lengths, resets=resets)
    grads = fb.backward(cell, params, tape, dh, fb.Truncation(*pair) if pair else None, clip_state=clip)
    want = ref.forward(form, params, x, state, lengths, resets)
    np.testing.assert_allclose(tape.h, want.h[1:], rtol=1e-12, atol=1e-12)
    assert_grads(grads, ref.backward(want, dh, truncation=pair, clip_state=clip))


@pytest.mark.parametrize("form", FORMS)
def test_float32(form):
    cell, params, x, state, dh, _ = make(form, 3, 9, 5, 6, 21, np.float32)
    tape = fb.forward(cell, params, x, state)
    assert tape.h.dtype == np.float32
    want = ref.forward(form, params, x, state)
    np.testing.assert_allclose(tape.h, want.h[1:], rtol=2e-4, atol=2e-5)
    assert_grads(fb.backward(cell, params, tape, dh), ref.backward(want, dh), 2e-4)


@pytest.mark.parametrize("form", ["gru_after", "lstm"])
def test_equals_torch(form):
    torch = pytest.importorskip("torch")
    cell, params, x, _, dh, _ = make(form, 5, 13, 3, 7, 11)
    module = getattr(torch.nn, type(cell).__name__)(7, 11, dtype=torch.float64)
    module.load_state_dict({k: torch.tensor(v) for k, v in fb.interop.torch.to_state_dict(cell, params).items()})
    given_x = torch.tensor(x, requires_grad=True)
    out, _ = module(given_x)
    out.backward(torch.tensor(dh))
    tape = fb.forward(cell, params, x)
    grads = fb.backward(cell, params, tape, dh)
    np.testing.assert_allclose(tape.h, out.detach().numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(grads.x, given_x.grad.numpy(), rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(grads.params.W, module.weight_hh_l0.grad.numpy(), rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(grads.params.b, module.bias_ih_l0.grad.numpy(), rtol=1e-10, atol=1e-11)


def test_cell_states_of_the_lstm():
    cell, params, x, state, _, _ = make("lstm", 9, 6, 2, 3, 5)
    tape = fb.forward(cell, params, x, state)
    np.testing.assert_allclose(tape.c, ref.forward("lstm", params, x, state).c[1:], rtol=1e-12, atol=1e-12)
    assert np.array_equal(tape.final.c, tape.c[-1])
    with pytest.raises(AttributeError, match="tape.c: expected the tape of an LSTM"):
        _ = fb.forward(fb.GRU(3, 5), fb.GRU(3, 5).init(dtype=np.float64), x).c


def test_initial_values():
    lstm, gru = fb.LSTM(3, 64), fb.GRU(3, 64)
    assert (lstm.init(forget_bias=2.0).b.reshape(4, 64)[1] == 2).all() and not lstm.init().b.reshape(4, 64)[[0, 2, 3]].any()
    assert (gru.init().b.reshape(3, 64)[1] == 1).all()
    for block in lstm.init(dtype=np.float64).W.reshape(4, 64, 64):
        np.testing.assert_allclose(block @ block.T, np.eye(64), atol=1e-12)
    b = lstm.init(chrono=100, dtype=np.float64).b.reshape(4, 64)
    assert np.array_equal(b[0], -b[1]) and 0 < np.exp(b[1]).min() and 20 < np.exp(b[1]).mean() < 80 and np.exp(b[1]).max() < 99
    assert np.exp(gru.init(chrono=100).b.reshape(3, 64)[1]).max() < 99


@pytest.mark.parametrize(("make_cell", "message"), [
    (lambda: fb.GRU(3, 4, "inside"), "reset: expected one of 'after', 'before', got 'inside'"),
    (lambda: fb.LSTM(3, 4, peephole=1), "peephole: expected True or False, got 1"),
    (lambda: fb.LSTM(3, 0), "hidden_size"), (lambda: fb.GRU(True, 4), "input_size"),
    (lambda: fb.LSTM(3, 4).init(chrono=1), "chrono: expected an integer of at least 2, got 1"),
])
def test_bad_options(make_cell, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make_cell()
