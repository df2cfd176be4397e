"""Leak, mask, signs, noise, resets and clipping inside the recurrence: exact, and never ignored."""
from __future__ import annotations

import numpy as np
import pytest

import fastbptt as fb
from fastbptt import reference as ref


def make(cell, T=9, B=4, seed=0):
    rng = np.random.default_rng(seed)
    params = fb.RNNParams(*[rng.normal(size=s) / s[-1] ** 0.5 for s in cell.shapes.values()])
    return params, rng.normal(size=(T, B, cell.input_size)), rng.normal(size=(T, B, cell.hidden_size)), rng


def assert_equal(tape, grads, want, wanted):
    np.testing.assert_allclose(tape.h, want.h[1:], rtol=1e-12, atol=1e-12)
    for name, got in grads.params._asdict().items():
        np.testing.assert_allclose(got, wanted.params[name], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(grads.x, wanted.x, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(grads.state.h, wanted.state[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("truncation", [None, (4, 4), (5, 2)], ids=str)
def test_leak_noise_resets_and_clip(truncation):
    cell = fb.RNN(3, 11, "sigmoid", leak=0.3)
    params, x, dh, rng = make(cell)
    noise, resets = rng.normal(size=(9, 4, 11)), rng.random((9, 4)) < 0.2
    state = fb.RNNState(rng.normal(size=(4, 11)))
    tape = fb.forward(cell, params, x, state, resets=resets, noise=noise)
    grads = fb.backward(cell, params, tape, dh, fb.Truncation(*truncation) if truncation else None, clip_state=0.5)
    want = ref.forward("rnn", params, x, state, None, resets, activation="sigmoid", leak=0.3, noise=noise)
    assert_equal(tape, grads, want, ref.backward(want, dh, truncation=truncation, clip_state=0.5))


@pytest.mark.parametrize("change", [{"leak": 0.3}, {"mask": np.tri(11)}], ids=["leak", "mask"])
def test_options_of_the_cell_are_not_ignored(change):
    plain, changed = fb.RNN(3, 11), fb.RNN(3, 11, **change)
    params, x, dh, _ = make(plain)
    tapes = [fb.forward(cell, params, x) for cell in (plain, changed)]
    grads = [fb.backward(cell, params, tape, dh) for cell, tape in zip((plain, changed), tapes, strict=True)]
    assert not np.allclose(tapes[0].h[1:], tapes[1].h[1:]) and not np.allclose(grads[0].params.b, grads[1].params.b)
    assert plain != changed and hash(changed) == hash(fb.RNN(3, 11, **change)) and changed == fb.RNN(3, 11, **change)


@pytest.mark.parametrize("change", ["resets", "noise"])
def test_options_of_forward_are_not_ignored(change):
    cell = fb.RNN(3, 11)
    params, x, _, rng = make(cell)
    value = {"resets": np.ones((9, 4), bool), "noise": np.ones((9, 4, 11))}[change]
    assert not np.allclose(fb.forward(cell, params, x).h[1:], fb.forward(cell, params, x, **{change: value}).h[1:])


def test_clip_state_bounds_every_error_and_is_not_ignored():
    cell = fb.RNN(3, 11, "identity")
    params, x, dh, _ = make(cell)
    params = params._replace(W=10 * params.W)
    tape = fb.forward(cell, params, x)
    free, clipped = fb.backward(cell, params, tape, dh), fb.backward(cell, params, tape, dh, clip_state=0.25)
    assert np.linalg.norm(free.state.h, axis=1).min() > 1
    np.testing.assert_allclose(np.linalg.norm(clipped.state.h, axis=1), 0.25, rtol=1e-12)
    assert np.array_equal(fb.backward(cell, params, tape, dh, clip_state=1e30).params.W, free.params.W)
    stack = fb.Stack([fb.RNN(3, 11, "identity")])
    tape = fb.forward(stack, (params,), x)
    assert np.array_equal(fb.backward(stack, (params,), tape, dh, clip_state=0.25).params[0].W, clipped.params.W)


def test_large_errors_are_clipped_without_overflow():
    cell = fb.RNN(1, 8, "identity")
    params = fb.RNNParams(np.zeros((8, 1), np.float32), np.eye(8, dtype=np.float32), np.zeros(8, np.float32))
    tape = fb.forward(cell, params, np.zeros((2, 1, 1), np.float32))
    dh = np.full((2, 1, 8), 1e30, np.float32)
    state = fb.backward(cell, params, tape, dh, clip_state=1.0).state.h
    np.testing.assert_allclose(np.linalg.norm(state), 1, rtol=1e-6)


def test_mask_is_a_network_without_these_weights():
    mask = np.random.default_rng(1).random((11, 11)) < 0.5
    cell, plain = fb.RNN(3, 11, mask=mask), fb.RNN(3, 11)
    params, x, dh, _ = make(cell)
    tape, grads = fb.forward(cell, params, x), None
    grads = fb.backward(cell, params, tape, dh)
    bare = params._replace(W=np.where(mask, params.W, 0))
    want = fb.forward(plain, bare, x)
    wanted = fb.backward(plain, bare, want, dh)
    assert np.array_equal(tape.h, want.h) and np.array_equal(grads.x, wanted.x)
    assert np.array_equal(grads.params.W, np.where(mask, wanted.params.W, 0)) and not cell.init().W[~mask].any()
    assert not cell.mask.flags.writeable


@pytest.mark.parametrize("gain", [0.5, 1.3])
@pytest.mark.parametrize("excitatory", [0.5, 0.8])
def test_init_under_signs_and_mask_keeps_the_spectral_radius(gain, excitatory):
    H = 60
    signs, mask = np.where(np.arange(H) < excitatory * H, 1, -1), np.random.default_rng(0).random((H, H)) < 0.3
    W = fb.RNN(2, H, signs=signs, mask=mask).init(seed=3, gain=gain, dtype=np.float64).W
    assert (W * signs >= 0).all() and not W[~mask].any()
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(W)).max(), gain, rtol=1e-9)


def test_init_of_a_network_without_cycles_is_left_as_it_is():
    free, lower = fb.RNN(2, 9), fb.RNN(2, 9, mask=np.tri(9, k=-1))
    np.testing.assert_array_equal(lower.init(seed=1).W, free.init(seed=1).W * np.tri(9, k=-1, dtype=np.float32))


def test_signs_and_mask_hold_through_training(tmp_path):
    rng = np.random.default_rng(2)
    signs, mask = rng.integers(-1, 2, size=8), ~np.eye(8, dtype=bool)
    model = fb.SequenceModel(fb.RNN(4, 8, leak=0.5, mask=mask, signs=signs), 4)
    ids = rng.integers(0, 4, size=(20, 2))
    batch = {"x": ids[:-1], "y": ids[1:]}
    params = model.init(seed=0)
    fitted = fb.fit(model, params, [batch] * 30, fb.Adam(0.1))
    optimizer = fb.SGD(0.5, project=model.project)
    by_hand, state = params, optimizer.init(params)
    for _ in range(30):
        by_hand, state = optimizer.update(by_hand, model.loss_and_grad(by_hand, **batch)[1], state)
    for found in (params, fitted.params, by_hand):
        assert (found.cell.W * signs >= 0).all() and not found.cell.W[~mask].any()
    assert (fb.SGD(0.5).update(params, model.loss_and_grad(params, **batch)[1], state)[0].cell.W * signs < 0).any()
    fb.save_model(tmp_path / "model.npz", model, fitted.params)
    assert fb.load_model(tmp_path / "model.npz").model == model


@pytest.mark.parametrize(("call", "message"), [
    (lambda c, p, x: fb.RNN(3, 5, leak=0), "leak: expected a number above 0 and at most 1, got 0"),
    (lambda c, p, x: fb.RNN(3, 5, mask=np.ones((5, 4))), r"mask: expected \(5, 5\) of 0 and 1, got \(5, 4\)"),
    (lambda c, p, x: fb.RNN(3, 5, mask=np.full((5, 5), 2)), "mask: expected"),
    (lambda c, p, x: fb.RNN(3, 5, signs=[1, 1]), r"signs: expected \(5,\) of -1, 0 and 1"),
    (lambda c, p, x: fb.forward(c, p, x, resets=np.ones((2, 2))), "resets: expected booleans"),
    (lambda c, p, x: fb.forward(c, p, x, resets=np.ones((3, 2), bool)), r"resets: expected \(2, 2\)"),
    (lambda c, p, x: fb.forward(c, p, x, noise=np.ones((2, 2, 4))), "noise: expected"),
    (lambda c, p, x: fb.forward(fb.GRU(3, 5), fb.GRU(3, 5).init(dtype=float), x, noise=x), "noise: expected None"),
    (lambda c, p, x: fb.backward(c, p, fb.forward(c, p, x), np.ones((2, 2, 5)), clip_state=0), "clip_state"),
])
def test_bad_options(call, message):
    cell = fb.RNN(3, 5)
    with pytest.raises((TypeError, ValueError), match=message):
        call(cell, cell.init(dtype=np.float64), np.ones((2, 2, 3)))
