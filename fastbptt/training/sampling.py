"""What a model writes: step by step, each drawn from what it predicts."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..arrays import Array
from ..bptt.api import step
from ..errors import as_array, check_finite_logits, check_one_direction, check_output_params, check_positive
from .losses import predictions
from .model import ModelParams, SequenceModel
from .quiet import quiet
from .readout import readout_forward


def sample(model: SequenceModel, params: ModelParams, prime: Any, *, temperature: float = 1.0, seed: int = 0) -> Iterator[int]:
    """Ids without end: k with probability ∝ softmax(z)_k^(1/temperature), z the logits after all ids so far.

    Parameters
    ----------
    model, params : SequenceModel, ModelParams
        Many-to-many, softmax, as many outputs as inputs.
    prime : (n,) integer ids, n ≥ 1
        What is read first; it is not repeated in the result.
    temperature : float, default 1
        Above 0; towards 0 the likeliest id alone.
    seed : int, default 0

    Raises
    ------
    TypeError, ValueError
        If the model is not of this kind, or an argument has the wrong type, shape or range.

    Examples
    --------
    >>> import itertools, fastbptt as fb
    >>> model = fb.SequenceModel(fb.RNN(4, 8), output_size=4)
    >>> ids = list(itertools.islice(fb.sample(model, model.init(seed=0), [2], temperature=0.5), 3))
    >>> len(ids), set(ids) <= {0, 1, 2, 3}
    (3, True)
    """
    params = check_output_params(model, params)
    check_one_direction(model.cell, "samples")
    check_positive("temperature", temperature)
    kind = (model.loss_name, model.mode, model.output_size == model.cell.input_size)
    if kind != ("softmax_cross_entropy", "many_to_many", True):
        raise ValueError(f"model: expected softmax, many to many, as many outputs as inputs, got {model}")
    ids = as_array("prime", prime, "expected ids (n,), n ≥ 1")
    if ids.ndim != 1 or ids.size == 0 or ids.dtype.kind not in "iu":
        raise ValueError(f"prime: expected ids (n,), n ≥ 1, got {ids.shape} of {ids.dtype}; begin with at least one id")
    return _drawn(model, params, ids, temperature, np.random.default_rng(seed))


def _drawn(model: SequenceModel, params: ModelParams, prime: Any, temperature: float, rng: np.random.Generator) -> Iterator[int]:
    state = None
    for k in prime:
        state = step(model.cell, params.cell, np.array([k]), state)
    while True:
        h = model.cell.flatten(state)[-1].h
        drawn = _draw(model, params, h, temperature, rng)
        yield drawn
        state = step(model.cell, params.cell, np.array([drawn]), state)


@quiet
def _draw(model: SequenceModel, params: ModelParams, h: Array, temperature: float, rng: np.random.Generator) -> int:
    """One id; the largest logit is taken off first, so that at any temperature the likeliest id keeps its probability."""
    z = check_finite_logits(readout_forward(params.readout, h)[0]).astype(np.float64)
    p = predictions(model.loss_name, (z - z.max()) / temperature)
    return int(rng.choice(p.size, p=p / p.sum()))
