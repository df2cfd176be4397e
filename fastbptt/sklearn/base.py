"""What the estimators share: their parameters, and training through `fastbptt.fit`."""
from __future__ import annotations

from dataclasses import fields
from itertools import chain
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted

from ..arrays import Array
from ..bptt.stack import Stack
from ..bptt.truncation import Truncation
from ..cells import CELLS
from ..errors import check_cell_options, check_no_early_stopping, check_sample_weight, check_training, check_y_given
from ..training.fit import fit
from ..training.model import ModelParams, SequenceModel
from ..training.optim import Adam
from ..tree import first_array
from .data import Sequences, read_X
from .training import Examples, Patience, blocks, split

CELL_NAMES = {name.lower(): cell for name, cell in CELLS.items()}
SEEDS = 2**31 - 1


class SequenceEstimator(BaseEstimator):
    """A SequenceModel that reads a sequence and answers after its last step."""

    _loss: str
    model_: SequenceModel
    params_: ModelParams

    def __init__(self, cell: str = "gru", hidden_size: int = 32, *, num_layers: int = 1, bidirectional: bool = False,
                 dropout: float = 0.0, cell_options: dict[str, Any] | None = None, learning_rate: float = 0.01,
                 batch_size: int = 64, max_iter: int = 100, clip: float | None = 1.0, truncation: Truncation | None = None,
                 early_stopping: bool = False, validation_fraction: float = 0.1, n_iter_no_change: int = 10, tol: float = 1e-4,
                 random_state: Any = None):
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.cell_options = cell_options
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.clip = clip
        self.truncation = truncation
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _read_y(self, y: Any, dtype: Any, reset: bool, classes: Any = None) -> Array:
        """Targets of the model: (n,) ids or (n, O). With `reset`, what they or the classes say of the outputs is kept."""
        raise NotImplementedError

    def _output_size(self, y: Array) -> int:
        """O, for the targets of the first call."""
        raise NotImplementedError

    def _labels(self, y: Array) -> Array | None:
        """What a split for early stopping shares out evenly."""
        return None

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train from new parameters for `max_iter` epochs, or until early stopping.

        Parameters
        ----------
        X : (n, T, I), (n, T), or a list of n sequences (T_i, I) or (T_i,)
            Real numbers. float32 is trained in float32, everything else in float64.
        y : (n,), or for a regressor (n, O)
        sample_weight : (n,), optional
            Factors w ≥ 0 of the losses: L = Σ w loss / Σ w. With 0 a sequence is left out.

        Raises
        ------
        TypeError, ValueError
            If the data or a parameter of the estimator are not as described, or a gradient is not finite.
        """
        self._check_parameters()
        sequences = read_X(self, X, reset=True)
        targets = self._begin(sequences, y)
        weights = check_sample_weight(sample_weight, len(sequences))
        rows, stopping = np.flatnonzero(weights), None
        if self.early_stopping:
            rows, held_out = split(rows, self._labels(targets), self.validation_fraction, self._seed)
            stopping = Patience(self.model_, Examples(sequences, targets, weights, held_out), self.n_iter_no_change, self.tol,
                                self.params_)
        self._train(Examples(sequences, targets, weights, rows), self.max_iter, stopping)
        if stopping is not None:
            self.params_, self.validation_curve_ = stopping.params, stopping.losses
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Any:
        """One epoch over X, from where the last call ended."""
        self._check_parameters()
        check_no_early_stopping(self.early_stopping)
        first = not hasattr(self, "params_")
        sequences = read_X(self, X, reset=first)
        if first:
            targets = self._begin(sequences, y, classes)
        else:
            check_consistent_length(sequences, check_y_given(type(self).__name__, y))
            targets = self._read_y(y, first_array(self.params_).dtype, reset=False)
        weights = check_sample_weight(sample_weight, len(sequences))
        self._train(Examples(sequences, targets, weights, np.flatnonzero(weights)), 1, None)
        return self

    def _check_parameters(self) -> None:
        check_training(self.get_params(deep=False), tuple(CELL_NAMES))

    def _begin(self, sequences: Sequences, y: Any, classes: Any = None) -> Array:
        """A new model with new parameters; the targets as it takes them."""
        targets = self._read_y(check_y_given(type(self).__name__, y), sequences.dtype, True, classes)
        check_consistent_length(sequences, targets)
        model = SequenceModel(self._cell(sequences.variables), self._output_size(targets), self._loss, "many_to_one")
        self._seed = int(check_random_state(self.random_state).randint(SEEDS))
        self.model_, self.params_ = model, model.init(self._seed, sequences.dtype)
        self._opt_state, self._updates, self.n_iter_ = None, 0, 0
        self.loss_curve_: list[float] = []
        if hasattr(self, "validation_curve_"):
            del self.validation_curve_
        return targets

    def _cell(self, inputs: int) -> Any:
        """The cell, or the stack of layers."""
        kind = CELL_NAMES[self.cell]
        known = [option.name for option in fields(kind) if option.name not in ("input_size", "hidden_size")]
        options = check_cell_options(self.cell_options, self.cell, known)
        first = kind(inputs, self.hidden_size, **options)
        if self.num_layers == 1 and not self.bidirectional:
            return first
        above = kind(first.hidden_size * (2 if self.bidirectional else 1), self.hidden_size, **options)
        return Stack([first] + [above] * (self.num_layers - 1), self.bidirectional, self.dropout)

    def _train(self, examples: Examples, epochs: int, stopping: Patience | None) -> None:
        """Go on for some epochs."""
        dtype, size = first_array(self.params_).dtype, self.batch_size
        numbers = range(self.n_iter_ + 1, self.n_iter_ + epochs + 1)
        batches = chain.from_iterable(examples.epoch(number, size, self._seed, dtype) for number in numbers)
        every = -(-len(examples) // size)
        fitted = fit(self.model_, self.params_, batches, Adam(self.learning_rate), opt_state=self._opt_state,
                     truncation=self.truncation, clip=self.clip, done=self._updates, every=every, callback=stopping,
                     seed=self._seed if self.dropout else None, evaluation=None if stopping is None else stopping.evaluate)
        self.params_, self._opt_state = fitted.params, fitted.opt_state
        self._updates += len(fitted.losses)
        sizes = np.diff([*range(0, len(examples), size), len(examples)])
        curve = np.reshape(fitted.losses, (-1, every)) @ sizes / len(examples)
        self.n_iter_ += len(curve)
        self.loss_curve_.extend(curve.tolist())

    def _predictions(self, X: Any) -> Array:
        """ŷ (n, O) after the last step of every sequence."""
        check_is_fitted(self, "params_")
        sequences = read_X(self, X, reset=False)
        dtype = first_array(self.params_).dtype
        parts = [self.model_.predict(self.params_, *sequences.batch(rows, dtype)) for rows in blocks(len(sequences))]
        return np.concatenate(parts)
