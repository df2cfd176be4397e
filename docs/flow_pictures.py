"""Makes the pictures of gradient_flow.md: python docs/flow_pictures.py"""
from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import fastbptt as fb
from fastbptt.flow import plot

FOLDER = Path(__file__).parent
T, B, H = 80, 8, 48


def flow(cell, params, seed=0):
    """The report of a loss on the last step alone, so that every lag is a distance to it."""
    x = np.random.default_rng(seed).normal(size=(T, B, cell.input_size))
    tape = fb.forward(cell, params, x)
    dh = np.zeros_like(tape.h)
    dh[-1] = np.random.default_rng(1).normal(size=(B, cell.hidden_size))
    return fb.gradient_flow(cell, params, tape, dh)


def networks():
    """Four networks that differ in what they do to an error."""
    rnn, lstm = fb.RNN(8, H), fb.LSTM(8, H)
    small = rnn.init(seed=0, dtype=np.float64, gain=0.6)
    yield "tanh, ‖W‖ = 0.6", rnn, small
    orthogonal = rnn.init(seed=0, dtype=np.float64)
    yield "tanh, orthogonal W", rnn, orthogonal._replace(U=0.1 * orthogonal.U)
    yield "relu, W = 1.05 · identity", fb.RNN(8, H, "relu"), rnn.init(seed=0, dtype=np.float64, recurrent="identity", gain=1.05)
    yield "LSTM, gate biases for 80 steps", lstm, lstm.init(seed=0, dtype=np.float64, gain=0.3, chrono=80)


def draw_networks():
    figure = Figure(figsize=(12, 8), layout="constrained", facecolor="white")
    maps = Figure(figsize=(12, 8), layout="constrained", facecolor="white")
    for name, axes, below in zip(networks(), figure.subplots(2, 2).flat, maps.subplots(2, 2).flat, strict=True):
        title, cell, params = name
        report = flow(cell, params)
        plot.by_lag(report, axes).set_title(f"{title}: {report.verdict}", loc="left", fontsize=11, weight="bold")
        plot.reach(report, below).set_title(f"{title}: {report.verdict}", loc="left", fontsize=11, weight="bold")
        print(f"| {title} | {report.verdict} | {report.rates.min():+.3f} to {report.rates.max():+.3f} | {report.horizon} |")
    figure.savefig(FOLDER / "flow-lags.png", dpi=110)
    maps.savefig(FOLDER / "flow-reach.png", dpi=110)


def draw_training():
    """Per-step norms of a network that learns to recall its first input at the end, and exponents by gain."""
    cell, rng = fb.RNN(2, H), np.random.default_rng(0)
    model = fb.SequenceModel(cell, 2, "softmax_cross_entropy", "many_to_one")
    params = model.init(seed=0)
    params = params._replace(cell=params.cell._replace(U=0.3 * params.cell.U))
    adam = fb.Adam(0.002)
    state, norms = adam.init(params), {}
    for update in range(301):
        first = rng.integers(0, 2, 64)
        x = 0.2 * rng.normal(size=(40, 64, 2)).astype(np.float32)
        x[0, np.arange(64), first] += 1
        if update in (0, 30, 300):
            tape, loss, dh = model.errors(params, x, first, reduction="mean")
            norms[f"after {update} updates, loss {loss:.3f}"] = fb.step_gradients(cell, params.cell, tape, dh).summed
        _, grads = model.loss_and_grad(params, x, first, reduction="mean")
        params, state = adam.update(params, grads, state)
    figure = Figure(figsize=(12, 4.2), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    plot.steps(norms, left)
    for gain in (0.5, 1.0, 1.5, 3.0):
        weights = fb.RNN(1, H).init(seed=0, dtype=np.float64, gain=gain)
        spectrum = fb.lyapunov_spectrum(fb.RNN(1, H), weights, 0.05 * rng.normal(size=(600, 1, 1)), transient=100)
        plot.exponents(spectrum, right)
        right.get_lines()[-2].set_label(f"gain {gain:g}")
    for line, colour in zip(right.get_lines()[::2], plot.COLOURS, strict=False):
        line.set_color(colour)
    right.legend(fontsize=8.5, frameon=False)
    figure.savefig(FOLDER / "flow-training.png", dpi=110)


if __name__ == "__main__":
    draw_networks()
    draw_training()
