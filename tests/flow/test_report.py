"""The verdict on networks whose answer is known, and what the report lists."""
from __future__ import annotations

import json

import numpy as np
import pytest

import fastbptt as fb

T, B = 60, 2


def report_of(cell, params, x=None, dh=None, **options):
    x = np.random.default_rng(0).normal(size=(T, B, cell.input_size)) if x is None else x
    tape = fb.forward(cell, params, x)
    return fb.gradient_flow(cell, params, tape, np.ones_like(tape.h) if dh is None else dh, **options)


def chain(w):
    return fb.RNN(1, 1, "identity"), fb.RNNParams(np.ones((1, 1)), np.full((1, 1), w), np.zeros(1))


@pytest.mark.parametrize("w, verdict", [(0.5, "vanishing"), (1.0, "stable"), (1.5, "exploding"), (0.97, "vanishing"),
                                        (0.985, "stable"), (1.03, "exploding")])
def test_scalar_chains(w, verdict):
    report = report_of(*chain(w))
    assert report.verdict == verdict
    np.testing.assert_allclose(report.rates, np.log(w), atol=1e-12)
    assert f"over {T} steps, a factor of: {w ** T:.4g}" in str(report)
    assert report.spectral_radius == pytest.approx(w) and report.growth_bound == pytest.approx(w)
    np.testing.assert_allclose(np.diag(report.reach, 3), w ** (report.states[3:] - report.states[:-3]))


def test_orthogonal_identity_is_stable():
    cell = fb.RNN(3, 16, "identity")
    assert report_of(cell, cell.init(seed=0, dtype=np.float64)).verdict == "stable"


def test_contracting_weights_must_vanish_and_orthogonal_ones_are_named():
    cell = fb.RNN(3, 16, "sigmoid")
    report = report_of(cell, cell.init(seed=0, dtype=np.float64))
    assert report.verdict == "vanishing" and report.growth_bound == pytest.approx(0.25)
    names = [remedy for remedy, _ in report.remedies]
    assert all(name in str(report) for name in names) and str(report).startswith("vanishing: ")
    assert 'init(recurrent="orthogonal")' in names and "GRU or LSTM" in names and "relu or tanh" in names
    assert f"Truncation({report.horizon}, 1)" in names and report.horizon < T / 2


def test_relu_of_gain_above_one_explodes_and_clipping_is_named():
    cell = fb.RNN(3, 16, "relu")
    params = cell.init(seed=0, dtype=np.float64, recurrent="identity", gain=1.2)
    report = report_of(cell, params, np.ones((T, B, 3)))
    assert report.verdict == "exploding"
    assert "clip_by_norm(grads, 1.0)" in [remedy for remedy, _ in report.remedies]


def test_forget_bias_keeps_the_gradient_of_an_lstm():
    cell = fb.LSTM(3, 16)
    low, high = (report_of(cell, cell.init(seed=0, dtype=np.float64, gain=0.2, forget_bias=bias)) for bias in (-2.0, 6.0))
    assert (low.verdict, high.verdict) == ("vanishing", "stable")
    assert any("forget_bias" in remedy for remedy, _ in low.remedies)
    assert high.growth_bound is None and high.spectral_radius is None


@pytest.mark.parametrize("gated_last", [True, False])
def test_remedies_of_a_stack_are_those_of_its_last_layer(gated_last):
    gated, plain = fb.LSTM(4, 4), fb.RNN(4, 4, "sigmoid")
    stack = fb.Stack([plain, gated] if gated_last else [gated, plain])
    init = {"seed": 0, "dtype": np.float64, "gain": 0.2}
    made = {gated: gated.init(forget_bias=-2.0, **init), plain: plain.init(**init)}
    report = report_of(stack, tuple(made[cell] for cell in stack.cells))
    names = [remedy for remedy, _ in report.remedies]
    assert report.verdict == "vanishing"
    assert any("forget_bias" in name for name in names) == gated_last and ("GRU or LSTM" in names) != gated_last


def test_sequences_that_differ_and_bursts_are_mixed():
    W = np.diag([0.5, 0.5]) + np.array([[0, 500.0], [0, 0]])
    params = fb.RNNParams(np.ones((2, 1)), W, np.zeros(2))
    assert report_of(fb.RNN(1, 2, "identity"), params).verdict == "mixed"
    cell, x = fb.RNN(1, 1, "relu"), np.ones((T, 2, 1))
    x[:, 1] = -1
    params = fb.RNNParams(np.ones((1, 1)), np.full((1, 1), 1.5), np.zeros(1))
    assert report_of(cell, params, x).verdict == "mixed"


def test_factors_of_different_size_are_a_range_however_small():
    cell = fb.RNN(1, 1)
    params = fb.RNNParams(np.ones((1, 1)), np.full((1, 1), 0.5), np.zeros(1))
    report = report_of(cell, params, np.full((T, B, 1), [[0.1], [0.5]]))
    low, high = np.sort(np.exp(T * report.rates))
    assert high > 10 * low and high < 1e-12
    assert f"a factor of: {low:.4g} to {high:.4g}" in str(report)


def test_a_change_that_is_lost_altogether_is_said_plainly():
    report = report_of(*chain(0.0))
    assert "growth per step (natural log): −∞" in str(report) and "a factor of: 0\n" in str(report)
    assert "grows at −∞ per step" in report.reason


def test_dead_and_saturated_units_are_listed():
    cell = fb.RNN(1, 3, "relu")
    params = fb.RNNParams(np.array([[1.0], [-1.0], [1.0]]), np.zeros((3, 3)), np.zeros(3))
    report = report_of(cell, params, np.ones((T, B, 1)))
    assert [units.tolist() for units in report.dead] == [[1]]
    cell = fb.RNN(1, 3, "tanh")
    report = report_of(cell, params._replace(U=np.array([[1.0], [9.0], [-9.0]])), np.ones((T, B, 1)))
    assert [units.tolist() for units in report.saturated] == [[1, 2]]
    assert "smaller initial weights (glorot), or relu" in [remedy for remedy, _ in report.remedies]


def test_updates_are_judged_by_the_learning_rate():
    cell, params = chain(0.5)
    for rate, named in ((1e-12, "a higher learning rate"), (10.0, "a lower learning rate")):
        report = report_of(cell, params, learning_rate=rate)
        assert named in [remedy for remedy, _ in report.remedies]
        tape = fb.forward(cell, params, np.random.default_rng(0).normal(size=(T, B, 1)))
        grads = fb.backward(cell, params, tape, np.ones_like(tape.h)).params
        assert report.updates[:2] == pytest.approx([rate * abs(grads.U.item()), rate * abs(grads.W.item()) / 0.5])


@pytest.mark.parametrize(("size", "named"), [(0.09, ""), (0.11, "a lower learning rate"), (0.9e-6, "a higher learning rate"),
                                             (1.1e-6, "")])
def test_where_an_update_counts_as_large_or_as_nothing(size, named):
    cell, params = chain(0.9)
    report = report_of(cell, params, learning_rate=size / max(report_of(cell, params, learning_rate=1.0).updates))
    assert max(report.updates) == pytest.approx(size)
    assert [remedy for remedy, _ in report.remedies if "learning rate" in remedy] == [named] * bool(named)


def test_a_horizon_of_the_whole_sequence_is_said_in_words():
    report = report_of(*chain(1.0), tolerance=0.0)
    assert report.horizon == T and "full gradient: none shorter than the sequence" in str(report)
    short = report_of(*chain(0.5))
    assert f"full gradient: {short.horizon} of {T} steps" in str(short)


def test_options_are_not_ignored():
    cell, params = chain(0.5)
    assert report_of(cell, params, max_lag=5).lag_norms.shape == (3, 5)
    assert report_of(cell, params, tolerance=0.5).horizon < report_of(cell, params, tolerance=0.001).horizon


def test_a_hundred_random_networks_against_the_sign_of_the_leading_exponent():
    found = set()
    for seed in range(100):
        rng = np.random.default_rng(seed)
        cell = fb.RNN(2, 8, "tanh")
        W = rng.uniform(0.2, 3) * rng.normal(size=(8, 8)) / 8**0.5
        params, x = fb.RNNParams(0.3 * rng.normal(size=(8, 2)), W, np.zeros(8)), rng.normal(size=(120, 1, 2))
        leading = fb.lyapunov_spectrum(cell, params, x, 1, transient=20)[0, 0]
        verdict = report_of(cell, params, x, max_lag=1).verdict
        if abs(leading) > 0.06:       # nearer to 0 the stretch of 20 steps may decide
            assert verdict in (("exploding",) if leading > 0 else ("vanishing", "mixed"))
            found.add(verdict)
    assert found >= {"exploding", "vanishing"}


@pytest.mark.parametrize("cell", [
    fb.RNN(3, 4, leak=0.5), fb.GRU(3, 4), fb.GRU(3, 4, reset="before"), fb.LSTM(3, 4, peephole=True),
    fb.Stack([fb.GRU(3, 4, reset="before"), fb.RNN(4, 5)], dropout=0.5)], ids=lambda cell: type(cell).__name__)
def test_reach_is_the_norm_of_the_products_of_the_first_sequence(cell):
    params, x = cell.init(seed=0, dtype=np.float64), np.random.default_rng(0).normal(size=(9, 3, 3))
    resets = np.random.default_rng(4).random((9, 3)) < 0.15
    seed = 1 if cell.dropout else None
    tape = fb.forward(cell, params, x, lengths=[7, 9, 2], resets=resets, seed=seed)
    report = fb.gradient_flow(cell, params, tape, np.ones_like(tape.h))
    assert report.states[0] == 0 and report.states[-1] == 9
    for k, start in enumerate(report.states):
        assert np.isnan(report.reach[k, :k]).all()
        for t, stop in enumerate(report.states[k:], k):
            want = np.linalg.norm(fb.jacobian_product(cell, params, tape, start, stop)[0], 2)
            assert report.reach[k, t] == pytest.approx(want, rel=1e-9, abs=1e-12)


def test_stack_and_float32_and_json():
    stack = fb.Stack([fb.GRU(3, 4), fb.RNN(4, 5, "relu")])
    params = stack.init(seed=0)
    tape = fb.forward(stack, params, np.ones((9, 2, 3), np.float32), lengths=[9, 5])
    report = fb.gradient_flow(stack, params, tape, np.ones_like(tape.h))
    assert len(report.dead) == 2 and report.names[0] == "0.U"
    plain = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert plain["verdict"] == report.verdict and plain["reach"][1][0] is None
