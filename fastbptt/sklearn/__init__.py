"""Estimators of scikit-learn for sequences, trained by `fastbptt.fit`.

    from fastbptt.sklearn import SequenceClassifier, SequenceRegressor
"""
try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:
    raise ImportError("fastbptt.sklearn: expected scikit-learn to be installed, got none; "
                      "install it with: pip install 'fastbptt[sklearn]'") from error

from .classifier import SequenceClassifier
from .regressor import SequenceRegressor

__all__ = ["SequenceClassifier", "SequenceRegressor"]
