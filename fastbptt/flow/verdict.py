"""The rule by which a report says vanishing, stable, exploding or mixed, and the remedies that follow.

λ_b is the mean log growth per step of a small change of the state along sequence b; backward errors grow at the same rate.

- stable: every |λ_b| ≤ `SLOPE`;   vanishing: some λ_b < −`SLOPE`, the others stable;   exploding: some λ_b > `SLOPE`, the
  others stable;   mixed: some λ_b < −`SLOPE` and some λ_b > `SLOPE`;
- also mixed: vanishing in the end, but a change first grew more than `BURST`-fold (a W far from normal).

`SLOPE` = ln(10)/100: a gradient that changes by less than 10 times in 100 steps is called stable.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array

SLOPE = float(np.log(10)) / 100
BURST = 10.0
SATURATED_SLOPE = 0.05       # of the steepest slope of σ: below, a unit counts as saturated at that step
SATURATED_SHARE = 0.9        # of the steps: a unit saturated at so many is listed
STAGNANT = 1e-6              # ‖η ∂L/∂θ‖ / ‖θ‖ below which an update does not move the parameters
JUMPING = 0.1                # above it, they jump
SHORT_HORIZON = 0.5          # of T: a window this short is recommended


def verdict_of(growth: Array, lengths: Array) -> tuple[str, str]:
    """The verdict and its reason from log growth per step (T, B)."""
    rates = growth.sum(axis=0) / lengths
    peak = float(np.cumsum(growth, axis=0).max())
    low, high = float(rates.min()), float(rates.max())
    span = f"{low:+.3g}" if low == high else f"{low:+.3g} to {high:+.3g}"
    said = f"a small change of the state grows at {span.replace('-inf', '−∞')} per step (natural log; stable within ±{SLOPE:.3f})"
    if low < -SLOPE and high > SLOPE:
        return "mixed", f"{said}: it vanishes in some sequences and explodes in others"
    if high > SLOPE:
        return "exploding", said
    if low >= -SLOPE:
        return "stable", said
    if peak > np.log(BURST):
        return "mixed", f"{said}, but grows {np.exp(peak):.3g} times before it vanishes"
    return "vanishing", said


def remedies_for(report: Any, cell: Any) -> list[tuple[str, str]]:
    """(remedy, why it applies) for the verdict and the units of a report."""
    last = cell.layers[-1]
    found: list[tuple[str, str]] = []
    if report.verdict in ("vanishing", "mixed"):
        found += _against_vanishing(report, last)
    if report.verdict in ("exploding", "mixed"):
        found += _against_exploding(report, last)
    if any(len(units) for units in report.dead):
        found.append(("leaky_relu, or a lower learning rate",
                      f"{sum(map(len, report.dead))} units are 0 at every step of every sequence: no gradient passes them"))
    if any(len(units) for units in report.saturated):
        found.append(("smaller initial weights (glorot), or relu",
                      f"{sum(map(len, report.saturated))} units are saturated at {SATURATED_SHARE:.0%} of the steps"))
    if max(report.updates) < STAGNANT:
        found.append(("a higher learning rate", f"one update changes no parameter array by more than {STAGNANT:g} of its norm"))
    if max(report.updates) > JUMPING:
        found.append(("a lower learning rate", f"one update changes a parameter array by {max(report.updates):.3g} of its norm"))
    if report.horizon <= SHORT_HORIZON * report.steps:
        found.append((f"Truncation({report.horizon}, 1)",
                      f"it keeps the gradient within {report.tolerance:.0%} at {report.horizon} of {report.steps} steps"))
    return found


def _against_vanishing(report: Any, cell: Any) -> list[tuple[str, str]]:
    if cell.memory_bias:
        return [(f"init(forget_bias=…) or init(chrono={report.steps})",
                 f"a higher {cell.memory_bias} keeps the state, and the error, for longer")]
    found = [("GRU or LSTM", "their states are carried on by addition, not through W at every step")]
    if report.growth_bound is not None and report.growth_bound < 1:
        found.insert(0, ('init(recurrent="orthogonal")', f"no step can pass on more than {report.growth_bound:.3g} of an error: "
                         "γ‖W‖ is below 1"))
    if cell.activation == "sigmoid":
        found.append(("relu or tanh", "the slope of the sigmoid is at most 1/4"))
    elif cell.activation == "tanh":
        found.append(('relu with init(recurrent="identity")', "its slope is 1 wherever a unit is on"))
    return found


def _against_exploding(report: Any, cell: Any) -> list[tuple[str, str]]:
    times = np.exp(min(float(report.rates.max()) * report.steps, 700))
    found = [("clip_by_norm(grads, 1.0)", f"an error grows {times:.3g} times over {report.steps} steps; "
              "clipping keeps the direction")]
    if report.spectral_radius is not None and report.spectral_radius > 1:
        found.append(('init(recurrent="orthogonal", gain=1.0)', f"the spectral radius of W is {report.spectral_radius:.3g}"))
    return found
