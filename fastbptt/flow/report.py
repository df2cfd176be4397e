"""Gradient flow through a network, in one report."""
from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import check_fraction, check_lags, check_positive
from ..tree import leaves
from .horizon import suggest_horizon
from .lags import LagNorms, errors_of, full_gradient, lag_norms, norm, step_gradients
from .lyapunov import growth_along
from .norms import growth_bound, largest_singular_values, spectral_radius, steepest
from .stack import StackSteps, linear_steps
from .steps import CellSteps
from .verdict import SATURATED_SHARE, SATURATED_SLOPE, remedies_for, verdict_of

MOST_LAGS = 128
GRID = 24       # states of the map of ‖∂state_t/∂state_k‖


@dataclass
class GradientFlow:
    """The report of `gradient_flow`."""

    cell: str
    steps: int
    """T."""
    verdict: str
    """vanishing, stable, exploding or mixed."""
    reason: str
    rates: Array
    """(B,): mean log growth of a small change per step."""
    growth_bound: float | None
    """(1−α) + αγ‖W‖₂ of an RNN: the most by which a step multiplies an error."""
    spectral_radius: float | None
    """ρ(W) of an RNN."""
    step_jacobians: Array
    """(T, B): ‖∂state_{t+1}/∂state_t‖₂."""
    names: tuple[str, ...]
    """Names of the parameter arrays, in the order of the entries below."""
    lag_norms: Array
    """(arrays, lags): Frobenius norms of the gradients by lag."""
    lag_cosines: Array
    """(arrays, lags): their cosines with the sum over the lags."""
    error_norms: Array
    """(T, B): ‖∂L/∂state_t‖."""
    step_norms: Array
    """(T,): ‖δ_t h_{t−1}ᵀ‖_F, summed over the sequences before the norm."""
    states: Array
    """The states of `reach`."""
    reach: Array
    """(states, states): entry [k, t] is ‖∂state_t/∂state_k‖₂ of the first sequence, NaN for t < k."""
    horizon: int
    """As `suggest_horizon` gives it."""
    tolerance: float
    dead: tuple[Array, ...]
    """For each layer the ReLU units that are 0 at every step of every sequence."""
    saturated: tuple[Array, ...]
    """For each layer the units whose slope is below 5 % of the steepest at 90 % of the steps; gated: that of the candidate."""
    learning_rate: float
    updates: tuple[float, ...]
    """‖η ∂L/∂θ‖ / ‖θ‖ for each parameter array; where θ = 0, relative to the largest of the others."""
    remedies: tuple[tuple[str, str], ...]
    """(remedy, why it applies)."""

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {self.reason}", *(f"{name}: {value}" for name, value in facts(self))]
        return "\n".join([*lines, *(f"- {remedy}: {why}" for remedy, why in self.remedies)])

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and strings; None for what is not finite."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def facts(report: GradientFlow) -> list[tuple[str, str]]:
    """The numbers of a report in words: (name, value)."""
    whole = np.exp(np.minimum(report.rates * report.steps, 700.0))
    rows = [("steps", str(report.steps)),
            ("growth per step (natural log)", _range(report.rates)),
            (f"that is, over {report.steps} steps, a factor of", _range(whole)),
            ("norm of the step Jacobian", _range(report.step_jacobians))]
    if report.growth_bound is not None:
        rows.append(("bound of a step, (1−α) + αγ‖W‖", f"{report.growth_bound:.4g}"))
    if report.spectral_radius is not None:
        rows.append(("spectral radius of W", f"{report.spectral_radius:.4g}"))
    horizon = f"{report.horizon} of {report.steps} steps" if report.horizon < report.steps else "none shorter than the sequence"
    rows += [(f"horizon within {report.tolerance:.0%} of the full gradient", horizon),
             ("dead units", str(sum(map(len, report.dead)))),
             ("saturated units", str(sum(map(len, report.saturated)))),
             (f"one update of η = {report.learning_rate:g}, of the parameters' norm", _range(np.array(report.updates)))]
    return rows


def _range(values: Array) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    said = f"{low:.4g}" if np.isclose(low, high, atol=0) else f"{low:.4g} to {high:.4g}"
    return said.replace("-inf", "−∞")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def gradient_flow(cell: Any, params: Any, tape: Any, dh: Any, *, max_lag: int | None = None, learning_rate: float = 0.01,
                  tolerance: float = 0.05) -> GradientFlow:
    """How errors travel back through a network: norms by lag and step, bounds, units that block them, verdict and remedies.

    The verdict depends on the mean log growth λ of a small change per step: stable if |λ| ≤ ln(10)/100, vanishing below,
    exploding above; mixed if sequences differ or a change grows tenfold before it vanishes (`fastbptt.flow.verdict`).

    Parameters
    ----------
    cell, params, tape
        As for `jacobians`.
    dh : (T, B, H)
        ∂L/∂h_t injected at every step.
    max_lag : int, optional
        Number of lags, 1 … T; the smaller of T and 128 by default.
    learning_rate : float
        η, to judge stagnation: ‖η ∂L/∂θ‖ relative to ‖θ‖.
    tolerance : float
        For `suggest_horizon`.

    Returns
    -------
    GradientFlow

    Raises
    ------
    TypeError, ValueError
        As `lag_gradients`, and if an option is out of range.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=1, hidden_size=1, activation="identity")
    >>> params = fb.RNNParams(np.ones((1, 1)), np.full((1, 1), 0.5), np.zeros(1))
    >>> tape = fb.forward(cell, params, np.ones((20, 1, 1)))
    >>> report = fb.gradient_flow(cell, params, tape, np.ones_like(tape.h))
    >>> report.verdict, report.spectral_radius
    ('vanishing', 0.5)

    References
    ----------
    S. Hochreiter, "Untersuchungen zu dynamischen neuronalen Netzen", 1991; Y. Bengio, P. Simard and P. Frasconi, IEEE
    Transactions on Neural Networks 5(2), 1994; R. Pascanu, T. Mikolov and Y. Bengio, ICML 2013.
    """
    steps = linear_steps(cell, params, tape, np.float64)
    lags = min(steps.T, MOST_LAGS) if max_lag is None else check_lags(max_lag, steps.T)
    rate, tolerance = check_positive("learning_rate", learning_rate), check_fraction("tolerance", tolerance)
    by_lag: LagNorms = lag_norms(cell, params, tape, dh, lags)
    by_step = step_gradients(cell, params, tape, dh)
    growth = growth_along(steps)
    verdict, reason = verdict_of(growth, tape.batch.lengths)
    states, reach = reach_map(steps.first_sequence())
    updates = _updates(cell, params, tape, dh, rate)
    # A gradient that has overflowed has no horizon but all steps.
    horizon = suggest_horizon(cell, params, tape, dh, tolerance) if np.isfinite(updates).all() else steps.T
    report = GradientFlow(
        cell=str(cell), steps=steps.T, verdict=verdict, reason=reason, rates=growth.sum(axis=0) / tape.batch.lengths,
        growth_bound=growth_bound(cell, params), spectral_radius=spectral_radius(cell, params),
        step_jacobians=largest_singular_values(steps, 1), names=tuple(cell.shapes),
        lag_norms=np.array(list(leaves(by_lag.norms))), lag_cosines=np.array(list(leaves(by_lag.cosines))),
        error_norms=np.linalg.norm(by_step.errors.astype(np.float64), axis=2), step_norms=by_step.summed, states=states,
        reach=reach, horizon=horizon, tolerance=tolerance,
        dead=tuple(map(dead_units, steps.layers)), saturated=tuple(map(saturated_units, steps.layers)),
        learning_rate=rate, updates=updates, remedies=())
    report.remedies = tuple(remedies_for(report, cell))
    return report


def reach_map(steps: StackSteps) -> tuple[Array, Array]:
    """At most GRID + 1 states, and ‖∂state_t/∂state_k‖₂ between them, of steps of one sequence."""
    states = np.unique(np.linspace(0, steps.T, min(steps.T, GRID) + 1).astype(int))
    n = len(states)
    reach = np.full((n, n), np.nan)
    products = np.zeros((n, steps.size, steps.size))        # rows of entry k: ∂state_t/∂state_k, transposed
    for t in range(n):
        if t > 0:
            moved = products[:t].reshape(1, 1, -1, steps.size)
            for at in range(states[t - 1], states[t]):
                moved = steps.jvp(slice(at, at + 1), moved)
            products[:t] = moved[0, 0].reshape(t, steps.size, steps.size)
        products[t] = np.eye(steps.size)
        reach[:t + 1, t] = np.linalg.norm(products[:t + 1], 2, axis=(1, 2))
    return states, reach


def _valid(layer: CellSteps) -> Array:
    """(T, B): the steps that are not padded."""
    return np.ones((layer.T, layer.B), bool) if layer.padded is None else ~layer.padded[:, :, 0, 0]


def dead_units(layer: CellSteps) -> Array:
    """The units of a ReLU layer that are 0 at every valid step."""
    if getattr(layer.cell, "activation", "") != "relu":
        return np.zeros(0, int)
    return np.flatnonzero(~(layer.slopes()[:, :, 0] > 0).any(axis=(0, 1)))


def saturated_units(layer: CellSteps) -> Array:
    """The units whose tanh or sigmoid is flat at most valid steps; of gated cells the candidate's tanh."""
    slopes = layer.candidate_slopes()
    if slopes is None:
        return np.zeros(0, int)
    flat = (slopes[:, :, 0] <= SATURATED_SLOPE * steepest(layer.cell))[_valid(layer)]
    return np.flatnonzero(flat.mean(axis=0) >= SATURATED_SHARE)


def _updates(cell: Any, params: Any, tape: Any, dh: Any, rate: float) -> tuple[float, ...]:
    """‖η ∂L/∂θ‖ / ‖θ‖."""
    steps = linear_steps(cell, params, tape)
    gradients = leaves(full_gradient(steps, errors_of(cell, steps, dh, tape.batch.lengths)))
    sizes = [norm(a) for a in leaves(params)]
    return tuple(rate * norm(g) / (n or max(sizes) or 1.0) for g, n in zip(gradients, sizes, strict=True))
