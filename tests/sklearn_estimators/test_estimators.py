"""The estimators do what their parameters say, on every form of data, and train by `fb.fit`."""
from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.tree import leaves

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from fastbptt.sklearn import SequenceClassifier, SequenceRegressor  # noqa: E402

RNG = np.random.default_rng(0)
X3 = RNG.normal(size=(40, 6, 2))
NAMES = np.where(X3[:, :, 0].sum(axis=1) > 0, "up", "down")
SUMS = X3.sum(axis=(1, 2))
RAGGED = [RNG.normal(size=(n, 2)) for n in RNG.integers(1, 9, 40)]
RAGGED_NAMES = np.array(["up" if x[:, 0].sum() > 0 else "down" for x in RAGGED])


def classifier(**options):
    return SequenceClassifier(**{"cell": "rnn", "hidden_size": 8, "max_iter": 3, "random_state": 0, **options})


def regressor(**options):
    return SequenceRegressor(**{"cell": "rnn", "hidden_size": 8, "max_iter": 3, "random_state": 0, **options})


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(leaves(one.params_), leaves(other.params_), strict=True))


def test_is_fit_of_this_package_written_out():
    """Two batches in an epoch, both epochs in orders of their own, weights by their mean."""
    weights = np.linspace(0.5, 2, 40)
    fitted = classifier(batch_size=25, max_iter=2, clip=0.1, truncation=fb.Truncation(3)).fit(X3, NAMES, weights)
    model = fb.SequenceModel(fb.RNN(2, 8), 2, mode="many_to_one")
    seed = np.random.RandomState(0).randint(2**31 - 1)
    y, batches = (NAMES == "up").astype(int), []
    for epoch in (1, 2):
        order = np.random.default_rng([seed, epoch]).permutation(40)
        for rows in (order[:25], order[25:]):
            factors = np.broadcast_to(weights[rows] / weights.mean() / len(rows), (6, len(rows)))
            batches.append({"x": X3[rows].swapaxes(0, 1), "y": y[rows], "weights": factors})
    want = fb.fit(model, model.init(seed, np.float64), batches, fb.Adam(0.01), clip=0.1, truncation=fb.Truncation(3))
    for a, b in zip(leaves(fitted.params_), leaves(want.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)
    losses = np.reshape(want.losses, (2, 2)) @ [25, 15] / 40
    np.testing.assert_allclose(fitted.loss_curve_, losses)
    assert fitted.n_iter_ == 2 and list(fitted.classes_) == ["down", "up"]


def test_learns():
    assert classifier(max_iter=40).fit(RAGGED, RAGGED_NAMES).score(RAGGED, RAGGED_NAMES) > 0.9
    assert regressor(max_iter=60, hidden_size=16).fit(X3, SUMS).score(X3, SUMS) > 0.9


@pytest.mark.parametrize("make, y", [(classifier, NAMES), (regressor, SUMS)])
def test_forms_of_the_same_data(make, y):
    want = make().fit(X3, y)
    object_array = np.empty(40, object)
    object_array[:] = list(X3)
    for X in (list(X3), tuple(X3), X3.tolist(), object_array, np.asfortranarray(X3)):
        assert same(make().fit(X, y), want)
        assert np.array_equal(want.predict(X), want.predict(X3))
    table = make().fit(X3[:, :, 0], y)
    for X in (X3[:, :, :1], list(X3[:, :, 0]), X3[:, :, 0].tolist()):
        assert same(make().fit(X, y), table)


def test_pandas():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X3[:, :, 0], columns=list("abcdef"))
    fitted = classifier().fit(frame, pandas.Series(NAMES))
    assert same(fitted, classifier().fit(X3[:, :, 0], NAMES)) and list(fitted.feature_names_in_) == list("abcdef")
    column = pandas.Series(RAGGED, index=range(100, 140))
    assert same(classifier().fit(column, RAGGED_NAMES), classifier().fit(RAGGED, RAGGED_NAMES))


@pytest.mark.parametrize("dtype, kept", [(np.float32, np.float32), (np.float64, np.float64), (np.int64, np.float64),
                                         (np.float16, np.float64)])
def test_dtype_is_kept(dtype, kept):
    for X in ((10 * X3).astype(dtype), list((10 * X3).astype(dtype)) if dtype is not np.float16 else X3.astype(dtype)):
        fitted = classifier(max_iter=1).fit(X, NAMES)
        assert {a.dtype for a in leaves(fitted.params_)} == {np.dtype(kept)} and fitted.predict_proba(X).dtype == kept
    assert regressor(max_iter=1).fit(X3.astype(np.float32), SUMS).predict(X3).dtype == np.float32


def test_lengths_at_prediction():
    """A table has as many columns as at fit; sequences have any length, also one that no sequence had."""
    fitted = classifier().fit(RAGGED, RAGGED_NAMES)
    alone = np.concatenate([fitted.predict_proba([x]) for x in RAGGED])
    np.testing.assert_allclose(fitted.predict_proba(RAGGED), alone, rtol=1e-10)
    assert fitted.predict([np.zeros((50, 2))]).shape == fitted.predict(np.zeros((1, 50, 2))).shape == (1,)
    table = classifier().fit(X3[:, :, 0], NAMES)
    assert (table.n_features_in_, fitted.n_features_in_) == (6, 2)
    with pytest.raises(ValueError, match="X has 5 features, but SequenceClassifier is expecting 6"):
        table.predict(X3[:, :5, 0])
    assert table.predict(X3[:, :5, :1]).shape == (40,)
    with pytest.raises(ValueError, match="X: expected 2 variables at every step, as SequenceClassifier was fitted with, got 1"):
        fitted.predict(X3[:, :, 0])
    assert not hasattr(table.fit(X3, NAMES), "_table") and table.n_features_in_ == 2


def test_a_column_of_targets_and_several():
    assert regressor().fit(X3, SUMS).predict(X3).shape == (40,)
    both = regressor(max_iter=60, hidden_size=16).fit(X3, np.stack([SUMS, -SUMS], axis=1))
    assert both.predict(X3).shape == (40, 2) and both.score(X3, np.stack([SUMS, -SUMS], axis=1)) > 0.8


@pytest.mark.parametrize("y", [NAMES, NAMES == "up", np.where(NAMES == "up", 7, -3), NAMES.astype(object), NAMES.tolist()])
def test_labels_of_every_kind(y):
    fitted = classifier(max_iter=40).fit(X3, y)
    assert fitted.classes_.dtype == np.unique(y).dtype and fitted.score(X3, y) > 0.8
    proba = fitted.predict_proba(X3)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert np.array_equal(fitted.classes_[proba.argmax(axis=1)], fitted.predict(X3))


def test_one_class_and_one_sequence():
    fitted = classifier().fit(X3[:1], ["only"])
    assert fitted.predict(X3).tolist() == ["only"] * 40 and (fitted.predict_proba(X3) == 1).all()
    assert regressor().fit(X3[:1], [3.0]).predict(X3).shape == (40,)
    assert regressor().fit([[1.0]], [3.0]).predict([[1.0]]).shape == (1,)


def test_weights():
    weights = RNG.integers(0, 3, 40)
    weights[:2] = 0, 2
    repeated = regressor(batch_size=100).fit(X3.repeat(weights, axis=0), SUMS.repeat(weights))
    weighted = regressor(batch_size=100).fit(X3, SUMS, weights)
    np.testing.assert_allclose(weighted.predict(X3), repeated.predict(X3), rtol=1e-8)
    none = regressor(batch_size=7).fit(X3, SUMS, (weights > 0) * 5.0)
    assert same(none, regressor(batch_size=7).fit(X3[weights > 0], SUMS[weights > 0]))
    assert same(regressor().fit(X3, SUMS, np.full(40, 1e308)), regressor().fit(X3, SUMS))
    assert not same(none, regressor(batch_size=7).fit(X3, SUMS))
    assert same(none, regressor(batch_size=7).fit(X3, SUMS, weights > 0))


@pytest.mark.parametrize("option", [
    {"cell": "gru"}, {"cell": "lstm"}, {"hidden_size": 9}, {"num_layers": 2}, {"bidirectional": True},
    {"num_layers": 2, "dropout": 0.5}, {"cell_options": {"activation": "relu"}}, {"learning_rate": 0.02}, {"batch_size": 39},
    {"max_iter": 4}, {"clip": None}, {"truncation": fb.Truncation(1)}, {"random_state": 1}])
def test_every_parameter_tells(option):
    usual = {"num_layers": 2} if "dropout" in option else {"clip": 0.01} if "clip" in option else {}
    one, other = classifier(**{**usual, **option}).fit(X3, NAMES), classifier(**usual).fit(X3, NAMES)
    assert one.params_.readout.V.shape != other.params_.readout.V.shape or not same(one, other)
    assert same(classifier(**{**usual, **option}).fit(X3, NAMES), one)


def test_random_states_are_those_of_numpy():
    one = classifier(random_state=np.random.RandomState(5))
    first, second = clone(one).fit(X3, NAMES), one.fit(X3, NAMES)
    assert same(first, second) and not same(first, one.fit(X3, NAMES))


def test_early_stopping():
    options = {"max_iter": 300, "early_stopping": True, "validation_fraction": 0.25, "n_iter_no_change": 4, "tol": 0.01,
               "learning_rate": 0.05}
    fitted = classifier(**options).fit(X3, NAMES)
    curve, best, waited = fitted.validation_curve_, np.inf, 0
    for number, loss in enumerate(curve, start=1):
        waited = 0 if loss < best - 0.01 else waited + 1
        best = min(best, loss)
        assert waited < 4 or number == len(curve)
    assert waited == 4 and fitted.n_iter_ == len(curve) == len(fitted.loss_curve_) < 300
    again = classifier(**{**options, "max_iter": int(np.argmin(curve)) + 1}).fit(X3, NAMES)
    assert same(again, fitted)
    assert not hasattr(fitted.set_params(early_stopping=False, max_iter=1).fit(X3, NAMES), "validation_curve_")


def test_early_stopping_holds_out_a_share_of_every_class():
    from fastbptt.sklearn.training import split

    labels = np.repeat([0, 1], [32, 8])
    train, held = split(np.arange(40), labels, 0.25, seed=3)
    assert len(held) == 10 and (labels[held] == 1).sum() == 2 and sorted([*train, *held]) == list(range(40))
    for rare in (np.repeat([0, 1], [39, 1]), np.arange(40), None):
        assert [len(part) for part in split(np.arange(40), rare, 0.25, seed=3)] == [30, 10]


def test_partial_fit():
    """One epoch each: the batches of an epoch of fit; the moments of Adam go on."""
    whole, parts = classifier(batch_size=16, max_iter=4).fit(X3, NAMES), classifier(batch_size=16)
    for _ in range(4):
        parts.partial_fit(X3, NAMES, classes=["up", "down"])
    assert same(whole, parts) and parts.n_iter_ == 4 and parts.loss_curve_ == whole.loss_curve_
    assert not same(whole.partial_fit(X3[:3], NAMES[:3], sample_weight=[1, 1, 0]), parts) and whole.n_iter_ == 5
    assert same(whole, parts.partial_fit(X3[:2], NAMES[:2]))
    dropped = [classifier(num_layers=2, dropout=0.5, max_iter=n, batch_size=16).fit(X3, NAMES) for n in (1, 2)]
    assert same(dropped[0].partial_fit(X3, NAMES), dropped[1])
    assert same(regressor(max_iter=1).fit(X3, SUMS), regressor().partial_fit(X3, SUMS))


def test_pickled_and_cloned_estimators_go_on():
    fitted = classifier().fit(X3, NAMES)
    other = pickle.loads(pickle.dumps(fitted))
    assert same(fitted.partial_fit(X3, NAMES), other.partial_fit(X3, NAMES))
    copy = clone(classifier(truncation=fb.Truncation(2), cell_options={"activation": "relu"}))
    assert not hasattr(copy, "params_") and copy.get_params()["truncation"] == fb.Truncation(2)


def test_in_a_pipeline_and_in_a_search():
    pipeline = make_pipeline(StandardScaler(), classifier())
    assert cross_val_score(pipeline, X3[:, :, 0], NAMES, cv=2).shape == (2,)
    search = GridSearchCV(classifier(), {"hidden_size": [2, 8], "learning_rate": [1e-6, 0.05]}, cv=2, error_score="raise")
    search.fit(RAGGED, RAGGED_NAMES, sample_weight=np.ones(40))
    assert search.best_params_["learning_rate"] == 0.05 and search.predict(RAGGED).shape == (40,)


@pytest.mark.slow
def test_a_search_in_two_processes_finds_the_same(monkeypatch):
    """Workers of joblib have their share of the threads, and the same results."""
    import joblib

    grid = {"hidden_size": [2, 8]}
    searches = [GridSearchCV(classifier(), grid, cv=2, n_jobs=jobs, error_score="raise") for jobs in (1, 2)]
    found = [search.fit(RAGGED, RAGGED_NAMES) for search in searches]
    np.testing.assert_array_equal(*(search.cv_results_["mean_test_score"] for search in found))
    assert same(*(search.best_estimator_ for search in found))
    threads = joblib.Parallel(n_jobs=2)(joblib.delayed(fb.get_num_threads)() for _ in range(4))
    assert max(threads) <= max(1, joblib.cpu_count() // 2)


def test_memory_maps_are_only_read(tmp_path):
    for name, array in {"x": X3, "y": SUMS}.items():
        np.save(tmp_path / f"{name}.npy", array)
    x, y = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xy")
    fitted = regressor().fit(x, y)
    assert same(fitted, regressor().fit(X3, SUMS)) and np.array_equal(fitted.predict(x), fitted.predict(X3))


def test_a_fitted_network_is_a_model_of_this_package(tmp_path):
    fitted = classifier().fit(X3, NAMES)
    fb.save_model(tmp_path / "m.npz", fitted.model_, fitted.params_)
    model, params, _ = fb.load_model(tmp_path / "m.npz")
    np.testing.assert_array_equal(model.predict(params, X3.swapaxes(0, 1)), fitted.predict_proba(X3))


def test_many_sequences_are_predicted_in_blocks():
    fitted = regressor(max_iter=1).fit(X3, SUMS)
    many = np.concatenate([X3] * 20)
    np.testing.assert_allclose(fitted.predict(many), np.tile(fitted.predict(X3), 20), rtol=1e-10)


WRONG_X = [
    ([[1.0, 2.0], [np.nan]], r"X\[1\]: expected finite numbers, got NaN or Inf at step 0"),
    (np.full((2, 3, 1), np.nan), "Input X contains NaN"), ([[1.0], []], "X: expected at least one sequence and none of length 0"),
    ([np.ones((3, 2)), np.ones((3, 1))], r"X\[1\]: expected \(T, 2\) as the first"), (np.ones((2, 0, 1)), "at least one step"),
    (np.ones((2, 1, 1, 1)), r"X: expected \(n, T, I\), \(n, T\) or a list"), ([1.0, 2.0], "Expected 2D array, got 1D array"),
    (np.ones(2), "Expected 2D array, got 1D array"), ([], "Expected 2D array"),
]
WRONG = [
    ({"cell": "os"}, ValueError, "cell: expected one of 'rnn', 'gru', 'lstm', got 'os'"),
    ({"cell_options": 3}, TypeError, "cell_options: expected a dict"),
    ({"cell_options": {"peephole": True}}, ValueError, "cell_options: expected options of 'rnn', activation, .* got 'peephole'"),
    ({"cell_options": {"input_size": 3}}, ValueError, "got 'input_size'"),
    ({"num_layers": 0}, ValueError, "num_layers: expected"),
    ({"dropout": 0.5}, ValueError, "dropout: expected 0 for one layer"), ({"hidden_size": 0}, ValueError, "hidden_size"),
    ({"batch_size": 1.5}, TypeError, "batch_size: expected"), ({"max_iter": 0}, ValueError, "max_iter: expected"),
    ({"learning_rate": 0}, ValueError, "lr: expected"), ({"tol": -1}, ValueError, "tol: expected"),
    ({"validation_fraction": 1.0}, ValueError, "validation_fraction: expected"),
    ({"validation_fraction": 0}, ValueError, "validation_fraction: expected"), ({"clip": -1}, ValueError, "clip: expected"),
    ({"bidirectional": 1}, TypeError, "bidirectional: expected"), ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change"),
]


@pytest.mark.parametrize("X, message", WRONG_X, ids=range(len(WRONG_X)))
def test_wrong_data(X, message):
    with pytest.raises(ValueError, match=message):
        regressor().fit(X, [1.0, 2.0])


@pytest.mark.parametrize("option, kind, message", WRONG, ids=range(len(WRONG)))
def test_wrong_parameters(option, kind, message):
    with pytest.raises(kind, match=message):
        classifier(**option).fit(X3, NAMES)


@pytest.mark.parametrize("weights, kind, message", [
    ([1.0], ValueError, r"sample_weight: expected \(40,\)"), (np.zeros(40), ValueError, "above zero"),
    (-np.ones(40), ValueError, "from 0"), (np.full(40, np.nan), ValueError, "NaN"), (["a"] * 40, TypeError, "sample_weight")])
def test_wrong_weights(weights, kind, message):
    with pytest.raises(kind, match=message):
        classifier().fit(X3, NAMES, weights)


def test_wrong_calls():
    with pytest.raises(NotFittedError):
        classifier().predict(X3)
    with pytest.raises(ValueError, match="early_stopping: expected sequences to train on and to hold out, got n_samples=1"):
        classifier(early_stopping=True).fit(X3[:1], NAMES[:1])
    with pytest.raises(ValueError, match="early_stopping: expected False for partial_fit"):
        regressor(early_stopping=True).partial_fit(X3, SUMS)
    with pytest.raises(ValueError, match="classes: expected all labels in the first call"):
        classifier().partial_fit(X3, NAMES)
    with pytest.raises(ValueError, match=r"y: expected labels among \['down', 'up'\], got 'left'"):
        classifier().partial_fit(X3, ["left"] * 40, classes=["up", "down"])
    with pytest.raises(ValueError, match=r"classes: expected those of the first call, \['down', 'up'\]"):
        classifier().fit(X3, NAMES).partial_fit(X3, NAMES, classes=["up", "left"])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        regressor().fit(X3, SUMS[1:])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        classifier().fit(X3, NAMES).partial_fit(X3, NAMES[1:])
    with pytest.raises(ValueError, match=r"y: expected \(40, 1\), got \(40, 2\)"):
        regressor().fit(X3, SUMS).partial_fit(X3, np.stack([SUMS, SUMS], axis=1))
    with pytest.raises(TypeError, match="X: expected .* got a masked array"):
        regressor().fit(np.ma.masked_less(X3, 0), SUMS)
    with pytest.raises(ValueError, match="Input y contains infinity or a value too large"):
        regressor().fit(X3.astype(np.float32), SUMS * 1e300)
    with pytest.raises(ValueError, match="Unknown label type"):
        classifier().fit(X3, SUMS)


def test_the_package_does_not_load_scikit_learn_and_says_what_is_missing():
    code = """
import sys
import fastbptt
assert "sklearn" not in sys.modules
sys.modules["sklearn"] = None
try:
    import fastbptt.sklearn
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'fastbptt[sklearn]'" in done.stdout
