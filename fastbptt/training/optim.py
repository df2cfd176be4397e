"""SGD with momentum, and Adam. Parameters and states go in and come out; nothing is changed in place."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..errors import check_fraction, check_held, check_positive
from ..tree import leaves, tree_map
from .quiet import quiet


def _check_finite(grads: Any) -> None:
    """Refuse gradients that would ruin every parameter."""
    if not all(np.isfinite(a).all() for a in leaves(grads)):
        raise ValueError("grads: expected finite gradients, got NaN or Inf; lower the learning rate, or skip this batch")


def _updated(optimizer: Any, params: Any, grads: Any, state: Any) -> tuple[Any, Any]:
    """Parameters and state after a step, if their dtype holds them; the parameters projected."""
    check_held([*leaves(params), *leaves(state)], next(leaves(params)).dtype, list(leaves(grads)))
    return params if optimizer.project is None else optimizer.project(params), state


class SGDState(NamedTuple):
    """State of SGD."""

    velocity: Any


@dataclass(frozen=True)
class SGD:
    """θ ← θ − η v with v ← μ v + ∂L/∂θ.

    Parameters
    ----------
    lr : float
        η > 0.
    momentum : float, default 0
        μ in 0 ≤ μ < 1.
    project : function of the parameters, optional
        Applied after every step, such as `SequenceModel.project`, which keeps masks and signs.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> opt = fb.SGD(0.5)
    >>> opt.update((np.array([1.0]),), (np.array([2.0]),), opt.init((np.array([1.0]),)))[0]
    (array([0.]),)
    """

    lr: float
    momentum: float = 0.0
    project: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        check_positive("lr", self.lr)
        check_fraction("momentum", self.momentum)

    def init(self, params: Any) -> SGDState:
        """The state before the first update."""
        return SGDState(tree_map(np.zeros_like, params))

    @quiet
    def update(self, params: Any, grads: Any, state: SGDState, factor: float = 1.0) -> tuple[Any, SGDState]:
        """Parameters and state after one step of rate η · factor.

        ValueError if a gradient is not finite, or so large that the dtype does not hold the result.
        """
        _check_finite(grads)
        rate = self.lr * factor
        velocity = tree_map(lambda v, g: (self.momentum * v + g).astype(v.dtype, copy=False), state.velocity, grads)
        moved = tree_map(lambda p, v: (p - rate * v).astype(p.dtype, copy=False), params, velocity)
        return _updated(self, moved, grads, SGDState(velocity))


class AdamState(NamedTuple):
    """State of Adam: the number of steps so far, and both moments."""

    step: Any
    first: Any
    second: Any


@dataclass(frozen=True)
class Adam:
    """Adam: θ ← θ − η m̂ / (√v̂ + ε), with m̂ and v̂ the bias-corrected moments of the gradient.

    Parameters
    ----------
    lr : float
        η > 0.
    beta1, beta2 : float
        Decay of the moments, in 0 ≤ β < 1.
    eps : float
        ε > 0.
    project : function of the parameters, optional
        Applied after every step, such as `SequenceModel.project`, which keeps masks and signs.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> opt = fb.Adam(0.1)
    >>> params, state = opt.update((np.array([1.0]),), (np.array([2.0]),), opt.init((np.array([1.0]),)))
    >>> round(float(params[0][0]), 6)
    0.9

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    """

    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    project: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        check_positive("lr", self.lr)
        check_positive("eps", self.eps)
        check_fraction("beta1", self.beta1)
        check_fraction("beta2", self.beta2)

    def init(self, params: Any) -> AdamState:
        """The state before the first update."""
        return AdamState(np.zeros((), np.int64), tree_map(np.zeros_like, params), tree_map(np.zeros_like, params))

    @quiet
    def update(self, params: Any, grads: Any, state: AdamState, factor: float = 1.0) -> tuple[Any, AdamState]:
        """Parameters and state after one step of rate η · factor.

        ValueError if a gradient is not finite, or so large that the dtype does not hold its second moment or the result.
        """
        _check_finite(grads)
        step = state.step + 1
        first = tree_map(lambda m, g: (self.beta1 * m + (1 - self.beta1) * g).astype(m.dtype, copy=False), state.first, grads)
        second = tree_map(lambda v, g: (self.beta2 * v + ((1 - self.beta2) * g) * g).astype(v.dtype, copy=False),
                          state.second, grads)
        rate = self.lr * factor / (1 - self.beta1 ** int(step))
        root = float(np.sqrt(1 - self.beta2 ** int(step)))      # divides the root: v / root² may be more than the dtype holds
        moved = tree_map(lambda p, m, v: (p - rate * (m / (np.sqrt(v) / root + self.eps))).astype(p.dtype, copy=False),
                         params, first, second)
        return _updated(self, moved, grads, AdamState(step, first, second))
