"""The training loop over batches."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..bptt.truncation import Truncation
from ..errors import check_integer
from .clip import clip_by_norm
from .model import ModelParams, SequenceModel
from .tree import global_norm


class Step(NamedTuple):
    """What `fit` tells its callback after every update."""

    number: int
    loss: float
    norm: float
    """Global norm of the gradient before clipping."""
    params: ModelParams


class Fitted(NamedTuple):
    """What `fit` returns."""

    params: ModelParams
    opt_state: Any
    losses: list[float]


def fit(model: SequenceModel, params: ModelParams, batches: Iterable[dict[str, Any]], optimizer: Any, *, opt_state: Any = None,
        truncation: Truncation | None = None, clip: float | None = None, steps: int | None = None,
        callback: Callable[[Step], Any] | None = None) -> Fitted:
    """Update the parameters once for every batch: θ ← optimizer(θ, clip(∂L/∂θ)).

    Parameters
    ----------
    model, params : SequenceModel, ModelParams
    batches : iterable of dict
        Arguments of `model.loss_and_grad`: {"x": …, "y": …} and optionally lengths, state, weights, reduction, seed.
    optimizer : SGD or Adam
    opt_state : optional
        From an earlier call, to go on where it stopped.
    truncation : Truncation, optional
    clip : float, optional
        Largest global norm of a gradient.
    steps : int, optional
        Stop after so many batches; by default when they are used up.
    callback : function of a Step, optional
        Called after every update; training stops when it returns True.

    Returns
    -------
    Fitted
        params, opt_state, and the loss of every step before its update.

    Raises
    ------
    ValueError
        If a gradient is not finite: it is never applied.

    Examples
    --------
    >>> import itertools, numpy as np, fastbptt as fb
    >>> model = fb.SequenceModel(fb.RNN(4, 8), output_size=4)
    >>> ids = np.array([[0], [1], [1], [2], [3]])
    >>> batches = itertools.repeat({"x": ids[:-1], "y": ids[1:]})
    >>> fitted = fb.fit(model, model.init(seed=0), batches, fb.Adam(0.02), clip=1.0, steps=300)
    >>> fitted.losses[-1] < 0.05
    True
    """
    steps = None if steps is None else check_integer("steps", steps, 1, "pass the number of batches to use")
    opt_state = optimizer.init(params) if opt_state is None else opt_state
    losses: list[float] = []
    for batch in batches:
        loss, grads = model.loss_and_grad(params, truncation=truncation, **batch)
        grads, norm = clip_by_norm(grads, clip) if clip is not None else (grads, global_norm(grads))
        params, opt_state = optimizer.update(params, grads, opt_state)
        params = model.project(params)
        losses.append(loss)
        if callback is not None and callback(Step(len(losses), loss, norm, params)) is True:
            break
        if len(losses) == steps:
            break
    return Fitted(params, opt_state, losses)
