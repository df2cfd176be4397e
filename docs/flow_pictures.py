"""Makes the pictures of vanishing-gradient.md: python docs/flow_pictures.py"""
from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import fastbptt as fb
from fastbptt.flow import plot
from fastbptt.flow.verdict import SLOPE

FOLDER = Path(__file__).parent
T, B, H = 80, 8, 48


def panels(rows, height):
    """A figure of two columns, and its Axes."""
    figure = Figure(figsize=(11, height), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
    return figure, list(figure.subplots(rows, 2).flat)


def titled(axes, title):
    axes.set_title(title, loc="left", fontsize=11, weight="bold")


def dressed(axes, title, x, y):
    titled(axes, title)
    axes.set_xlabel(x, fontsize=9.5)
    axes.set_ylabel(y, fontsize=9.5)
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.22, linewidth=0.7)


def saved(figure, name):
    figure.savefig(FOLDER / f"flow-{name}.png", dpi=120)


def inputs():
    return np.random.default_rng(0).normal(size=(T, B, 8))


def last_error():
    """Errors at the last step alone, so that every lag is a distance to it."""
    dh = np.zeros((T, B, H))
    dh[-1] = np.random.default_rng(1).normal(size=(B, H))
    return dh


def networks():
    """Four networks that differ in what they do to an error."""
    rnn, lstm = fb.RNN(8, H), fb.LSTM(8, H)
    small = rnn.init(seed=0, dtype=np.float64, gain=0.6)
    yield "tanh, ‖W‖ = 0.6", rnn, small
    orthogonal = rnn.init(seed=0, dtype=np.float64)
    yield "tanh, orthogonal W", rnn, orthogonal._replace(U=0.1 * orthogonal.U)
    yield "ReLU, W = 1.05 · identity", fb.RNN(8, H, "relu"), rnn.init(seed=0, dtype=np.float64, recurrent="identity", gain=1.05)
    yield "LSTM, chrono for 80 steps", lstm, lstm.init(seed=0, dtype=np.float64, gain=0.3, chrono=80)


def draw_chains():
    """Powers of a number; products of Jacobians under their bounds."""
    figure, (left, right) = panels(1, 4.2)
    steps = np.arange(0, 41)
    for w, colour in zip((1.5, 1.1, 1.0, 0.9, 0.5), plot.COLOURS, strict=False):
        left.semilogy(steps, w ** steps.astype(float), color=colour, linewidth=1.8)
        left.text(40.6, w ** 40.0, f"w = {w:g}", color=colour, fontsize=9, va="center")
    for w, note in ((0.5, "0.5¹⁰ = 0.00098"), (1.5, "1.5¹⁰ = 57.7")):
        left.plot(10, w ** 10, "o", color="black", markersize=4)
        left.annotate(note, (10, w ** 10), xytext=(7, 2) if w < 1 else (-2, 8), textcoords="offset points", fontsize=9,
                      ha="left" if w < 1 else "right")
    left.set_xlim(0, 47)
    dressed(left, "A chain of one number: wⁿ", "steps n", r"$\partial h_n / \partial h_0$ (log)")
    lags = (1, 2, 3, 5, 7, 10, 14, 20, 28, 40)
    for (activation, gain), colour in zip((("relu", 1.5), ("tanh", 1.0), ("tanh", 0.6), ("sigmoid", 1.0)), plot.COLOURS,
                                          strict=False):
        cell = fb.RNN(8, H, activation)
        params = cell.init(seed=0, dtype=np.float64, gain=gain)
        tape = fb.forward(cell, params, inputs())
        found = [fb.jacobian_norms(cell, params, tape, lag=lag) for lag in lags]
        right.semilogy(lags, [n.products.max() for n in found], "o-", color=colour, markersize=3, linewidth=1.8,
                       label=f"{activation.replace('relu', 'ReLU')}, ‖W‖ = {gain:g}")
        right.plot(lags, [n.bound.max() for n in found], "--", color=colour, linewidth=1.1)
    right.plot([], [], "--", color="0.45", linewidth=1.1, label="(γ‖W‖)ⁿ, the bound of each")
    right.legend(fontsize=8.5, frameon=False, loc="lower left")
    dressed(right, "A chain of n Jacobians, and its bound", "steps n = t − k",
            r"largest $\|\partial h_t / \partial h_k\|$ (log)")
    saved(figure, "chains")


def draw_networks():
    """Gradient by lag, reach, and error by horizon of the four networks."""
    figure, lags = panels(2, 7.6)
    maps, reaches = panels(2, 7.6)
    for (name, cell, params), axes, below in zip(networks(), lags, reaches, strict=True):
        report = fb.gradient_flow(cell, params, fb.forward(cell, params, inputs()), last_error())
        titled(plot.by_lag(report, axes), f"{name}: {report.verdict}")
        titled(plot.reach(report, below), f"{name}: {report.verdict}")
    saved(figure, "lags")
    saved(maps, "reach")


def draw_horizons():
    """Error of a window's gradient by its horizon, an error injected at every step."""
    figure, (left, right) = panels(1, 4.2)
    dh = np.random.default_rng(1).normal(size=(T, B, H))
    for (name, cell, params), colour in zip(networks(), plot.COLOURS, strict=False):
        tape = fb.forward(cell, params, inputs())
        for axes, errors in ((left, dh), (right, last_error())):
            parts = fb.lag_gradients(cell, params, tape, errors, T)
            full = [part.sum(axis=0) for part in parts]
            missing = [np.linalg.norm((sums - part.cumsum(axis=0)).reshape(T, -1), axis=1) / np.linalg.norm(sums)
                       for part, sums in zip(parts, full, strict=True)]
            horizon = fb.suggest_horizon(cell, params, tape, errors)
            worst = np.maximum(np.max(missing, axis=0), 1e-9)
            axes.semilogy(np.arange(1, T + 1), worst, color=colour, linewidth=1.8, label=f"{name}: h = {horizon}")
            axes.plot(horizon, worst[horizon - 1], "o", color=colour, markersize=5)
    for axes, title in ((left, "a loss at every step"), (right, "a loss at the last step")):
        axes.axhline(0.05, color="0.45", linestyle="--", linewidth=1.1, label="tolerance 5 %")
        axes.set_ylim(1e-3, 2)
        axes.legend(fontsize=8.5, frameon=True, framealpha=0.9, edgecolor="none", loc="lower left")
        dressed(axes, f"What a window misses: {title}", "horizon h",
                r"$\|g_h - g\| \,/\, \|g\|$, worst array (log)")
    saved(figure, "horizons")


def draw_exponents():
    """Spectra by gain, and the leading exponent as the gain rises."""
    figure, (left, right) = panels(1, 4.2)
    cell, x = fb.RNN(1, H), 0.05 * np.random.default_rng(0).normal(size=(600, 1, 1))
    for gain, colour in zip((0.5, 1.0, 1.5, 3.0), plot.COLOURS[2:] + plot.COLOURS[:1], strict=False):
        plot.exponents(fb.lyapunov_spectrum(cell, cell.init(0, np.float64, gain=gain), x, transient=100), left)
        line = left.get_lines()[-2]
        line.set(color=colour, alpha=1.0, label=f"‖W‖ = {gain:g}")
    left.legend(fontsize=8.5, frameon=False)
    left.set_ylim(-3, 0.6)
    titled(left, "Lyapunov exponents of a tanh RNN")
    gains = np.linspace(0.5, 2.5, 21)
    for seed in range(3):
        leading = [fb.lyapunov_spectrum(cell, cell.init(seed, np.float64, gain=gain), x, k=1, transient=100).item()
                   for gain in gains]
        right.plot(gains, leading, "o-", color=plot.COLOURS[2], alpha=0.35 + 0.3 * seed, markersize=3, linewidth=1.4,
                   label=f"seed {seed}")
    right.plot(gains, np.log(gains), "--", color="0.45", linewidth=1.1, label="log ‖W‖, the bound")
    right.axhspan(-SLOPE, SLOPE, color=plot.COLOURS[1], alpha=0.25, linewidth=0, label="called stable")
    right.legend(fontsize=8.5, frameon=False)
    dressed(right, "The leading one, as W grows", "‖W‖, W a multiple of an orthogonal matrix", "growth per step (natural log)")
    saved(figure, "exponents")


def draw_training():
    """Per-step norms of two networks that are to recall their first input at the end."""
    figure, both = panels(1, 4.2)
    for axes, gain in zip(both, (0.7, 1.0), strict=True):
        plot.steps(recalled(gain), axes)
        titled(axes, f"Learning to recall step 1 at step 40, ‖W‖ = {gain:g}")
    saved(figure, "training")


def recalled(gain):
    """‖δ_t h_{t−1}ᵀ‖ by step, at a few moments of training."""
    cell, rng = fb.RNN(2, H), np.random.default_rng(0)
    model = fb.SequenceModel(cell, 2, "softmax_cross_entropy", "many_to_one")
    params = model.init(seed=0, dtype=np.float64, gain=gain)
    params = params._replace(cell=params.cell._replace(U=0.3 * params.cell.U))
    adam = fb.Adam(0.002)
    state, norms = adam.init(params), {}
    for update in range(301):
        first = rng.integers(0, 2, 64)
        x = 0.2 * rng.normal(size=(40, 64, 2))
        x[0, np.arange(64), first] += 1
        if update in (0, 10, 30, 300):
            tape, loss, dh = model.errors(params, x, first, reduction="mean")
            norms[f"after {update} updates, loss {loss:.2g}"] = fb.step_gradients(cell, params.cell, tape, dh).summed
        _, grads = model.loss_and_grad(params, x, first, reduction="mean")
        params, state = adam.update(params, grads, state)
    return norms


if __name__ == "__main__":
    draw_chains()
    draw_networks()
    draw_horizons()
    draw_exponents()
    draw_training()
