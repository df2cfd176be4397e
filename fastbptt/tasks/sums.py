"""Tasks that sum over the whole sequence: adding, parity."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import check_dtype, check_integer
from .batch import TaskBatch, begin, counted


def adding(batch: int, steps: int = 100, seed: int = 0, dtype: Any = np.float32) -> TaskBatch:
    """Add two marked numbers: y_T = Σ_t value_t · mark_t, one mark in each half of the sequence.

    Only the last step counts; y_t before it is the sum so far.

    Parameters
    ----------
    batch : int
        B.
    steps : int
        T, at least 2.
    seed : int
    dtype : float32 or float64

    Returns
    -------
    TaskBatch
        x : (T, B, 2), values uniform in 0 … 1, and marks 0 or 1; y : (T, B, 1). Model: input_size = 2, output_size = 1,
        squared_error.

    Chance level: a loss of 0.0833 = 1/12, that of the answer 1; a mean squared error of 1/6.

    Raises
    ------
    TypeError, ValueError
        If a number is not an integer in its range, or the dtype another one.

    Examples
    --------
    >>> import fastbptt as fb
    >>> x, y, weights = fb.tasks.adding(1, steps=5, seed=1)
    >>> print(x[:, 0].T.round(2))
    [[0.51 0.95 0.14 0.95 0.31]
     [0.   1.   0.   1.   0.  ]]
    >>> print(y[:, 0, 0].round(2), weights[:, 0])
    [0.   0.95 0.95 1.9  1.9 ] [0. 0. 0. 0. 1.]

    References
    ----------
    S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997; in this form Q. V. Le, N. Jaitly,
    G. E. Hinton, "A simple way to initialize recurrent networks of rectified linear units", arXiv:1504.00941, 2015.
    """
    batch, rng = begin(batch, seed)
    steps, dtype = check_integer("steps", steps, 2, "pass a number of steps"), check_dtype("dtype", dtype)
    values, marks, each = rng.random((steps, batch)), np.zeros((steps, batch)), np.arange(batch)
    marks[rng.integers(0, steps // 2, batch), each] = 1
    marks[rng.integers(steps // 2, steps, batch), each] = 1
    y = np.cumsum(values * marks, axis=0)[:, :, None]
    return TaskBatch(np.stack([values, marks], axis=2).astype(dtype), y.astype(dtype), counted(steps, batch, steps - 1, dtype))


def parity(batch: int, steps: int = 32, seed: int = 0) -> TaskBatch:
    """Is the number of ones odd? y_t = (x_1 + … + x_t) mod 2; the last step counts.

    With weights of 1 at every step, the parity so far is asked for at each, which is easier to learn.

    Parameters
    ----------
    batch : int
        B.
    steps : int
        T, at least 2.
    seed : int

    Returns
    -------
    TaskBatch
        x, y : ids (T, B), 0 or 1. Model: input_size = output_size = 2, softmax_cross_entropy.

    Chance level: a loss of 0.693 = log 2, an accuracy of 0.5.

    Raises
    ------
    TypeError, ValueError
        If a number is not an integer in its range.

    Examples
    --------
    >>> import fastbptt as fb
    >>> x, y, weights = fb.tasks.parity(1, steps=6, seed=1)
    >>> x.T, y.T
    (array([[0, 1, 1, 1, 0, 0]]), array([[0, 1, 0, 1, 1, 1]]))

    References
    ----------
    M. Minsky, S. Papert, "Perceptrons", 1969; Y. Bengio, P. Simard, P. Frasconi, "Learning long-term dependencies with gradient
    descent is difficult", IEEE Transactions on Neural Networks 5(2), 1994.
    """
    batch, rng = begin(batch, seed)
    steps = check_integer("steps", steps, 2, "pass a number of steps")
    x = rng.integers(2, size=(steps, batch))
    return TaskBatch(x, np.cumsum(x, axis=0) % 2, counted(steps, batch, steps - 1))
