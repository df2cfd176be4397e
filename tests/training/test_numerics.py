"""Numbers at the ends of their range: losses, optimisers, clipping and samples; no warning on the way."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.training.losses import NAMES, point_losses, predictions
from fastbptt.tree import global_norm

LARGEST = float(np.finfo(np.float32).max)


def exact_losses(loss, z, y):
    """Of rows, in higher precision and from the formula as it stands in the docstring where that is possible."""
    z, y = z.astype(np.longdouble), np.asarray(y)
    with np.errstate(all="ignore"):
        if loss == "squared_error":
            return 0.5 * ((z - y) ** 2).sum(axis=-1)
        if loss == "sigmoid_cross_entropy":
            return (np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))).sum(axis=-1)
        shifted = z - z.max(axis=-1, keepdims=True)
        return (np.log(np.exp(shifted).sum(axis=-1, keepdims=True)) - shifted)[np.arange(len(z)), y]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", NAMES)
def test_a_loss_is_what_its_dtype_holds_or_inf(loss, dtype):
    """Over all magnitudes, both signs; under the strictest policy a caller may have set."""
    model = fb.SequenceModel(fb.RNN(1, 1, "identity"), 2, loss)
    largest = float(np.finfo(dtype).max)
    values = [sign * largest ** p for p in (-1.2, -0.5, 0.1, 0.4, 0.499, 0.5, 0.501, 0.9, 1.0) for sign in (1, -1)] + [0.0]
    z = np.array(list(itertools.product(values, repeat=2)), dtype)
    targets = [np.full(len(z), k) for k in (0, 1)] if loss.startswith("softmax") else [np.full(z.shape, k, dtype) for k in (0, 1)]
    for y in targets:
        params = model.init(dtype=dtype)._replace(readout=fb.ReadoutParams(np.zeros((2, 1), dtype), np.zeros(2, dtype)))
        with np.errstate(all="ignore"):
            want, got = exact_losses(loss, z, y).astype(dtype), point_losses(loss, z, y)[0]
        assert np.isinf(want).any() and got.dtype == dtype
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=np.finfo(dtype).tiny)
        with np.errstate(all="raise"):
            for row, target in zip(z, y, strict=True):
                params = params._replace(readout=params.readout._replace(c=row))
                assert model.predict(params, np.ones((1, 1, 1), dtype)).dtype == dtype
                value, grads = model.loss_and_grad(params, np.ones((1, 1, 1), dtype), np.asarray(target)[None, None])
                assert value == model.loss(params, np.ones((1, 1, 1), dtype), np.asarray(target)[None, None])
                assert value >= 0 and not any(np.isnan(a).any() for a in (*grads.cell, *grads.readout))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_at_extreme_logits(dtype):
    with np.errstate(all="ignore"):
        largest = np.finfo(dtype).max
        assert predictions("sigmoid_cross_entropy", np.array([-largest, 0, 800], dtype)).tolist() == [0, 0.5, 1]
        assert predictions("softmax_cross_entropy", np.array([[-largest, largest]], dtype)).tolist() == [[0, 1]]


def after(optimizer, gradients, dtype=np.float32):
    params = (np.zeros(1, dtype),)
    state = optimizer.init(params)
    for g in gradients:
        params, state = optimizer.update(params, (np.array([g], dtype),), state)
    return float(params[0][0])


@pytest.mark.parametrize("gradient", [1e-30, 1e-6, 1.0, 1e18, 3e19, 5e20])
def test_adam_in_float32_moves_as_in_float64(gradient):
    with np.errstate(all="raise"):
        for gradients in ([gradient], [gradient, 1.0, -2.0], [1.0, gradient, 1.0, 1.0]):
            got, want = after(fb.Adam(0.01), gradients), after(fb.Adam(0.01), gradients, np.float64)
            assert got == pytest.approx(want, rel=1e-4) and got != 0


@pytest.mark.parametrize("optimizer", [fb.Adam(0.01), fb.SGD(1e3), fb.SGD(0.1, 0.9), fb.Adam(1e38, eps=1e-60)])
def test_what_cannot_be_held_is_refused(optimizer):
    with np.errstate(all="raise"), pytest.raises(ValueError, match=r"grads: .* float32 holds .* up to .*clip them"):
        after(optimizer, [LARGEST] * 20)


def test_a_tiny_eps_does_not_make_nan():
    with pytest.raises(ValueError, match="float32 holds"):
        after(fb.Adam(0.1, eps=1e-60), [0.0])
    assert after(fb.Adam(0.1, eps=1e-60), [0.0], np.float64) == 0


@pytest.mark.parametrize("limit", [1e-12, 1e-5, 1.0, 1e30, 1e300])
def test_clipping_keeps_the_direction_at_any_size(limit):
    tree = (np.array([3e38, -1.5e38], np.float32), np.zeros(2, np.float32))
    with np.errstate(all="raise"):
        clipped, norm = fb.clip_by_norm(tree, limit)
        assert global_norm(clipped) == pytest.approx(min(limit, norm), rel=1e-6)
        assert clipped[0][0] / -clipped[0][1] == pytest.approx(2, rel=1e-6) and clipped[0].dtype == np.float32
        assert np.abs(fb.clip_by_value(tree, limit)[0]).max() == np.float32(min(limit, 3e38))


def test_a_norm_sees_nan_behind_zeros():
    assert np.isnan(global_norm((np.zeros(2), np.array([np.nan])))) and np.isinf(global_norm((np.zeros(2), np.array([-np.inf]))))
    assert global_norm(()) == 0 == global_norm((np.zeros((0, 3)),))


@pytest.mark.parametrize("temperature", [5e-324, 1e-308, 1e-30, 1e-3])
def test_the_coldest_sample_is_the_likeliest(temperature):
    model = fb.SequenceModel(fb.RNN(3, 4), 3)
    params = model.init(seed=0)
    with np.errstate(all="raise"):
        drawn = list(itertools.islice(fb.sample(model, params, [0], temperature=temperature), 5))
    ids = [0]
    for _ in range(5):
        ids.append(int(model.predict(params, np.array(ids)[:, None])[-1, 0].argmax()))
    assert drawn == ids[1:]
    hot = list(itertools.islice(fb.sample(model, params, [0], temperature=1e308), 300))
    assert min(np.bincount(hot, minlength=3)) > 60


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_sample_of_a_diverged_model_is_refused(bad):
    model = fb.SequenceModel(fb.RNN(3, 4), 3)
    params = model.init(seed=0)
    params.readout.c[1] = bad
    with pytest.raises(ValueError, match="params: expected parameters with finite logits"):
        next(fb.sample(model, params, [0]))
