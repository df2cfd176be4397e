"""One look at where gradients go: by lag, by step, and a verdict by a written rule."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array
from ..bptt.tape import Tape
from ..errors import check_single
from .jacobians import _jacobians
from .lags import StepGradients, lag_norms, step_gradients
from .rows import Rows

STEEPEST = {"sigmoid": 0.25}      # γ = max σ′; 1 for the other activations
SATURATED = 0.05                  # σ′ below this share of γ, on average over steps: the unit hardly passes an error on
BLOCK = 64                        # steps whose Jacobians are held at a time


@dataclass(frozen=True)
class GradientFlow:
    """What `gradient_flow` found.

    Attributes
    ----------
    by_lag : Params of (max_lag,) arrays
        ‖part of the gradient from errors j steps later‖_F, for every parameter.
    by_step : StepGradients
        ∂L/∂state_t, and ‖δ_t h_{t−1}ᵀ‖_F.
    exponents : (B,)
        Mean log growth per step of an error vector along each sequence: the leading Lyapunov exponent of its steps.
    jacobian_norm : float
        Largest singular value of any step's Jacobian.
    bound : float or None
        (1−α) + αγ‖W‖ of the RNN, which no step's norm exceeds; None for gated cells.
    spectral_radius : float or None
        Largest |eigenvalue| of W of the RNN; None for gated cells.
    dead, saturated : (H,) bool
        Units that are 0 at every step; units whose σ′ is small at nearly every step (RNN; none for gated cells).
    verdict : {"vanishing", "stable", "exploding", "mixed"}
        Over T steps an error shrinks below a tenth, stays within a factor of ten, grows beyond it, in all sequences; "mixed"
        where they differ.
    remedies : tuple of str
        What is worth trying, and why.
    """

    by_lag: Any
    by_step: StepGradients
    exponents: Array
    jacobian_norm: float
    bound: float | None
    spectral_radius: float | None
    dead: Array
    saturated: Array
    verdict: str
    remedies: tuple[str, ...]

    def __str__(self) -> str:
        lags = np.asarray(self.by_lag.W)
        half = int(np.argmax(np.cumsum(lags) >= 0.5 * lags.sum()))
        lines = [f"verdict: {self.verdict}", f"growth of an error per step: {np.exp(self.exponents.mean()):.3g}",
                 f"half of the lag norms of W lie within {half + 1} of {lags.size} lags"]
        if self.bound is not None:
            lines.append(f"bound per step {self.bound:.3g}, spectral radius of W {self.spectral_radius:.3g}")
        lines += [f"dead units: {int(self.dead.sum())}, saturated: {int(self.saturated.sum())} of {self.dead.size}"]
        return "\n".join([*lines, *(f"- {remedy}" for remedy in self.remedies)])


def gradient_flow(cell: Any, params: Any, tape: Tape, dh: Any, max_lag: int | None = None) -> GradientFlow:
    """Where the gradients of one call go: by lag, by step, how errors grow, which units are dead, and what may help.

    Parameters
    ----------
    cell, params, tape, dh
        As for `backward`; a single cell.
    max_lag : int, optional
        Lags looked at, at most T; by default 64 or T.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape, dtype or range; the message names it.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(1, 1, "identity")
    >>> params = cell.init(dtype=np.float64)._replace(W=np.array([[0.5]]))
    >>> tape = fb.forward(cell, params, np.ones((10, 1, 1)))
    >>> fb.gradient_flow(cell, params, tape, np.ones((10, 1, 1))).verdict
    'vanishing'

    References
    ----------
    R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.
    """
    check_single(cell)
    lags = min(64, tape.batch.x.shape[0]) if max_lag is None else max_lag
    by_lag = lag_norms(cell, params, tape, dh, lags)
    by_step = step_gradients(cell, params, tape, dh)
    exponents, norm = _growth(cell, params, tape)
    bound, radius, dead, saturated = _of_weights(cell, params, tape)
    verdict = _verdict(exponents, tape.batch.lengths)
    return GradientFlow(by_lag, by_step, exponents, norm, bound, radius, dead, saturated, verdict,
                        _remedies(cell, verdict, dead, saturated))


def _growth(cell: Any, params: Any, tape: Tape) -> tuple[Array, float]:
    """Mean log growth of a vector of errors going back, and the largest norm of a Jacobian."""
    T, B = tape.batch.x.shape[:2]
    S = cell.hidden_size * len(cell.state_type._fields)
    v = np.random.default_rng(0).normal(size=(B, S))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    total, norm = np.zeros(B), 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        for stop in range(T, 0, -BLOCK):
            start = max(0, stop - BLOCK)
            J = _jacobians(Rows(cell, params, tape, start, stop)).astype(np.float64)
            valid = np.arange(start, stop)[:, None] < tape.batch.lengths
            norm = max(norm, float(np.linalg.norm(J[valid], 2, axis=(1, 2)).max(initial=0.0)))
            for step, counts in zip(J[::-1], valid[::-1], strict=True):
                w = np.einsum("bi,bij->bj", v, step)
                length = np.linalg.norm(w, axis=1)
                total[counts] += np.log(length[counts])
                v = np.where((counts & (length > 0))[:, None], w / length[:, None], v)
    return total / tape.batch.lengths, norm


def _of_weights(cell: Any, params: Any, tape: Tape) -> tuple[float | None, float | None, Array, Array]:
    """Bound, spectral radius, dead and saturated units."""
    none = np.zeros(cell.hidden_size, bool)
    if cell.gates != 1:
        return None, None, none, none
    W = np.asarray(cell.masked(params).W, np.float64)
    steepest = STEEPEST.get(cell.activation, 1.0)
    bound = (1 - cell.leak) + cell.leak * steepest * float(np.linalg.norm(W, 2))
    valid = np.arange(tape.h.shape[0])[:, None] < tape.batch.lengths
    y = (tape.h if cell.leak == 1 else tape.arrays.y)[valid]
    slope = 1 - y * y if cell.activation == "tanh" else y * (1 - y) if cell.activation == "sigmoid" else None
    dead = (y == 0).all(axis=0) if cell.activation == "relu" else none
    flat = none if slope is None else slope.mean(axis=0) < SATURATED * steepest
    return bound, float(np.abs(np.linalg.eigvals(W)).max()), dead, flat


def _verdict(exponents: Array, lengths: Array) -> str:
    """By what becomes of an error over a whole sequence: a factor below 1/10, within, or above 10."""
    factor = exponents * lengths
    kinds = np.where(factor < -np.log(10), "vanishing", np.where(factor > np.log(10), "exploding", "stable"))
    return str(kinds[0]) if (kinds == kinds[0]).all() else "mixed"


def _remedies(cell: Any, verdict: str, dead: Array, saturated: Array) -> tuple[str, ...]:
    """What is worth trying, and why."""
    found = []
    if verdict in ("vanishing", "mixed") and cell.gates == 1:
        found.append("LSTM or GRU: their state is carried on by a gate, not through W and σ′ at every step")
        found.append("recurrent=\"orthogonal\", or \"identity\" with relu: ‖W‖ = 1, so that only σ′ shrinks the error")
    if verdict in ("vanishing", "mixed") and cell.gates != 1:
        found.append("forget_bias above 1, or chrono=T: gates that begin by remembering")
    if verdict in ("exploding", "mixed"):
        found.append("clip_by_norm on the gradient, or clip_state inside the recurrence: one long error does not undo a step")
        found.append("a smaller gain or learning rate: ‖W‖ above 1 lets errors grow")
    if dead.any():
        found.append("leaky_relu, or a smaller learning rate: dead units pass no gradient at all")
    if saturated.any():
        found.append("smaller weights or scaled inputs: σ′ of saturated units is nearly 0")
    return tuple(found)
