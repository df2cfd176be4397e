"""Jacobians, their products and gradients by lag and step, of every cell, against the reference."""
from __future__ import annotations

import numpy as np
import pytest

import fastbptt as fb
from fastbptt import reference as ref

CELLS = {
    "rnn": fb.RNN(3, 5),
    "leaky": fb.RNN(3, 5, "sigmoid", leak=0.3, mask=np.tri(5)),
    "relu": fb.RNN(3, 5, "relu"),
    "gru_after": fb.GRU(3, 5),
    "gru_before": fb.GRU(3, 5, reset="before"),
    "lstm": fb.LSTM(3, 5),
    "lstm_peephole": fb.LSTM(3, 5, peephole=True),
}
T, B = 7, 3


def kind_of(name):
    return name if name in ref.NAMES else "rnn"


def example(name, lengths=None, resets=None, ids=False):
    """A cell, its parameters, its tape, dh, and the tape of the reference."""
    cell, rng = CELLS[name], np.random.default_rng(7)
    params = cell.params_type(*[rng.normal(size=shape) * 0.7 for shape in cell.shapes.values()])
    x = rng.integers(0, 3, (T, B)) if ids else rng.normal(size=(T, B, 3))
    state = cell.state_type(*[rng.normal(size=(B, 5)) for _ in cell.state_type._fields])
    tape = fb.forward(cell, params, x, state, lengths, resets=resets)
    options = {"activation": cell.activation, "leak": cell.leak, "mask": cell.mask} if isinstance(cell, fb.RNN) else {}
    return cell, params, tape, rng.normal(size=(T, B, 5)), ref.forward(kind_of(name), params, x, tuple(state), lengths, resets,
                                                                      **options)


def ragged():
    return {"lengths": [7, 4, 1], "resets": np.random.default_rng(1).random((T, B)) < 0.25}


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("batch", [{}, ragged(), {"ids": True}], ids=["plain", "ragged", "ids"])
def test_everything_against_the_reference(name, batch):
    cell, params, tape, dh, want = example(name, **batch)
    J = ref.jacobians(want)
    close(fb.jacobians(cell, params, tape), J)
    S = J.shape[-1]
    v = np.random.default_rng(3).normal(size=(B, S))
    product = ref.jacobian_product(J, 1, 6)
    close(fb.jacobian_product(cell, params, tape, 1, 6), product)
    close(fb.jacobian_vector(cell, params, tape, v, 1, 6), np.einsum("bij,bj->bi", product, v))
    close(fb.vector_jacobian(cell, params, tape, v, 1, 6), np.einsum("bij,bi->bj", product, v))
    lags, = ref.lag_gradients(want, dh, T)
    got = fb.lag_gradients(cell, params, tape, dh, T)
    for field, value in got._asdict().items():
        close(value, lags[field])
    errors, (parts,) = ref.step_gradients(want, dh)
    steps = fb.step_gradients(cell, params, tape, dh)
    close(steps.errors, errors)
    close(steps.norms, np.linalg.norm(parts["W"], axis=(2, 3)))
    close(steps.summed, np.linalg.norm(parts["W"].sum(axis=1), axis=(1, 2)))
    norms = fb.lag_norms(cell, params, tape, dh, T)
    total = lags["W"].sum(axis=0)
    sizes = np.linalg.norm(lags["W"], axis=(1, 2))
    close(norms.norms.W, sizes)
    aligned = np.einsum("jkl,kl->j", lags["W"], total)
    scale = sizes * np.linalg.norm(total)
    close(norms.cosines.W, np.divide(aligned, scale, out=np.zeros(T), where=scale > 0))


@pytest.mark.parametrize("name", CELLS)
def test_lags_add_up_to_truncated_and_full_gradients(name):
    cell, params, tape, dh, _ = example(name, **ragged())
    lags = fb.lag_gradients(cell, params, tape, dh, T)
    for h in (1, 3, T):
        truncated = fb.backward(cell, params, tape, dh, fb.Truncation(h, 1)).params
        for part, whole in zip(lags, truncated, strict=True):
            close(part[:h].sum(axis=0), whole)


def test_padding_is_not_read():
    cell, params, tape, dh, _ = example("lstm", **ragged())
    want = fb.lag_gradients(cell, params, tape, dh, T)
    x = tape.batch.x.copy()
    for b, n in enumerate([7, 4, 1]):
        dh[n:, b] = x[n:, b] = np.nan
    tape = fb.forward(cell, params, x, tape.initial, [7, 4, 1], resets=ragged()["resets"])
    for got, expected in zip(fb.lag_gradients(cell, params, tape, dh, T), want, strict=True):
        np.testing.assert_array_equal(got, expected)
    assert np.isfinite(fb.step_gradients(cell, params, tape, dh).errors).all()


@pytest.mark.parametrize("resets", [None, ragged()["resets"]], ids=["plain", "resets"])
def test_stack_is_its_joint_state(resets):
    stack = fb.Stack([fb.GRU(3, 4), fb.LSTM(4, 2), fb.RNN(2, 3)])
    rng = np.random.default_rng(5)
    params = stack.params_of({name: rng.normal(size=shape) for name, shape in stack.shapes.items()})
    x, dh = rng.normal(size=(T, B, 3)), rng.normal(size=(T, B, 3))
    tape = fb.forward(stack, params, x, resets=resets)
    kinds = ("gru_after", "lstm", "rnn")
    want = ref.stack_forward([ref.Layer(kind, p) for kind, p in zip(kinds, params, strict=True)], x, None, None, resets)
    J = ref.jacobians(want)
    assert J.shape[-1] == 4 + 2 * 2 + 3
    close(fb.jacobians(stack, params, tape), J)
    close(fb.jacobian_product(stack, params, tape, 0, T), ref.jacobian_product(J, 0, T))
    for got, expected in zip(fb.lag_gradients(stack, params, tape, dh, 4), ref.lag_gradients(want, dh, 4), strict=True):
        for field, value in got._asdict().items():
            close(value, expected[field])
    close(fb.step_gradients(stack, params, tape, dh).errors, ref.step_gradients(want, dh)[0])


def test_dropout_of_a_stack_counts():
    stack = fb.Stack([fb.RNN(3, 4), fb.RNN(4, 4)], dropout=0.5)
    params = stack.init(seed=0, dtype=np.float64)
    x = np.random.default_rng(0).normal(size=(T, B, 3))
    tape = fb.forward(stack, params, x, seed=3)
    dh = np.random.default_rng(1).normal(size=(T, B, 4))
    full = fb.backward(stack, params, tape, dh).params
    lags = fb.lag_gradients(stack, params, tape, dh, T)
    for part, whole in zip(lags, full, strict=True):
        close(part.W.sum(axis=0), whole.W)
    v = np.ones((B, 8))
    J = fb.jacobians(stack, params, tape)
    close(fb.jacobian_vector(stack, params, tape, v, 0, 1), J[0] @ v[0])


def test_jacobians_against_autograd():
    torch = pytest.importorskip("torch")
    cell, params, tape, _, _ = example("lstm")
    U, W, b = (torch.from_numpy(a) for a in params)

    def step(x, state):
        h, c = state[:5], state[5:]
        i, f, g, o = torch.chunk(U @ x + W @ h + b, 4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.cat([torch.sigmoid(o) * torch.tanh(c), c])

    J = fb.jacobians(cell, params, tape)
    for t in range(T):
        for s in range(B):
            state = torch.from_numpy(np.concatenate([tape.arrays.h[t, s], tape.arrays.c[t, s]]))
            x = torch.from_numpy(tape.batch.x[t, s])
            want = torch.autograd.functional.jacobian(lambda v, x=x: step(x, v), state)
            np.testing.assert_allclose(J[t, s], want.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 0.3])
def test_horizon_is_the_smallest_that_serves(tolerance):
    cell, params, tape, dh, _ = example("rnn", lengths=[6, 7, 3])

    def error(h):
        full, part = (fb.backward(cell, params, tape, dh, truncation).params for truncation in (None, fb.Truncation(h, 1)))
        return max(np.linalg.norm(p - f) / np.linalg.norm(f) for p, f in zip(part, full, strict=True))
    h = fb.suggest_horizon(cell, params, tape, dh, tolerance)
    assert h == next((n for n in range(1, T) if error(n) <= tolerance), T)


def test_float32_stays_float32_and_the_tape_as_it_was():
    cell = fb.GRU(3, 5)
    params = cell.init(seed=0)
    tape = fb.forward(cell, params, np.ones((T, B, 3), np.float32))
    kept = [a.copy() for a in tape.arrays]
    assert fb.jacobians(cell, params, tape).dtype == np.float32
    assert fb.jacobian_product(cell, params, tape, 2, 5).dtype == np.float32
    assert fb.lag_gradients(cell, params, tape, np.ones_like(tape.h), 3).W.dtype == np.float32
    assert fb.step_gradients(cell, params, tape, np.ones_like(tape.h)).errors.dtype == np.float32
    for a, b in zip(tape.arrays, kept, strict=True):
        np.testing.assert_array_equal(a, b)


def test_bad_input_is_one_clear_error():
    cell, params, tape, dh, _ = example("rnn")
    with pytest.raises(ValueError, match="start, stop: expected 0 ≤ start ≤ stop ≤ T = 7, got 2, 8"):
        fb.jacobian_product(cell, params, tape, 2, 8)
    with pytest.raises(ValueError, match="start, stop: .* got 5, 2"):
        fb.jacobian_vector(cell, params, tape, np.ones((B, 5)), 5, 2)
    with pytest.raises(ValueError, match="start: expected an integer of at least 0, got -1"):
        fb.vector_jacobian(cell, params, tape, np.ones((B, 5)), -1, 2)
    with pytest.raises(ValueError, match=r"v: expected \(3, 5\)"):
        fb.vector_jacobian(cell, params, tape, np.ones((B, 4)), 0, 2)
    for lags in (0, 8):
        with pytest.raises(ValueError, match="max_lag: expected"):
            fb.lag_gradients(cell, params, tape, dh, lags)
    with pytest.raises(ValueError, match="tolerance: expected"):
        fb.suggest_horizon(cell, params, tape, dh, 1.5)
    broken = fb.forward(cell, params, np.full((T, B, 3), np.nan))
    with pytest.raises(ValueError, match="tape: expected finite states, got NaN or Inf at state 1 of sequence 0"):
        fb.jacobians(cell, params, broken)
    with pytest.raises(ValueError, match="tape: expected a tape of all steps, got one of checkpoints"):
        fb.jacobians(cell, params, fb.forward(cell, params, tape.batch.x, memory_budget="1 MiB"))
    both = fb.Stack([fb.RNN(3, 5)], bidirectional=True)
    both_params = both.init(seed=0, dtype=np.float64)
    with pytest.raises(ValueError, match="cell: expected one direction for gradient flow"):
        fb.jacobians(both, both_params, fb.forward(both, both_params, tape.batch.x))


@pytest.mark.parametrize("below, above", [(fb.RNN, fb.GRU), (fb.GRU, fb.RNN), (fb.LSTM, fb.RNN)])
def test_dropout_between_layers_leaves_the_states_their_own_steps(below, above):
    """What goes back is the transpose of what goes ahead, and both are what `forward` does to a changed state."""
    cells, rng = [below(3, 4), above(4, 2)], np.random.default_rng(0)
    stack = fb.Stack(cells, dropout=0.5)
    params, x = stack.init(seed=0, dtype=np.float64), rng.normal(size=(6, 2, 3))
    state = tuple(cell.state_type(*[rng.normal(size=(2, cell.hidden_size)) for _ in cell.state_type._fields]) for cell in cells)
    tape = fb.forward(stack, params, x, state, seed=1)
    flat = lambda states: np.concatenate([a for s in states for a in s], axis=1)      # noqa: E731
    S = flat(state).shape[1]
    v, u = rng.normal(size=(2, 2, S))
    ahead, back = fb.jacobian_vector(stack, params, tape, v, 0, 6), fb.vector_jacobian(stack, params, tape, u, 0, 6)
    np.testing.assert_allclose((u * ahead).sum(1), (back * v).sum(1), rtol=1e-10)
    np.testing.assert_allclose(np.einsum("bij,bj->bi", fb.jacobian_product(stack, params, tape, 0, 6), v), ahead, rtol=1e-9)

    def moved(step):
        parts = np.split(v, np.cumsum([a.shape[1] for s in state for a in s])[:-1], axis=1)
        entries = iter(parts)
        begin = tuple(type(s)(*[a + step * next(entries) for a in s]) for s in state)
        return flat(fb.forward(stack, params, x, begin, seed=1).final)

    np.testing.assert_allclose((moved(1e-6) - moved(-1e-6)) / 2e-6, ahead, rtol=1e-6, atol=1e-8)


def test_norms_of_float32_gradients_reach_as_far_as_the_gradients():
    cell = fb.RNN(8, 48, "relu")
    params = cell.init(seed=0, recurrent="identity", gain=1.5)
    x = np.random.default_rng(0).normal(size=(80, 8, 8)).astype(np.float32)
    tape = fb.forward(cell, params, x)
    assert fb.suggest_horizon(cell, params, tape, tape.h) > 60            # gradients of 1e31
    small = 1e-25 * tape.h / np.abs(tape.h).max()
    assert fb.suggest_horizon(cell, params, tape, small.astype(np.float32)) > 60
    assert np.isfinite(fb.lag_norms(cell, params, tape, tape.h, 80).norms.W).all()
    assert np.isfinite(fb.gradient_flow(cell, params, tape, tape.h).updates).all()
    fading = fb.RNN(8, 48)
    params = fading.init(seed=0, gain=0.6)
    tape = fb.forward(fading, params, np.tile(x, (2, 1, 1)))
    dh = np.zeros_like(tape.h)
    dh[-1] = 1
    norms = fb.lag_norms(fading, params, tape, dh, 100).norms.W
    assert norms[-1] > 0 and (fb.step_gradients(fading, params, tape, dh).summed[60:] > 0).all()
    with pytest.raises(ValueError, match="dh: expected errors whose gradient is finite"):
        fb.suggest_horizon(cell, cell.init(seed=0, recurrent="identity", gain=3.0), fb.forward(
            cell, cell.init(seed=0, recurrent="identity", gain=3.0), x[:60]), np.full((60, 8, 48), 1e20, np.float32))
