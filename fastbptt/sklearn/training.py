"""Batches of sequences for `fastbptt.fit`, epoch by epoch, and when to stop."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from ..arrays import Array
from ..errors import check_held_out
from ..training.fit import Step
from ..training.model import ModelParams, SequenceModel
from ..tree import first_array
from .data import Sequences

TOGETHER = 256      # sequences in one call that predicts: bounds its memory


@dataclass(frozen=True)
class Examples:
    """Sequences with their targets and factors, those of factor 0 left out: L = Σ w loss / Σ w."""

    sequences: Sequences
    y: Array
    """(n,) ids, or (n, O)."""
    weights: Array
    """(n,)."""
    rows: Array
    """Which of the n sequences count, with weights above 0."""

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, places: Array, dtype: Any) -> dict[str, Any]:
        """Arguments of `SequenceModel.loss_and_grad`; the batches of an epoch have Σ w loss / Σ w of all as their mean."""
        rows = self.rows[places]
        x, lengths = self.sequences.batch(rows, dtype)
        weights = np.zeros(x.shape[:2])
        weights[lengths - 1, np.arange(len(rows))] = self._factors[places] / len(rows)
        return {"x": x, "y": self.y[rows], "lengths": lengths, "weights": weights}

    def epoch(self, number: int, batch_size: int, seed: int, dtype: Any) -> Iterator[dict[str, Any]]:
        """The batches of epoch `number`, in an order of its own."""
        order = np.random.default_rng([seed, number]).permutation(len(self))
        for start in range(0, len(order), batch_size):
            yield self.batch(order[start:start + batch_size], dtype)

    @property
    def _factors(self) -> Array:
        """(len,) weights of mean 1."""
        scaled = self.weights[self.rows] / self.weights.max()       # first: a sum of large weights would overflow
        return np.asarray(scaled / scaled.mean())

    def loss(self, model: SequenceModel, params: ModelParams) -> float:
        """Σ w loss / Σ w of all."""
        dtype = first_array(params).dtype
        return sum(model.loss(params, **self.batch(places, dtype)) * len(places) for places in blocks(len(self))) / len(self)


def blocks(n: int) -> Iterator[Array]:
    """0 … n − 1 in pieces."""
    for start in range(0, n, TOGETHER):
        yield np.arange(start, min(n, start + TOGETHER))


def split(rows: Array, labels: Array | None, fraction: float, seed: int) -> tuple[Array, Array]:
    """Rows to train on and rows to hold out, with a like share of every label where there are enough of each."""
    held = check_held_out(len(rows), ceil(fraction * len(rows)))
    if labels is not None:
        labels = labels[rows]
        counts = np.unique(labels, return_counts=True)[1]
        if counts.min() < 2 or not len(counts) <= held <= len(rows) - len(counts):
            labels = None
    train, test = train_test_split(rows, test_size=held, random_state=seed, stratify=labels)
    return train, test


@dataclass
class Patience:
    """Ends `fit` when the loss of held-out sequences has not fallen by `tol` for some epochs, and keeps the best parameters."""

    model: SequenceModel
    held_out: Examples
    epochs: int
    tol: float
    params: ModelParams
    losses: list[float] = field(default_factory=list)
    best: float = np.inf
    waited: int = 0

    def evaluate(self, params: ModelParams) -> float:
        """The loss of the held-out sequences."""
        return self.held_out.loss(self.model, params)

    def __call__(self, step: Step) -> bool:
        """Whether to stop after an update."""
        if step.evaluation is None:
            return False
        self.losses.append(step.evaluation)
        self.waited = 0 if step.evaluation < self.best - self.tol else self.waited + 1
        if step.evaluation < self.best:
            self.best, self.params = step.evaluation, step.params
        return self.waited >= self.epochs
