"""Tasks that ask for what was seen before: copy memory, echo, delayed match to sample."""
from __future__ import annotations

import numpy as np

from ..errors import check_integer, check_up_to
from .batch import TaskBatch, begin, counted


def copy_memory(batch: int, delay: int = 100, length: int = 10, symbols: int = 8, seed: int = 0) -> TaskBatch:
    """Repeat `length` symbols after a delay: y_t = x_{t − length − delay} at the last `length` steps.

    T = delay + 2 · length steps: the symbols, the delay, of blanks up to its last step, which asks for them, and blanks. At
    the other steps y is blank; set the weights to 1 there to ask for that too, as in [2].

    Parameters
    ----------
    batch : int
        B.
    delay : int
        Steps between the last symbol and the first answer, at least 1.
    length : int
    symbols : int
        Ids 0 … symbols − 1; `symbols` is the blank, symbols + 1 asks.
    seed : int

    Returns
    -------
    TaskBatch
        x, y : ids (T, B). Model: input_size = symbols + 2, output_size = symbols + 1, softmax_cross_entropy.

    Chance level: a loss of 2.079 = log symbols, an accuracy of 0.125 = 1 / symbols.

    Raises
    ------
    TypeError, ValueError
        If a number is not an integer of at least 1, the seed of at least 0.

    Examples
    --------
    >>> import fastbptt as fb
    >>> x, y, weights = fb.tasks.copy_memory(1, delay=3, length=2, symbols=4, seed=1)
    >>> x.T
    array([[1, 2, 4, 4, 5, 4, 4]])
    >>> y.T
    array([[4, 4, 4, 4, 4, 1, 2]])

    References
    ----------
    [1] S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997.
    [2] M. Arjovsky, A. Shah, Y. Bengio, "Unitary evolution recurrent neural networks", ICML 2016.
    """
    batch, rng = begin(batch, seed)
    delay = check_integer("delay", delay, 1, "pass a number of steps")
    length = check_integer("length", length, 1, "pass a number of symbols to repeat")
    symbols = check_integer("symbols", symbols, 1, "pass a number of different symbols")
    x = np.full((delay + 2 * length, batch), symbols)
    y = x.copy()
    x[:length] = y[-length:] = rng.integers(symbols, size=(length, batch))
    x[length + delay - 1] = symbols + 1
    return TaskBatch(x, y, counted(len(x), batch, delay + length))


def echo(batch: int, steps: int = 100, lag: int = 10, seed: int = 0) -> TaskBatch:
    """Repeat a stream of random bits after a lag: y_t = x_{t − lag}.

    Parameters
    ----------
    batch : int
        B.
    steps : int
        T.
    lag : int
        In 1 … T − 1. The first `lag` steps do not count.
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
    >>> x, y, weights = fb.tasks.echo(1, steps=8, lag=3, seed=1)
    >>> x.T
    array([[0, 1, 1, 1, 0, 0, 1, 1]])
    >>> y.T
    array([[0, 0, 0, 0, 1, 1, 1, 0]])

    References
    ----------
    H. Jaeger, "Short term memory in echo state networks", GMD report 152, 2002.
    """
    batch, rng = begin(batch, seed)
    steps = check_integer("steps", steps, 2, "pass a number of steps")
    lag = check_up_to("lag", lag, steps - 1, "a number of steps below `steps`")
    x = rng.integers(2, size=(steps, batch))
    y = np.zeros_like(x)
    y[lag:] = x[:-lag]
    return TaskBatch(x, y, counted(steps, batch, lag))


def delayed_match(batch: int, delay: int = 20, stimuli: int = 8, seed: int = 0) -> TaskBatch:
    """Delayed match to sample: is the last stimulus the first one? y_T = 1 if x_T = x_1, else 0.

    T = delay + 2 steps: the sample, blanks, the test. One half of the tests match in the mean.

    Parameters
    ----------
    batch : int
        B.
    delay : int
        Blank steps, at least 1.
    stimuli : int
        Ids 0 … stimuli − 1, at least 2; `stimuli` is the blank.
    seed : int

    Returns
    -------
    TaskBatch
        x, y : ids (T, B). Only the last step counts. Model: input_size = stimuli + 1, output_size = 2, softmax_cross_entropy.

    Chance level: a loss of 0.693 = log 2, an accuracy of 0.5.

    Raises
    ------
    TypeError, ValueError
        If a number is not an integer in its range.

    Examples
    --------
    >>> import fastbptt as fb
    >>> x, y, weights = fb.tasks.delayed_match(5, delay=2, stimuli=3, seed=0)
    >>> x
    array([[2, 1, 1, 0, 0],
           [3, 3, 3, 3, 3],
           [3, 3, 3, 3, 3],
           [1, 0, 0, 2, 0]])
    >>> y[-1]
    array([0, 0, 0, 0, 1])

    References
    ----------
    E. K. Miller, C. A. Erickson, R. Desimone, "Neural mechanisms of visual working memory in prefrontal cortex of the macaque",
    Journal of Neuroscience 16(16), 1996.
    """
    batch, rng = begin(batch, seed)
    delay = check_integer("delay", delay, 1, "pass a number of blank steps")
    stimuli = check_integer("stimuli", stimuli, 2, "pass a number of different stimuli")
    x = np.full((delay + 2, batch), stimuli)
    y = np.zeros_like(x)
    x[0], y[-1] = rng.integers(stimuli, size=batch), rng.integers(2, size=batch)
    other = (x[0] + rng.integers(1, stimuli, size=batch)) % stimuli
    x[-1] = np.where(y[-1] == 1, x[0], other)
    return TaskBatch(x, y, counted(len(x), batch, len(x) - 1))
