"""Tasks from neuroscience with answers at every step: flip-flop, sine generation."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import check_dtype, check_integer, check_periods, check_rate
from .batch import TaskBatch, begin, counted


def flip_flop(batch: int, steps: int = 100, bits: int = 3, rate: float = 0.1, seed: int = 0,
              dtype: Any = np.float32) -> TaskBatch:
    """Hold the last pulse of every bit: y_t,k = x_s,k, with s the last step up to t at which x_s,k is not 0.

    Parameters
    ----------
    batch : int
        B.
    steps : int
        T.
    bits : int
    rate : float
        Probability of a pulse at every step and bit, 0 < rate ≤ 1; the first step has a pulse for every bit.
    seed : int
    dtype : float32 or float64

    Returns
    -------
    TaskBatch
        x : (T, B, bits), pulses −1 and 1, else 0; y : (T, B, bits), −1 and 1. Every step counts. Model:
        input_size = output_size = bits, squared_error.

    Chance level: a loss of 1.5 = bits / 2, that of the answer 0; a mean squared error of 1 for every bit.

    Raises
    ------
    TypeError, ValueError
        If a number is not in its range, or the dtype another one.

    Examples
    --------
    >>> import fastbptt as fb
    >>> x, y, weights = fb.tasks.flip_flop(1, steps=8, bits=1, rate=0.4, seed=2)
    >>> x[:, 0, 0].astype(int).tolist(), y[:, 0, 0].astype(int).tolist()
    ([1, -1, 0, 1, 0, 0, -1, -1], [1, -1, -1, 1, 1, 1, -1, -1])

    References
    ----------
    D. Sussillo, O. Barak, "Opening the black box: low-dimensional dynamics in high-dimensional recurrent neural networks", Neural
    Computation 25(3), 2013.
    """
    batch, rng = begin(batch, seed)
    steps = check_integer("steps", steps, 1, "pass a number of steps")
    bits = check_integer("bits", bits, 1, "pass a number of bits")
    rate, dtype = check_rate("rate", rate), check_dtype("dtype", dtype)
    pulses = rng.random((steps, batch, bits)) < rate
    pulses[0] = True
    x = np.where(pulses, rng.choice([-1.0, 1.0], pulses.shape), 0.0).astype(dtype)
    last = np.maximum.accumulate(np.where(pulses, np.arange(steps)[:, None, None], 0), axis=0)
    return TaskBatch(x, np.take_along_axis(x, last, axis=0), counted(steps, batch, 0, dtype))


def sine(batch: int, steps: int = 100, shortest: float = 10.0, longest: float = 50.0, seed: int = 0,
         dtype: Any = np.float32) -> TaskBatch:
    """Generate the sine wave whose frequency the input says: y_t = sin(ω t), x_t = u + ¼ at every step t = 1 … T.

    u is drawn uniformly in 0 … 1, and ω is linear in it: from 2π / longest to 2π / shortest.

    Parameters
    ----------
    batch : int
        B.
    steps : int
        T.
    shortest, longest : float
        Periods in steps, 0 < shortest ≤ longest.
    seed : int
    dtype : float32 or float64

    Returns
    -------
    TaskBatch
        x, y : (T, B, 1). Every step counts. Model: input_size = output_size = 1, squared_error.

    Chance level: a loss of 0.251, nearly 1/4, that of the answer 0; a mean squared error of twice that.

    Raises
    ------
    TypeError, ValueError
        If a number is not in its range, or the dtype another one.

    Examples
    --------
    >>> import fastbptt as fb
    >>> x, y, weights = fb.tasks.sine(1, steps=5, shortest=8, longest=8, seed=0)
    >>> x[0].round(2), y[:, 0, 0].round(2)
    (array([[0.89]], dtype=float32), array([ 0.71,  1.  ,  0.71,  0.  , -0.71], dtype=float32))

    References
    ----------
    D. Sussillo, O. Barak, "Opening the black box: low-dimensional dynamics in high-dimensional recurrent neural networks", Neural
    Computation 25(3), 2013.
    """
    batch, rng = begin(batch, seed)
    steps = check_integer("steps", steps, 1, "pass a number of steps")
    slow, fast = 2 * np.pi / check_periods(shortest, longest)
    u, dtype = rng.random(batch), check_dtype("dtype", dtype)
    y = np.sin(np.arange(1, steps + 1)[:, None] * (slow + u * (fast - slow)))
    x = np.broadcast_to(u + 0.25, y.shape)
    return TaskBatch(x[:, :, None].astype(dtype), y[:, :, None].astype(dtype), counted(steps, batch, 0, dtype))
