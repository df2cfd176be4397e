"""Pictures of gradient flow: each function draws into a matplotlib Axes and returns it. Extra: fastbptt[demo]."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arrays import Array
from .report import GradientFlow

COLOURS = ("#22223b", "#e07a1f", "#1b8a8f", "#8a3b63", "#6c8f2c", "#7a7a85")


def _dress(axes: Any, title: str, x: str, y: str) -> Any:
    axes.set_title(title, loc="left", fontsize=11, weight="bold")
    axes.set_xlabel(x, fontsize=9.5)
    axes.set_ylabel(y, fontsize=9.5)
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.22, linewidth=0.7)
    return axes


def by_lag(report: GradientFlow, axes: Any) -> Any:
    """Norm of every parameter's gradient by lag, and the fastest change that the network's bound allows.

    Parameters
    ----------
    report : GradientFlow
    axes : matplotlib.axes.Axes

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> from fastbptt.flow import plot
    >>> from matplotlib.figure import Figure
    >>> cell = fb.RNN(input_size=3, hidden_size=4)
    >>> params = cell.init(seed=0)
    >>> tape = fb.forward(cell, params, np.ones((9, 2, 3), np.float32))
    >>> axes = plot.by_lag(fb.gradient_flow(cell, params, tape, np.ones_like(tape.h)), Figure().subplots())
    >>> axes.get_xlabel()
    'lag j, steps between the error and the use of the parameter'
    """
    lags = np.arange(report.lag_norms.shape[1])
    for i, (name, norms) in enumerate(zip(report.names, report.lag_norms, strict=True)):
        shown = np.where(norms > 0, norms, np.nan)
        axes.semilogy(lags, shown, color=COLOURS[i % len(COLOURS)], linewidth=1.8, label=f"∂L/∂{name}")
    if report.growth_bound is not None:
        top = float(report.lag_norms.max())
        with np.errstate(over="ignore", under="ignore"):
            bound = top * report.growth_bound ** lags.astype(float)
        bottom = report.lag_norms[report.lag_norms > 0].min(initial=top) if top > 0 else 1.0
        inside = (bound > bottom / 10) & (bound < top * 1e3)
        axes.plot(lags[inside], bound[inside], "--", color="0.45", linewidth=1.3,
                  label=f"the bound: × {report.growth_bound:.3g} per step")
    axes.legend(fontsize=8.5, framealpha=0.85, edgecolor="none")
    return _dress(axes, "Gradient by lag", "lag j, steps between the error and the use of the parameter", "Frobenius norm (log)")


def reach(report: GradientFlow, axes: Any) -> Any:
    """A map of ‖∂state_t/∂state_k‖ over (k, t), first sequence.

    Parameters
    ----------
    report : GradientFlow
    axes : matplotlib.axes.Axes

    Returns
    -------
    matplotlib.axes.Axes
    """
    from matplotlib.colors import TwoSlopeNorm

    with np.errstate(divide="ignore"):
        values = np.log10(report.reach)
    finite = values[np.isfinite(values)]
    most = min(12.0, max(1.0, float(np.abs(finite).max(initial=0.0))))
    values = np.where(np.isneginf(values), -most, values)
    mesh = axes.pcolormesh(_edges(report.states), _edges(report.states), values, cmap="RdBu_r",
                           norm=TwoSlopeNorm(0.0, -most, most))
    bar = axes.figure.colorbar(mesh, ax=axes)
    bar.set_label("log₁₀ of the spectral norm", fontsize=9)
    bar.ax.tick_params(labelsize=8.5)
    _dress(axes,
           r"How far a change reaches: $\|\partial s_t / \partial s_k\|$", "t, the later state", "k, the state that is changed")
    axes.grid(False)
    axes.set_facecolor("0.93")
    return axes


def _edges(states: Array) -> Array:
    """Borders between the states, for a mesh."""
    middle = (states[1:] + states[:-1]) / 2
    return np.concatenate([[states[0] - (middle[0] - states[0])], middle, [states[-1] + (states[-1] - middle[-1])]])


def steps(norms: Mapping[str, Array], axes: Any) -> Any:
    """‖δ_t h_{t−1}ᵀ‖ of every step, a line for each moment of training.

    Parameters
    ----------
    norms : mapping of labels to (T,) arrays
        `StepGradients.summed` or `GradientFlow.step_norms`, earliest first.
    axes : matplotlib.axes.Axes

    Returns
    -------
    matplotlib.axes.Axes
    """
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator

    for i, (label, values) in enumerate(norms.items()):
        shade = (i + 1) / len(norms)
        axes.semilogy(np.arange(1, len(values) + 1), np.where(values > 0, values, np.nan), color=COLOURS[2],
                      alpha=0.25 + 0.75 * shade, linewidth=1.0 + 0.8 * shade, label=label)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, high / 10), high)         # at least a decade: a line that is nearly flat looks flat
    if high < 1000 * axes.get_ylim()[0]:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        plain = axes.get_ylim()[0] > 1e-4 and high < 1e5
        axes.yaxis.set_major_formatter("{x:g}" if plain else LogFormatterSciNotation(minor_thresholds=(4, 4)))
        axes.yaxis.set_minor_formatter("")
    if len(norms) > 1:
        axes.legend(fontsize=8.5, frameon=False)
    return _dress(axes, r"Gradient by step: $\|\delta_t h_{t-1}^\top\|$", "step t at which W is used", "Frobenius norm (log)")


def exponents(spectrum: Array, axes: Any) -> Any:
    """Lyapunov exponents, largest first, a line for each sequence; those at −∞ are left out and counted.

    Parameters
    ----------
    spectrum : (B, k)
        From `lyapunov_spectrum`.
    axes : matplotlib.axes.Axes

    Returns
    -------
    matplotlib.axes.Axes
    """
    for row in spectrum:
        shown = np.isfinite(row)
        axes.plot(np.flatnonzero(shown) + 1, row[shown], "o-", color=COLOURS[0], alpha=0.6, markersize=3, linewidth=1.2)
    axes.axhline(0.0, color=COLOURS[1], linewidth=1.2, zorder=1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    lost = int(np.isneginf(spectrum).sum(axis=1).max())
    title = "Lyapunov exponents" + (f" (up to {lost} more at −∞)" if lost else "")
    return _dress(axes, title, "index, largest first", "growth per step (natural log)")
