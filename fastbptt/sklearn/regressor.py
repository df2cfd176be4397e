"""One number, or some, for every sequence."""
from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import check_array

from ..arrays import Array
from .base import SequenceEstimator


class SequenceRegressor(RegressorMixin, SequenceEstimator):
    """ŷ = V h_T + c, h the states of a recurrent cell, T the last step of a sequence; ½ (y − ŷ)² is minimised.

    Parameters and attributes are those of `SequenceClassifier`, without `classes_`. Targets are learned fastest with mean 0 and
    variance 1: `sklearn.compose.TransformedTargetRegressor` brings them there and back.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbptt.sklearn import SequenceRegressor
    >>> X = np.random.default_rng(0).normal(size=(80, 10))
    >>> y = X.sum(axis=1) / 3
    >>> SequenceRegressor("rnn", 16, max_iter=60, random_state=0).fit(X, y).score(X, y) > 0.9
    True
    """

    _loss = "squared_error"

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> SequenceRegressor:
        """One epoch over X, from where the last call of `fit` or `partial_fit` ended; arguments as for `fit`.

        Raises
        ------
        TypeError, ValueError
            As `fit`; and if early_stopping is on.
        """
        self._partial_fit(X, y, sample_weight)
        return self

    def predict(self, X: Any) -> Array:
        """(n,) or (n, O), as y was."""
        predictions = self._predictions(X)
        return predictions[:, 0] if self._flat else predictions

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _read_y(self, y: Any, dtype: Any, reset: bool, classes: Any = None) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):      # what float32 does not hold becomes Inf, which is refused
            targets: Array = check_array(y, dtype=dtype, ensure_2d=False, input_name="y", estimator=self)
        if reset:
            self._flat = targets.ndim == 1
        return targets.reshape(len(targets), -1)

    def _output_size(self, y: Array) -> int:
        return int(y.shape[1])
