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


X = np.random.default_rng(0).normal(size=(6, 3, 2)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 4, (6, 3))
LENGTHS = np.array([6, 2, 4])
REAL = fb.SequenceModel(fb.RNN(2, 5), 4)


def weights_after(batches, model=REAL, **options):
    return fb.fit(model, model.init(seed=0), batches, fb.SGD(0.1), **options).params


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("mode", ["many_to_many", "many_to_one"])
def test_batches_of_every_form(batch_first, mode):
    """Pairs, triples, mappings; as tuples, as lists, as nested lists; time-major or not: the same update."""
    model = fb.SequenceModel(fb.RNN(2, 5), 4, mode=mode)
    x, y = X, Y if mode == "many_to_many" else Y[0]
    other = (lambda a: np.swapaxes(a, 0, 1)) if batch_first else (lambda a: a)
    given = (other(x), other(y) if mode == "many_to_many" else y)
    wanted = weights_after([{"x": x, "y": y}], model)
    for batch in (given, list(given), dict(zip("xy", given, strict=True)), tuple(a.tolist() for a in given)):
        got = weights_after([batch], model, batch_first=batch_first)
        assert all(np.array_equal(a, b) for a, b in zip(got.cell, wanted.cell, strict=True))
    wanted = weights_after([{"x": x, "y": y, "lengths": LENGTHS}], model)
    for batch in ((*given, LENGTHS), [*given, LENGTHS.tolist()], {"x": given[0], "y": given[1], "lengths": LENGTHS}):
        got = weights_after([batch], model, batch_first=batch_first)
        assert all(np.array_equal(a, b) for a, b in zip(got.cell, wanted.cell, strict=True))
    factor = np.random.default_rng(2).random((6, 3)).astype(np.float32)
    wanted = weights_after([{"x": x, "y": y, "weights": factor}], model)
    got = weights_after([{"x": given[0], "y": given[1], "weights": other(factor)}], model, batch_first=batch_first)
    assert np.array_equal(got.cell.W, wanted.cell.W)


@pytest.mark.parametrize(("batches", "options", "message"), [
    ([], {}, "batches: expected at least one batch, got none"), (iter([]), {}, "batches: expected at least one"),
    ((X, Y), {}, r"batch 1: expected .* got ndarray; pass a single batch as a list of one: \[\(x, y\)\]"),
    ({"x": X, "y": Y}, {}, "batch 1: .* got str"), ([(X, Y), (X,)], {}, "batch 2: .* a tuple of 1"),
    ([(X, Y, LENGTHS, 0)], {}, "a tuple of 4"), ([None], {}, "got NoneType"),
    ([{"x": X}], {}, "batch 1: expected a mapping with x, y and optionally lengths.* got the keys x"),
    ([{"x": X, "y": Y, "mask": 1}], {}, "got the keys x, y, mask"),
    ([{"x": X, "y": Y, "truncation": None}], {}, "got the keys x, y, truncation"),
    ([(X[0, 0], Y)], {"batch_first": True}, r"x: expected \(B, T, …\) with batch_first=True, got \(2,\)"),
    ([(X, Y)], {"batch_first": 1}, "batch_first: expected True or False"),
    ([(X, Y)], {"schedule": lambda k: -0.5}, r"schedule\(1\): expected a factor of at least 0, got -0.5"),
    ([(X, Y)], {"schedule": lambda k: np.nan}, r"schedule\(1\): expected a finite number"),
    ([(X, Y)], {"schedule": lambda k: None}, r"schedule\(1\): expected a real number"), ([(X, Y)], {"clip": 0}, "clip: "),
    ([(X, Y)], {"seed": 1}, "seed: expected None"),
])
def test_refused(batches, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        weights_after(batches, **options)


def test_a_used_stream_is_not_silent():
    stream = fb.stream(np.arange(40) % 4, 2, 5)
    model = fb.SequenceModel(fb.RNN(4, 5), 4)
    weights_after(stream, model)
    with pytest.raises(ValueError, match="a stream is read once: make another"):
        weights_after(stream, model)
    with pytest.raises(ValueError, match="batch_first: expected False for a stream"):
        weights_after(fb.stream(np.arange(40) % 4, 2, 5), model, batch_first=True)
    with pytest.raises(TypeError, match="stream: expected one of fastbptt.stream, got tuple in it"):
        fb.evaluate(REAL, REAL.init(), [(X, Y)])


def bad_batch(where):
    """A batch that is not finite, the mode of its model, and what is said of it."""
    x, y, targets = X.copy(), Y, np.random.default_rng(1).normal(size=(6, 3, 4)).astype(np.float32)
    x[5, 1] = np.nan        # padding: never read
    if where == "x":
        x[3, 2, 1] = np.nan
        return (x, y, LENGTHS), REAL, "x has NaN or Inf at step 3 of sequence 2; clean"
    if where == "y":
        targets[1, 1, 0], targets[4, 1] = np.inf, np.nan
        return (x, targets, LENGTHS), fb.SequenceModel(fb.RNN(2, 5), 4, "squared_error"), "y has NaN or Inf at step 1 of seq"
    if where == "one y":
        targets[0, 2, 3] = np.nan
        return (x, targets[0], LENGTHS), fb.SequenceModel(fb.RNN(2, 5), 4, "squared_error", "many_to_one"), \
            "y has NaN or Inf for sequence 2"
    if where == "states":
        big = np.full((60, 3, 2), 1e30, np.float32)
        return (big, np.zeros((60, 3), int)), fb.SequenceModel(fb.RNN(2, 5, "relu"), 4), "x is finite, but the states have"
    x[:] = 0
    return (x, 1e30 * targets, LENGTHS), fb.SequenceModel(fb.RNN(2, 5), 4, "squared_error"), "lower the learning rate"


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("where", ["x", "y", "one y", "states"])
def test_nan_says_where_and_nothing_is_lost(where, clip):
    batch, model, message = bad_batch(where)
    good = (X, Y if model.loss_name.startswith("softmax") else np.zeros((6, 3, 4), np.float32))
    if model.mode == "many_to_one":
        good = (X, good[1][0])
    params = model.init(seed=0, gain=3e3 if where == "states" else 1.0)
    opt = fb.Adam(0.01)
    wanted = fb.fit(model, params, [good, good], opt, clip=clip)
    with pytest.raises(ValueError, match=f"batch 13: expected a finite gradient.*{message}") as caught:
        fb.fit(model, params, [good, good, batch], opt, clip=clip, done=10)
    fitted = caught.value.fitted
    assert fitted.losses == wanted.losses and np.array_equal(fitted.params.cell.W, wanted.params.cell.W)
    again = fb.fit(model, fitted.params, [good], opt, opt_state=fitted.opt_state, clip=clip)
    assert again.losses == fb.fit(model, params, [good] * 3, opt, clip=clip).losses[2:]


def test_nan_in_the_parameters_is_not_blamed_on_the_data():
    params = REAL.init(seed=0)
    params.cell.b[0] = np.nan
    with pytest.raises(ValueError, match="batch 1: .*the parameters were so before this batch") as caught:
        fb.fit(REAL, params, [(X, Y)], fb.SGD(0.1))
    assert caught.value.fitted.losses == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_whatever_ends_the_loop_has_the_progress(error):
    def batches():
        yield X, Y
        yield X, Y
        raise error
    with pytest.raises(error) as caught:
        fb.fit(REAL, REAL.init(seed=0), batches(), fb.SGD(0.1))
    wanted = fb.fit(REAL, REAL.init(seed=0), [(X, Y)] * 2, fb.SGD(0.1))
    assert caught.value.fitted.losses == wanted.losses and np.array_equal(caught.value.fitted.params.cell.W, wanted.params.cell.W)


@pytest.mark.parametrize("optimizer", [fb.SGD(0.1, 0.9), fb.Adam(0.01)])
def test_a_factor_of_0_moves_nothing_and_goes_on(optimizer):
    """Warm-up from 0, and a linear decay to it at the last step."""
    steps = []
    fitted = fb.fit(REAL, REAL.init(seed=0), [(X, Y)] * 5, optimizer, schedule=lambda k: [0, 1, 0.5, 0.0, 1][k - 1],
                    callback=steps.append)
    before = [REAL.init(seed=0), *[s.params for s in steps[:-1]]]
    still = [all(np.array_equal(a, b) for a, b in zip(old.cell, s.params.cell, strict=True))
             for old, s in zip(before, steps, strict=True)]
    assert still == [True, False, False, True, False] and len(fitted.losses) == 5
    assert all(a.any() for a in steps[0].opt_state[-1].cell)      # moments are kept


@pytest.mark.parametrize("kind", [lambda lr: fb.SGD(lr, 0.9), fb.Adam])
def test_a_factor_scales_the_rate(kind):
    halved = weights = None
    for optimizer, schedule in ((kind(0.1), lambda k: 0.25), (kind(0.025), None)):
        weights, halved = fb.fit(REAL, REAL.init(seed=0), [(X, Y)] * 3, optimizer, schedule=schedule).params, weights
    np.testing.assert_allclose(weights.cell.W, halved.cell.W, rtol=1e-5)


def test_a_strict_policy_of_the_caller_changes_nothing():
    big = {"x": 50 * X, "y": Y}
    with np.errstate(all="raise"):
        strict = fb.fit(REAL, REAL.init(seed=0, gain=5.0), [big] * 3, fb.Adam(0.5), clip=1e-3)
    assert strict.losses == fb.fit(REAL, REAL.init(seed=0, gain=5.0), [big] * 3, fb.Adam(0.5), clip=1e-3).losses


def test_dropout_of_batches_follows_the_seed():
    model = fb.SequenceModel(fb.Stack([fb.RNN(2, 5), fb.RNN(5, 5)], dropout=0.5), 4)
    one, same, other, none = (fb.fit(model, model.init(seed=0), [(X, Y)] * 2, fb.SGD(0.1), seed=seed).losses
                              for seed in (1, 1, 2, None))
    assert one == same and one != other and one != none
