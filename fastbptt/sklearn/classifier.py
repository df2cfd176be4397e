"""One label for every sequence."""
from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from ..arrays import Array
from ..errors import check_classes_given, check_known_classes
from .base import SequenceEstimator


class SequenceClassifier(ClassifierMixin, SequenceEstimator):
    """p = softmax(V h_T + c), h the states of a recurrent cell, T the last step of a sequence; −log p of its label is minimised.

    An estimator of scikit-learn, for `Pipeline`, `GridSearchCV` and the rest of it, built on `SequenceModel` and `fit`.

    Parameters
    ----------
    cell : {"gru", "lstm", "rnn"}
    hidden_size : int
        H.
    num_layers : int
    bidirectional : bool
        Every layer reads in both directions.
    dropout : float
        Between layers, as in `Stack`.
    cell_options : dict, optional
        Of the cell: {"activation": "relu"} for "rnn", {"peephole": True} for "lstm".
    learning_rate : float
        Of Adam.
    batch_size : int
        Sequences in an update.
    max_iter : int
        Epochs.
    clip : float, optional
        Largest global norm of a gradient; None does not clip.
    truncation : Truncation, optional
        Truncated BPTT; full by default.
    early_stopping : bool
        Hold a share of the sequences out (with a like share of every label), stop when their loss has not fallen by `tol` for
        `n_iter_no_change` epochs, and keep the parameters with the smallest.
    validation_fraction : float
        The share, between 0 and 1.
    n_iter_no_change : int
    tol : float
    random_state : int, RandomState or None
        Of initial parameters, order, dropout and split; the same int gives the same bits.

    Attributes
    ----------
    classes_ : (C,) sorted labels
    model_, params_ : SequenceModel, ModelParams
        For the rest of this package: `fb.save_model("m.npz", estimator.model_, estimator.params_)`.
    n_features_in_ : int
        T of a table (n, T), else I.
    n_iter_ : int
        Epochs made.
    loss_curve_ : list of float
        Mean loss of every epoch, while it was trained on.
    validation_curve_ : list of float
        Loss of the held-out sequences after every epoch, with early_stopping.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbptt.sklearn import SequenceClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=rng.integers(5, 15)) for _ in range(60)]
    >>> y = ["up" if x.sum() > 0 else "down" for x in X]
    >>> SequenceClassifier("rnn", 16, max_iter=40, random_state=0).fit(X, y).score(X, y) > 0.9
    True
    """

    _loss = "softmax_cross_entropy"

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> SequenceClassifier:
        """One epoch over X, from where the last call of `fit` or `partial_fit` ended; X, y and weights as for `fit`.

        Parameters
        ----------
        classes : (C,) labels
            All that there will be; needed in the first call, where no other call knows them.

        Raises
        ------
        TypeError, ValueError
            As `fit`; and if a label is not among the classes, these differ from earlier ones, or early_stopping is on.
        """
        known = self.classes_ if hasattr(self, "params_") else None
        check_classes_given(classes, known)
        self._partial_fit(X, y, sample_weight, classes)
        return self

    def predict_proba(self, X: Any) -> Array:
        """(n, C) probabilities of the labels, in the order of `classes_`."""
        return self._predictions(X)

    def predict(self, X: Any) -> Array:
        """(n,) the most probable labels."""
        predictions = self._predictions(X)
        return np.asarray(self.classes_[predictions.argmax(axis=1)])

    def _read_y(self, y: Any, dtype: Any, reset: bool, classes: Any = None) -> Array:
        labels = column_or_1d(y, warn=True)
        assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        if reset:
            self.classes_ = np.unique(labels if classes is None else column_or_1d(classes))
        return check_known_classes(labels, self.classes_)

    def _output_size(self, y: Array) -> int:
        return len(self.classes_)

    def _labels(self, y: Array) -> Array:
        return y
