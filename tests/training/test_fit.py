"""The loop: what it calls, when it stops, what it never applies."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

import fastbptt as fb

IDS = np.array([[0], [1], [1], [2], [3]])
MODEL = fb.SequenceModel(fb.RNN(4, 8), 4)
BATCH = {"x": IDS[:-1], "y": IDS[1:]}


def test_is_the_loop_written_out():
    params = MODEL.init(seed=0)
    opt = fb.SGD(0.1, 0.5)
    state = opt.init(params)
    losses = []
    for _ in range(5):
        loss, grads = MODEL.loss_and_grad(params, **BATCH, truncation=fb.Truncation(2))
        grads, _ = fb.clip_by_norm(grads, 0.5)
        params, state = opt.update(params, grads, state)
        losses.append(loss)
    fitted = fb.fit(MODEL, MODEL.init(seed=0), itertools.repeat(BATCH), opt, truncation=fb.Truncation(2), clip=0.5, steps=5)
    assert fitted.losses == losses
    assert np.array_equal(fitted.params.cell.W, params.cell.W)


def test_goes_on_where_it_stopped():
    opt = fb.Adam(0.01)
    whole = fb.fit(MODEL, MODEL.init(seed=0), [BATCH] * 6, opt)
    half = fb.fit(MODEL, MODEL.init(seed=0), [BATCH] * 3, opt)
    rest = fb.fit(MODEL, half.params, [BATCH] * 3, opt, opt_state=half.opt_state)
    assert half.losses + rest.losses == whole.losses
    assert np.array_equal(rest.params.readout.V, whole.params.readout.V)


def test_callback_stops():
    seen = []

    def callback(step):
        seen.append(step)
        return step.number == 3
    assert len(fb.fit(MODEL, MODEL.init(), itertools.repeat(BATCH), fb.SGD(0.1), callback=callback).losses) == 3
    assert [s.number for s in seen] == [1, 2, 3] and all(s.norm > 0 for s in seen)


def test_non_finite_gradients_stop_the_loop():
    bad = {"x": np.full((2, 1, 4), np.nan, np.float32), "y": np.zeros((2, 1), int)}
    for clip in (None, 1.0):
        with pytest.raises(ValueError, match="finite"):
            fb.fit(MODEL, MODEL.init(), [bad], fb.SGD(0.1), clip=clip)


def test_clipping_keeps_an_exploding_network_trainable():
    """ReLU with identity initialisation explodes for a gain above 1; clipping leaves the direction."""
    cell = fb.RNN(2, 6, "relu")
    model = fb.SequenceModel(cell, 1, "squared_error", "many_to_one")
    x, y = np.ones((60, 3, 2), np.float32), np.zeros((3, 1), np.float32)
    norms = {}
    for gain in (1.0, 1.5):
        params = model.init(seed=0, recurrent="identity", gain=gain)
        _, grads = model.loss_and_grad(params, x, y)
        clipped, norms[gain] = fb.clip_by_norm(grads, 1.0)
        flat, cut = grads.cell.W.ravel().astype(float), clipped.cell.W.ravel().astype(float)
        assert flat @ cut == pytest.approx(np.linalg.norm(flat) * np.linalg.norm(cut), rel=1e-5)
        assert fb.clip_by_norm(clipped, 10.0)[1] == pytest.approx(1.0, rel=1e-5)
    assert norms[1.5] > 1e10 * norms[1.0]


def test_a_truth_value_of_numpy_stops_too():
    model = fb.SequenceModel(fb.RNN(2, 3), 2)
    batches = [{"x": [[0], [1]], "y": [[1], [0]]}] * 5
    fitted = fb.fit(model, model.init(seed=0), batches, fb.SGD(0.1), callback=lambda step: np.float64(step.loss) < 100)
    assert len(fitted.losses) == 1
