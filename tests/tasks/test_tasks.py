"""The tasks are what their docstrings say, chance levels included, and networks learn them."""
from __future__ import annotations

import itertools
import re
import subprocess
import sys

import numpy as np
import pytest

import fastbptt as fb

MANY = 4000
DIGITS = "digits"
TASKS = {name: getattr(fb.tasks, name) for name in fb.tasks.__all__ if name not in ("TaskBatch", DIGITS)}
OUTPUTS = {"copy_memory": 9, "adding": 1, "flip_flop": 3, "sine": 1, "digits": 10}      # 2 where not named
REAL = ("adding", "flip_flop", "sine")


def batch_of(name, batch=MANY, **options):
    if name == DIGITS:
        pytest.importorskip("sklearn")
    return getattr(fb.tasks, name)(min(batch, 1500) if name == DIGITS else batch, **options)


def promised(name):
    """Loss, accuracy (None for real answers) and loss function, as the docstring says."""
    text = " ".join(getattr(fb.tasks, name).__doc__.split())
    loss = re.search(r"Chance level: a loss of ([\d.]+)", text)[1]
    accuracy = re.search(r"an accuracy of ([\d.]+\d)", text)
    return float(loss), float(accuracy[1]) if accuracy else None, re.search(r"\b(\w+_cross_entropy|squared_error)\b", text)[1]


@pytest.mark.parametrize("name", [*TASKS, DIGITS])
def test_chance_level_is_that_of_the_best_constant_answer(name):
    """A readout that ignores the states: its bias is the mean of the answers, or the logarithm of their frequencies."""
    x, y, weights = batch_of(name, 8 * MANY if name == "adding" else MANY)      # has the fewest numbers in its answers
    loss, accuracy, kind = promised(name)
    outputs = OUTPUTS.get(name, 2)
    model = fb.SequenceModel(fb.RNN(x.shape[2] if x.ndim == 3 else int(x.max()) + 1, 3), outputs, kind)
    params = model.init(seed=0)
    answers = y[weights != 0]
    with np.errstate(divide="ignore"):
        shares = np.bincount(answers, minlength=outputs) / len(answers) if y.dtype.kind == "i" else None
        c = answers.mean(axis=0) if shares is None else np.maximum(np.log(shares), -50)
    constant = params._replace(readout=fb.ReadoutParams(0 * params.readout.V, c.astype(np.float32)))
    assert model.loss(constant, x, y, weights=weights, reduction="mean") == pytest.approx(loss, rel=0.02)
    assert (accuracy is None) == (name in REAL)
    if shares is not None:
        assert shares.max() == pytest.approx(accuracy, rel=0.05)


@pytest.mark.parametrize("name", ["copy_memory", "echo", "parity", "delayed_match"])
def test_the_input_of_a_step_does_not_tell_its_answer(name):
    x, y, weights = batch_of(name)
    x, y = x[weights != 0], y[weights != 0]
    right = sum(np.bincount(y[x == value]).max() for value in np.unique(x)) / len(y)
    assert right == pytest.approx(promised(name)[1], abs=0.03)


@pytest.mark.parametrize("name", [*TASKS, DIGITS])
def test_form_and_seed(name):
    one = batch_of(name, 5)
    T = one.x.shape[0]
    assert isinstance(one, fb.tasks.TaskBatch) and one.x.shape[:2] == one.y.shape[:2] == one.weights.shape == (T, 5)
    assert set(np.unique(one.weights)) <= {0, 1} and one.weights[-1].all()
    for a, b in zip(one, batch_of(name, 5), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)
    assert not np.array_equal(one.x, batch_of(name, 5, seed=1).x)
    if name in (*REAL, DIGITS):
        double = batch_of(name, 5, dtype=np.float64)
        assert {a.dtype for a in double if a.dtype.kind == "f"} == {np.dtype(np.float64)}
        np.testing.assert_allclose(double.x, one.x, rtol=1e-6)
    else:
        assert one.x.dtype == one.y.dtype == np.int64 and one.weights.dtype == np.float32


def test_copy_memory():
    x, y, weights = fb.tasks.copy_memory(MANY, delay=7, length=3, symbols=4)
    assert x.shape == (13, MANY) and np.array_equal(x[:3], y[-3:]) and set(x[:3].ravel()) == {0, 1, 2, 3}
    assert (x[3:9] == 4).all() and (x[9] == 5).all() and (x[10:] == 4).all() and (y[:10] == 4).all()
    assert weights[:, 0].tolist() == [0] * 10 + [1] * 3
    everywhere = fb.tasks.copy_memory(MANY)
    assert np.log(8) * everywhere.weights.mean() == pytest.approx(10 * np.log(8) / 120)      # the baseline of [2]


def test_adding():
    x, y, weights = fb.tasks.adding(MANY, steps=7, dtype=np.float64)
    values, marks = x[:, :, 0], x[:, :, 1]
    assert (marks[:3].sum(axis=0) == 1).all() and (marks[3:].sum(axis=0) == 1).all() and marks.any(axis=1).all()
    np.testing.assert_allclose(y[-1, :, 0], [values[:, b] @ marks[:, b] for b in range(MANY)])
    np.testing.assert_allclose(y[4, :, 0], (values * marks)[:5].sum(axis=0))
    assert 0 <= values.min() < 0.01 and 0.99 < values.max() < 1 and weights[:, 0].tolist() == [0] * 6 + [1]


def test_parity():
    x, y, weights = fb.tasks.parity(50, steps=9)
    assert all(y[t, b] == x[:t + 1, b].sum() % 2 for t in range(9) for b in range(50)) and weights.sum() == 50


def test_flip_flop():
    x, y, weights = fb.tasks.flip_flop(200, steps=30, bits=2, rate=0.2)
    held = x[0]
    assert (held != 0).all() and set(np.unique(x)) == {-1, 0, 1} and weights.all()
    for t in range(30):
        held = np.where(x[t] != 0, x[t], held)
        np.testing.assert_array_equal(y[t], held)
    assert (x[1:] != 0).mean() == pytest.approx(0.2, rel=0.1) and (fb.tasks.flip_flop(9, rate=1)[0] != 0).all()


def test_sine():
    x, y, _ = fb.tasks.sine(100, steps=40, shortest=8, longest=20, dtype=np.float64)
    u = x[:, :, 0] - 0.25
    assert (u == u[0]).all() and 0 <= u.min() < 0.05 and 0.95 < u.max() < 1
    frequency = 1 / 20 + u * (1 / 8 - 1 / 20)
    np.testing.assert_allclose(y[:, :, 0], np.sin(2 * np.pi * frequency * np.arange(1, 41)[:, None]), atol=1e-12)


def test_delayed_match():
    x, y, weights = fb.tasks.delayed_match(MANY, delay=3, stimuli=4)
    assert x.shape == (5, MANY) and (x[1:4] == 4).all() and np.array_equal(x[0] == x[-1], y[-1] == 1)
    assert all(set(x[-1, (y[-1] == 0) & (x[0] == s)]) == {0, 1, 2, 3} - {s} for s in range(4)) and weights.sum() == MANY


def test_echo():
    x, y, weights = fb.tasks.echo(20, steps=12, lag=5)
    assert np.array_equal(y[5:], x[:-5]) and not weights[:5].any() and weights[5:].all()


def test_digits():
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    for part, own in (("train", slice(0, 1500)), ("test", slice(1500, None))):
        x, y, _ = fb.tasks.digits(len(labels[own]), part, seed=3)
        drawn = sorted((*pixels, label) for pixels, label in zip((16 * x[:, :, 0]).T, y[-1], strict=True))
        assert np.array_equal(drawn, sorted((*pixels, label) for pixels, label in zip(images[own], labels[own], strict=True)))
        assert (y == y[-1]).all()
    with pytest.raises(ValueError, match=r"batch: expected an integer in 1 … 297, got 298; pass a number of images"):
        fb.tasks.digits(298, "test")
    with pytest.raises(ValueError, match="part: expected one of 'train', 'test', got 'all'"):
        fb.tasks.digits(2, "all")


def test_digits_say_what_is_missing():
    code = """
import sys, fastbptt as fb
assert "fastbptt.tasks" not in sys.modules
fb.tasks.echo(1)
assert "sklearn" not in sys.modules
sys.modules["sklearn"] = None
try:
    fb.tasks.digits(1)
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "digits: expected scikit-learn" in done.stdout and "pip install 'fastbptt[sklearn]'" in done.stdout


@pytest.mark.parametrize("name, model, updates", [
    ("echo", fb.SequenceModel(fb.RNN(2, 16), 2), 200),
    ("flip_flop", fb.SequenceModel(fb.RNN(3, 16), 3, "squared_error"), 200),
])
def test_fit_takes_them_as_they_are(name, model, updates):
    """A batch is read by name, so weights are weights; below a third of the chance level within some updates."""
    options = {"steps": 20, **({"lag": 3} if name == "echo" else {})}
    batches = (TASKS[name](16, seed=k, **options) for k in itertools.count())
    fitted = fb.fit(model, model.init(seed=0), batches, fb.Adam(0.01), clip=1.0, steps=updates)
    x, y, weights = TASKS[name](100, seed=10**6, **options)
    assert model.loss(fitted.params, x, y, weights=weights, reduction="mean") < promised(name)[0] / 3
    first = TASKS[name](16, seed=0, **options)
    mapped = fb.fit(model, model.init(seed=0), [{"x": first.x, "y": first.y, "weights": first.weights}], fb.Adam(0.01))
    assert fitted.losses[0] == mapped.losses[0]


@pytest.mark.parametrize("call, kind, message", [
    (lambda: fb.tasks.echo(0), ValueError, "batch: expected an integer of at least 1"),
    (lambda: fb.tasks.echo(2, seed=None), TypeError, "seed: expected an integer"),
    (lambda: fb.tasks.echo(2, steps=5, lag=5), ValueError, "lag: expected an integer in 1 … 4"),
    (lambda: fb.tasks.adding(2, steps=1), ValueError, "steps: expected an integer of at least 2"),
    (lambda: fb.tasks.adding(2, dtype="int8"), ValueError, "dtype: expected float32 or float64"),
    (lambda: fb.tasks.parity(2.0), TypeError, "batch: expected an integer"),
    (lambda: fb.tasks.flip_flop(2, rate=0), ValueError, "rate: expected 0 < rate ≤ 1"),
    (lambda: fb.tasks.flip_flop(2, rate=1.5), ValueError, "rate: expected 0 < rate ≤ 1"),
    (lambda: fb.tasks.sine(2, shortest=20, longest=10), ValueError, "longest: expected a period of at least shortest=20"),
    (lambda: fb.tasks.sine(2, shortest=0), ValueError, "shortest: expected a number above 0"),
    (lambda: fb.tasks.delayed_match(2, stimuli=1), ValueError, "stimuli: expected an integer of at least 2"),
    (lambda: fb.tasks.copy_memory(2, delay=0), ValueError, "delay: expected an integer of at least 1"),
])
def test_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
