"""Gradients of every sequence: those of a call with the errors of that sequence alone; they add up to the gradient."""
from __future__ import annotations

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.tangent import per_sequence
from fastbptt.tree import leaves

TRUNCATIONS = [None, fb.Truncation(4, 4), fb.Truncation(3, 1), fb.Truncation(7, 2)]


def alone(dh, b):
    """The errors of sequence b, zeros for all others."""
    return np.where(np.arange(dh.shape[1])[:, None] == b, dh, 0)


def check(call, truncation=None, **options):
    dh, dfinal = call.draw_errors()
    given = call.cell, call.params, call.tape
    found = fb.per_sequence_gradients(*given, dh, truncation, dfinal=dfinal, **options)
    norms = fb.per_sequence_norms(*given, dh, truncation, dfinal=dfinal, **options)
    tolerance = 1e-12 if call.dtype == np.float64 else 2e-5
    for b in range(call.B):
        one = call.cell.per_layer(type(s)(*[np.where(np.arange(call.B)[:, None] == b, a, 0).astype(a.dtype) for a in s])
                                  for s in call.cell.flatten(dfinal))
        want = fb.backward(*given, alone(dh, b), truncation, dfinal=one, **options).params
        size = np.sqrt(sum(float((a.astype(np.float64) ** 2).sum()) for a in leaves(want)))
        assert norms[b] == pytest.approx(size, rel=tolerance, abs=1e-30)
        for got, expected in zip(leaves(found), leaves(want), strict=True):
            assert got.shape == (call.B, *expected.shape) and got.dtype == expected.dtype
            np.testing.assert_allclose(got[b], expected, rtol=0, atol=tolerance * max(1.0, size))
    whole = fb.backward(*given, dh, truncation, dfinal=dfinal, **options).params
    for got, expected in zip(leaves(found), leaves(whole), strict=True):
        np.testing.assert_allclose(got.sum(axis=0), expected, rtol=0, atol=call.B * tolerance * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("truncation", TRUNCATIONS, ids=str)
def test_each_is_the_gradient_of_its_errors(typical, truncation, cells, draw_call):
    check(draw_call(cells[typical](3, 17), 11, 5, 1, noise=typical == "tanh"), truncation)
    check(draw_call(cells[typical](1, 1), 3, 1, 2, ragged=False, resets=False), truncation)


@pytest.mark.parametrize("truncation", TRUNCATIONS, ids=str)
def test_stacks(truncation, draw_call):
    stack = fb.Stack([fb.GRU(3, 4, reset="before"), fb.LSTM(4, 7, peephole=True), fb.RNN(7, 5)], dropout=0.3)
    check(draw_call(stack, 12, 6, 3), truncation)


def test_two_directions(draw_call):
    stack = fb.Stack([fb.GRU(3, 4, reset="before"), fb.RNN(8, 5)], bidirectional=True)
    check(draw_call(stack, 9, 4, 4, resets=False))


def test_ids_and_float32(draw_call):
    call = draw_call(fb.RNN(7, 9), 11, 4, 5, np.float32, ids=True)
    check(call)
    check(call, fb.Truncation(4, 2))


def test_more_steps_than_a_block_and_more_sequences_than_go_together(draw_call, monkeypatch):
    monkeypatch.setattr(per_sequence, "TOGETHER", 1)
    monkeypatch.setattr(per_sequence, "MAX_SHARDS", 2)
    check(draw_call(fb.RNN(3, 5), 1100, 5, 7))


def test_clipped_errors(draw_call):
    check(draw_call(fb.RNN(3, 5), 9, 4, 8), clip_state=0.5)


def test_clipping_each_sequence_by_its_norm(draw_call):
    call = draw_call(fb.RNN(3, 5), 9, 4, 9)
    dh = np.nan_to_num(call.draw_errors()[0])
    given = call.cell, call.params, call.tape
    factors = np.minimum(1, 0.5 / fb.per_sequence_norms(*given, dh))
    assert 0 < factors.min() < 1
    clipped = fb.backward(*given, dh * factors[:, None]).params
    for got, parts in zip(clipped, fb.per_sequence_gradients(*given, dh), strict=True):
        np.testing.assert_allclose(got, np.tensordot(factors, parts, 1), rtol=1e-10, atol=1e-12)


def test_nan_stays_in_its_sequence(draw_call):
    call = draw_call(fb.RNN(3, 5), 9, 3, 10)
    dh = np.nan_to_num(call.draw_errors()[0])
    want = fb.per_sequence_gradients(call.cell, call.params, call.tape, dh)
    dh[0, 1] = np.nan
    got = fb.per_sequence_gradients(call.cell, call.params, call.tape, dh)
    assert np.array_equal(got.W[[0, 2]], want.W[[0, 2]]) and np.isnan(got.W[1]).all()


def test_same_bits_for_any_number_of_threads(draw_call):
    call = draw_call(fb.RNN(5, 200), 60, 40, 11, ragged=False)
    dh, most, found = call.draw(60, 40, 200), fb.get_num_threads(), []
    try:
        for threads in {1, most}:
            fb.set_num_threads(threads)
            for truncation in (None, fb.Truncation(5, 1)):
                grads = fb.per_sequence_gradients(call.cell, call.params, call.tape, dh, truncation)
                found.append([a.tobytes() for a in grads])
    finally:
        fb.set_num_threads(most)
    assert found[:2] == found[-2:]


CELL = fb.RNN(3, 4)
PARAMS = CELL.init(seed=1)
X, DH = np.ones((5, 2, 3), np.float32), np.ones((5, 2, 4), np.float32)      # all is refused before anything is compiled


@pytest.mark.parametrize("function", [fb.per_sequence_gradients, fb.per_sequence_norms])
@pytest.mark.parametrize(("changes", "message"), [
    ({"dh": DH[:4]}, r"dh: expected \(5, 2, 4\)"), ({"dh": None}, "dh: .*None"), ({"dh": DH > 0}, "dh: .*bool"),
    ({"dh": DH.astype(np.float64)}, "dh: expected float32"),
    ({"dh": lambda start, stop, h: h}, "dh: "), ({"truncation": 3}, "truncation: expected fastbptt.Truncation"),
    ({"dfinal": DH[0]}, "dfinal: expected RNNState"), ({"clip_state": 0}, "clip_state: expected a number above 0"),
    ({"params": tuple(PARAMS)}, "params: expected RNNParams"), ({"tape": DH}, "tape: expected the Tape"),
    ({"tape": fb.forward(CELL, PARAMS, X, memory_budget="8 MiB")}, "tape: expected a tape of all steps"),
    ({"params": CELL.init(dtype=np.float64)}, "params: expected float32 like the tape"),
])
def test_refused(function, changes, message):
    arguments = {"cell": CELL, "params": PARAMS, "tape": fb.forward(CELL, PARAMS, X), "dh": DH, **changes}
    with pytest.raises((TypeError, ValueError), match=message):
        function(**arguments)


def test_two_directions_refuse_truncation():
    stack = fb.Stack([fb.RNN(3, 4)], bidirectional=True)
    params = stack.init()
    tape = fb.forward(stack, params, X)
    with pytest.raises(ValueError, match="expected one direction for truncation"):
        fb.per_sequence_gradients(stack, params, tape, np.ones((5, 2, 8), np.float32), fb.Truncation(2))
