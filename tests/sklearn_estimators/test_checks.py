"""scikit-learn's own checks of estimators pass, all of them."""
from __future__ import annotations

import os
import warnings

import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from fastbptt.sklearn import SequenceClassifier, SequenceRegressor  # noqa: E402

SMALL = [SequenceClassifier("rnn", 8, max_iter=15, learning_rate=0.05),
         SequenceRegressor("rnn", 8, max_iter=25, learning_rate=0.02)]
REQUIRE_PEERS = os.environ.get("FASTBPTT_REQUIRE_PEERS") == "1"


def check(estimator, monkeypatch):
    """None fails; those that need pandas are left out where it is missing, none where every optional package is there."""
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")       # a check of scikit-learn's asks for it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, on_skip=None, on_fail="raise")
    skipped = {result["check_name"]: str(result["exception"]) for result in results if result["status"] == "skipped"}
    assert {result["status"] for result in results} <= {"passed", "skipped"} and len(results) > 50
    assert all("pandas" in reason for reason in skipped.values()) and not (REQUIRE_PEERS and skipped), skipped


@pytest.mark.parametrize("estimator", SMALL, ids=["classifier", "regressor"])
def test_a_small_network_passes(estimator, monkeypatch):
    check(estimator, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SequenceClassifier, SequenceRegressor])
def test_the_defaults_pass(kind, monkeypatch):
    check(kind(), monkeypatch)
