"""The training loop over batches and over streams."""
from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..bptt.truncation import Truncation
from ..errors import (
    check_carried,
    check_factor,
    check_flag,
    check_integer,
    check_not_batch_first,
    check_output_params,
    check_positive,
    check_used,
    check_window,
    refuse_gradient,
)
from ..tree import global_norm, leaves, tree_map
from .batches import read_batch, why_not_finite
from .clip import scaled_down
from .model import ModelParams, SequenceModel
from .stream import Window
from .workers import Together


class Step(NamedTuple):
    """What `fit` tells its callback after every update: all that it takes to go on from here."""

    number: int
    loss: float
    norm: float
    """Global norm of the gradient before clipping."""
    params: ModelParams
    opt_state: Any
    state: Any
    """The State that the next window of a stream begins with; None without a stream."""
    evaluation: float | None
    """What `evaluation` returned, at the updates where it was called."""


class Fitted(NamedTuple):
    """What `fit` returns."""

    params: ModelParams
    opt_state: Any
    losses: list[float]
    state: Any
    """The State that the next window of a stream begins with; None without a stream."""
    evaluations: list[tuple[int, float]]
    """(number of the update, what `evaluation` returned after it)."""


def fit(model: SequenceModel, params: ModelParams, batches: Iterable[Any], optimizer: Any, *, opt_state: Any = None,
        truncation: Truncation | None = None, clip: float | None = None, steps: int | None = None,
        callback: Callable[[Step], Any] | None = None, state: Any = None, done: int = 0, seed: int | None = None,
        schedule: Callable[[int], float] | None = None, evaluation: Callable[[ModelParams], float] | None = None,
        every: int = 1000, batch_first: bool = False, reduce: Callable[[Array], Array] | None = None) -> Fitted:
    """Update the parameters once for every batch: θ ← optimizer(θ, clip(∂L/∂θ)).

    Over a stream L is the mean loss of a window's steps, and the state after a window is the state before the next: the forward
    pass never stops, gradients end at the begin of the window (and with `truncation` earlier).

    Parameters
    ----------
    model, params : SequenceModel, ModelParams
    batches : Stream, or iterable of pairs (x, y), triples (x, y, lengths) or mappings
        `fastbptt.stream(…)`; or arguments of `model.loss_and_grad`, by place or by name: {"x": …, "y": …} and optionally
        lengths, state, weights, reduction, seed. A NamedTuple of such names, as those of `fastbptt.tasks`, is read by name.
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
    state : State, optional
        What the first window of a stream begins with where it goes on from an earlier call; zeros by default.
    done : int, default 0
        Updates of earlier calls: numbers go on from there, and what depends on them (schedule, dropout, evaluation).
    seed : int, optional
        For stacks with dropout: update k draws from (seed, k), so that a call that goes on draws what one call would have
        drawn. A mapping may have a seed of its own.
    schedule : function of the number of an update, optional
        The learning rate is multiplied by what it returns, such as `fastbptt.Cosine`; 0 moves nothing. An optimiser of your own
        takes it as `update(…, factor=…)`.
    evaluation : function of the parameters, optional
        Called after every `every` updates: `lambda params: fb.evaluate(model, params, fb.stream(held_out, 16, 128))`.
    every : int, default 1000
    batch_first : bool, default False
        The batches are (B, T, …), as most loaders have them: x, weights, and y where it has a step axis.
    reduce : function of a vector, optional
        Where several workers train one model, each on batches of its own: called in every update, before the norm is taken,
        with one new float64 vector [gradients…, loss, count]; returns its sum over all workers, on each of them, such as
        `fastbptt.distributed.torch_gloo()`. count is the number of steps that count. Of a mean, gradients and loss are
        multiplied by count in the vector and divided by the sum of counts after it, so that what is clipped and applied is
        the gradient of the mean over all workers, Σ count · g / Σ count. All workers begin with the same parameters and
        arguments; a worker that ends with an error calls it once more, with NaN, so that the others end too.

    Returns
    -------
    Fitted
        params, opt_state, the loss of every step before its update, state, evaluations.

    Raises
    ------
    TypeError, ValueError
        If there is no batch, or one is of none of these forms; or if a gradient is not finite, which is never applied: the
        message says which batch, and at which step NaN or Inf comes in.
    WorkerError
        A RuntimeError, of `fastbptt.distributed`: another worker has ended with an error, or has no batch any more where this
        one has, or was not begun alike, or does not answer.

    Whatever ends the loop early, Ctrl-C and an error of the data included, has the progress before it as `error.fitted`, a
    Fitted: nothing that was learned is lost.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> model = fb.SequenceModel(fb.RNN(4, 16), output_size=4)
    >>> ids = np.tile([0, 1, 1, 2, 3], 2000)
    >>> stream = fb.stream(ids, batch=4, window=20, epochs=None)
    >>> fitted = fb.fit(model, model.init(seed=0), stream, fb.Adam(0.01), clip=1.0, steps=300)
    >>> fitted.losses[-1] < 0.05
    True
    >>> fb.evaluate(model, fitted.params, fb.stream(ids, batch=4, window=100)) < 0.05
    True
    """
    at, together = Fitted(params, opt_state, [], state, []), Together(reduce, params)
    try:
        steps = None if steps is None else check_integer("steps", steps, 1, "pass the number of batches to use")
        every = check_integer("every", every, 1, "pass the number of updates between evaluations")
        done = check_integer("done", done, 0, "pass the number of updates of earlier calls")
        clip = None if clip is None else check_positive("clip", clip)
        batch_first = check_flag("batch_first", batch_first)
        for number, batch in enumerate(batches, start=done + 1):
            arguments = _arguments(model, batch, at.state, _seed(seed, number, together.rank), number, batch_first)
            checked = check_output_params(model, at.params)
            at = at._replace(params=checked, opt_state=optimizer.init(checked) if at.opt_state is None else at.opt_state)
            mean = arguments.get("reduction") == "mean"
            together.begin(batches, partial(_facts, at, optimizer, steps=steps, done=done, clip=clip, truncation=truncation,
                                            mean=mean))
            loss, grads, last, count = model.loss_grad_state_count(at.params, truncation=truncation, **arguments)
            summed = together.add(number, loss, grads, count, mean)
            if summed is None:
                break
            loss, grads = summed
            if not np.isfinite(norm := global_norm(grads)):
                raise refuse_gradient(number, norm, why_not_finite(model, at.params, arguments))
            at = _applied(at, model, optimizer, grads if clip is None or norm <= clip else scaled_down(grads, norm, clip),
                          None if schedule is None else check_factor(schedule(number), number))
            carried = tree_map(np.copy, last) if isinstance(batch, Window) else None     # a copy: `last` holds all of its tape
            at = at._replace(state=carried)
            at.losses.append(loss)
            value = evaluation(at.params) if evaluation is not None and number % every == 0 else None
            if value is not None:
                at.evaluations.append((number, value))
            step = Step(number, loss, norm, at.params, at.opt_state, at.state, value)
            told = callback(step) if callback is not None else None
            if len(at.losses) == steps:
                break
            if isinstance(told, bool | np.bool_) and told:
                together.end(stopped=True)
                break
        else:
            together.end(stopped=False)
    except BaseException as error:
        error.fitted = at      # type: ignore[attr-defined]
        together.leave(error)
        error.concluded = together.concluded    # type: ignore[attr-defined]
        raise
    check_used(len(at.losses), "batches")
    return at


def _applied(at: Fitted, model: SequenceModel, optimizer: Any, grads: Any, factor: float | None) -> Fitted:
    """Parameters after one step of the optimiser."""
    options = {} if factor is None else {"factor": factor}
    moved, opt_state = optimizer.update(at.params, grads, at.opt_state, **options)
    return at._replace(params=model.project(moved), opt_state=opt_state)


def _facts(at: Fitted, optimizer: Any, **arguments: Any) -> dict[str, str]:
    """What has to be the same on all workers, that they take the same steps from the same parameters."""
    numbers = {name: value for name, value in vars(optimizer).items() if isinstance(value, int | float)}
    return {"params": _checksum(at.params), "opt_state": _checksum(at.opt_state),
            "optimizer": f"{type(optimizer).__name__} {numbers}", **{name: str(value) for name, value in arguments.items()}}


def _checksum(tree: Any) -> str:
    """CRC-32 of the shapes and bytes of a tree."""
    value = 0
    for array in map(np.ascontiguousarray, leaves(tree)):
        value = zlib.crc32(array.tobytes(), zlib.crc32(f"{array.shape}{array.dtype}".encode(), value))
    return str(value)


def evaluate(model: SequenceModel, params: ModelParams, stream: Iterable[Window], state: Any = None) -> float:
    """Mean loss per step over a stream that ends, the state carried on, nothing dropped; / log 2 it is bits per character.

    Parameters
    ----------
    model, params : SequenceModel, ModelParams
    stream : Stream
        Read to its end.
    state : State, optional
        What its first window begins with, where that is not the begin of the source.

    Raises
    ------
    TypeError, ValueError
        If the model does not predict at every step or has two directions, or the stream has no window left, or no end.
    """
    if getattr(stream, "endless", False):
        raise ValueError("stream: expected one with an end, got epochs=None; pass epochs=1")
    total, count = 0.0, 0
    for window in stream:
        loss, last = model.loss_and_state(params, **_carried(model, check_window(window, Window), state, "sum"))
        state = tree_map(np.copy, last)
        total, count = total + loss, count + window.x.shape[0] * window.x.shape[1]
    return total / check_used(count, "stream")


def _arguments(model: SequenceModel, batch: Any, state: Any, seed: int | None, number: int, batch_first: bool) -> dict[str, Any]:
    """Arguments of `loss_grad_state_count` for a batch of any form, with the seed of its update."""
    if isinstance(batch, Window):
        check_not_batch_first(batch_first)
        arguments = _carried(model, batch, state, "mean")
    else:
        arguments = read_batch(model, batch, number, batch_first)
    if seed is not None:
        arguments.setdefault("seed", seed)
    return arguments


def _seed(seed: int | None, number: int, rank: int) -> int | None:
    """Of an update; every worker draws masks of its own."""
    if seed is None:
        return None
    own = [seed, number, rank] if rank else [seed, number]
    return int(np.random.SeedSequence(own).generate_state(1)[0])


def _carried(model: SequenceModel, window: Window, state: Any, reduction: str) -> dict[str, Any]:
    """Arguments of `loss_grad_state` for the next window of a stream."""
    check_carried(model)
    return {"x": window.x, "y": window.y, "state": None if window.fresh else state, "reduction": reduction}
