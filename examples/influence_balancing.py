"""Influence balancing: a problem on which a short horizon has the wrong sign (Tallec & Ollivier, arXiv 1705.08209).

    python examples/influence_balancing.py             # prints the tables, about a minute
    python examples/influence_balancing.py --write     # and puts them and the picture into docs/truncation-bias.md

In a chain of n = 23 linear units, s_t = A s_{t−1} + θ v, each unit keeps half of its state and passes the other half to the
unit before it: A_ii = A_{i,i+1} = ½. The one parameter θ drives the first p = 10 units with +θ and the 13 behind them with −θ.
The loss is ½ (s¹_t − 1)². Increasing θ raises s¹ for some twenty steps, lowers it for the next thirty, and lowers it on
balance: a gradient that looks back too few steps pushes θ away from the solution.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastbptt as fb

DOCS = Path(__file__).resolve().parents[1] / "docs"
N, PLUS = 23, 10
SIGNS = np.where(np.arange(N) < PLUS, 1.0, -1.0)
PAST = 256                      # steps after which 1e-40 of an influence is left: a window of this length has the full gradient
STEPS, RATE, HALVED = 40_000, 1e-4, 2000
WINDOWS = (1, 10, 19, 30, 40, 41, 45, 50, 60, 100)
CHUNKS = (10, 41, 60, 80, 100, 109, 110, 120, 150, 200)
MIXTURES = ((106, 100), (107, 100), (140, 100), (160, 100))

CELL = fb.RNN(1, N, activation="identity")
Vector = NDArray[np.float64]


def network(theta: float) -> fb.RNNParams:
    """s_t = A s_{t−1} + θ v as a recurrent network without inputs: W = A, b = θ v."""
    return fb.RNNParams(np.zeros((N, 1)), 0.5 * (np.eye(N) + np.eye(N, k=1)), theta * SIGNS)


def nothing(steps: int) -> Vector:
    """The input: zeros."""
    return np.zeros((steps, 1, 1))


# ---- on paper

def influence(lags: int = PAST) -> Vector:
    """∂s¹_t/∂θ through step t − j, for j = 0, 1, …: the first row of A^j times v, a sum of binomial probabilities.

    2^j A^j = (I + shift)^j has the entry C(j, m) at (1, 1 + m), so the lag is P(X < p) − P(p ≤ X < n) with X ~ Bin(j, ½).
    """
    return np.array([sum(comb(j, m) * SIGNS[m] for m in range(min(j + 1, N))) / 2.0**j for j in range(lags)])


def reached(horizon: int, stride: int) -> float:
    """∂s¹/∂θ as BPTT(horizon; stride) sees it, the mean over the steps between two ends; −6 for the full gradient.

    An error i steps before its end goes back over horizon − i steps, i = 0 … stride − 1.
    """
    sums = np.cumsum(influence(max(horizon, PAST)))
    return float(np.mean(sums[horizon - stride:horizon]))


def threshold(form: Callable[[int], fb.Truncation], seen: Callable[[int, int], float] = reached) -> int:
    """The first horizon with the sign of the full gradient."""
    forms = (form(horizon) for horizon in range(1, PAST))
    return next(cut.horizon for cut in forms if seen(cut.horizon, cut.stride) < 0)


# ---- as data

def measured_influence(lags: int = PAST) -> Vector:
    """The same as `influence`, from the gradients by lag of an error at s¹ in the last step alone."""
    params, tape = run(0.0, lags)
    dh = np.zeros_like(tape.h)
    dh[-1, 0, 0] = 1
    return np.asarray(fb.lag_gradients(CELL, params, tape, dh, lags).b @ SIGNS)


def measured(horizon: int, stride: int) -> float:
    """The same as `reached`, from `backward`: an error of 1 at every step between two ends."""
    params, tape = run(0.0, stride * -(-PAST // stride))
    dh = np.zeros_like(tape.h)
    dh[-stride:, 0, 0] = 1
    return float(fb.backward(CELL, params, tape, dh, fb.Truncation(horizon, stride)).params.b @ SIGNS) / stride


def run(theta: float, steps: int) -> tuple[fb.RNNParams, fb.Tape]:
    """The parameters, and the tape of this many steps from rest."""
    params = network(theta)
    return params, fb.forward(CELL, params, nothing(steps))


# ---- learning online

@dataclass
class Course:
    """One learner on the endless stream."""

    name: str
    truncation: fb.Truncation | None
    errors: Vector
    """|s¹_t − 1| at every step."""

    @property
    def last(self) -> float:
        """The error at the end, the median of a thousand steps; it was 1 at the beginning, with θ = 0."""
        return float(np.median(self.errors[-1000:]))

    @property
    def converges(self) -> bool:
        """Whether the error has become smaller."""
        return self.last < 1


def rate(step: int) -> float:
    """The learning rate, which decays like 1/√t."""
    return RATE / (1 + step / HALVED) ** 0.5


def learn(name: str, truncation: fb.Truncation | None, steps: int = STEPS) -> Course:
    """SGD on the stream: forward over the next steps up to an end, back by the truncation, one update; the state is carried on.

    A horizon that is longer than the stride reaches into earlier steps; they are run again, from a stored state. The
    network is linear, so the gradient depends on them only through the errors, and those of old steps are 0 here. Full BPTT
    has no truncation and a past of 256 steps, beyond which no influence is left that float64 could represent.
    """
    stride = 1 if truncation is None else truncation.stride
    past = PAST if truncation is None else stride * -(-(truncation.horizon - stride) // stride)
    theta, errors = 0.0, np.empty(steps // stride * stride)
    states = [fb.RNNState(np.zeros((1, N)))]                  # at the ends, oldest first
    for start in range(0, errors.size, stride):
        params = network(theta)
        new = fb.forward(CELL, params, nothing(stride), states[-1])
        old = min(past // stride, len(states) - 1)
        tape = new if old == 0 else fb.forward(CELL, params, nothing((old + 1) * stride), states[-1 - old])
        dh = np.zeros_like(tape.h)
        dh[-stride:, 0, 0] = new.h[:, 0, 0] - 1               # ∂ℓ/∂s¹ of the new steps
        theta -= rate(start) * float(fb.backward(CELL, params, tape, dh, truncation).params.b @ SIGNS)
        errors[start:start + stride] = np.abs(dh[-stride:, 0, 0])
        states = [*states[-1 - past // stride:], new.final]
    return Course(name, truncation, errors)


def courses(steps: int = STEPS) -> list[Course]:
    """Full BPTT, then windows, chunks and mixtures."""
    forms = [(f"window {h}", fb.Truncation(h)) for h in WINDOWS] + [(f"chunks {k}", fb.Truncation.chunks(k)) for k in CHUNKS]
    forms += [(f"mixture {h}; {s}", fb.Truncation(h, s)) for h, s in MIXTURES]
    return [learn("full", None, steps), *(learn(name, cut, steps) for name, cut in forms)]


# ---- table and picture

def table(done: Sequence[Course]) -> str:
    """The courses as Markdown."""
    rows = ["| BPTT | ∂s¹/∂θ on paper | measured | error in the end | |", "| --- | ---: | ---: | ---: | --- |"]
    for course in done:
        cut = course.truncation
        horizon, stride = (PAST, 1) if cut is None else (cut.horizon, cut.stride)
        verdict = "converges" if course.converges else "**diverges**"
        seen = f"{reached(horizon, stride):+.3f} | {measured(horizon, stride):+.3f}"
        rows.append(f"| {course.name} | {seen} | {course.last:.1e} | {verdict} |")
    return "\n".join(rows)


def draw_reach(lags: Any, sums: Any) -> None:
    """The influence by lag, and what every horizon sees of it."""
    lags.bar(np.arange(80), measured_influence(80), color="#8fb4df", width=0.8, label="measured (lag_gradients)")
    lags.plot(np.arange(80), influence(80), ".", color="#333333", markersize=4, label="on paper (binomial)")
    lags.set(title="Influence of θ on s¹, j steps later", xlabel="lag j", ylabel="∂s¹/∂θ through this lag")
    horizons = np.arange(1, 161)
    for form, colour in ((fb.Truncation, "#2a78d6"), (fb.Truncation.chunks, "#d9632b")):
        first = threshold(form)
        kind = "window" if form is fb.Truncation else "chunks"
        seen = [reached(h, form(h).stride) for h in horizons.tolist()]
        sums.plot(horizons, seen, color=colour, label=f"{kind}: right sign from {first}")
        sums.axvline(first, color=colour, linewidth=0.8, linestyle=":")
    sums.axhline(-6, color="#333333", linestyle="--", linewidth=1, label="full: −6")
    sums.set(title="∂s¹/∂θ as a horizon sees it", xlabel="horizon", ylabel="∂s¹/∂θ")
    for axes in (lags, sums):
        axes.axhline(0, color="#333333", linewidth=0.6)
        axes.legend(fontsize=9, frameon=False)


def draw_learning(axes: Any, done: Sequence[Course], title: str) -> None:
    """The error of every learner, from short horizons (light) to long ones (dark)."""
    from matplotlib import colormaps

    for place, course in enumerate(done):
        smooth = np.median(course.errors[:course.errors.size // 200 * 200].reshape(-1, 200), axis=1)
        colour = "black" if course.truncation is None else colormaps["plasma_r"](0.1 + 0.85 * place / len(done))
        axes.semilogy(200 * np.arange(smooth.size), np.clip(smooth, 1e-13, None), color=colour, linewidth=1.5,
                      linestyle="-" if course.converges else "--", label=course.name)
    axes.axhline(1, color="#999999", linewidth=0.8)
    axes.set(title=f"Learning online, {title} (dashed: diverges)", xlabel="step of the stream", ylabel="|s¹ − 1|")
    axes.set_ylim(1e-12, 1e14)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def draw(done: Sequence[Course], path: Path) -> None:
    """The picture of the page."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 8.4), layout="constrained", facecolor="white")
    lags, sums, windows, chunks = figure.subplots(2, 2).flat
    draw_reach(lags, sums)
    full, last = done[0], f"mixture {MIXTURES[-1][0]}; {MIXTURES[-1][1]}"
    draw_learning(windows, [*(c for c in done if c.name.startswith("window")), full], "windows")
    draw_learning(chunks, [*(c for c in done if c.name.startswith("chunks") or c.name == last), full], "chunks")
    for axes in (lags, sums, windows, chunks):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    """Thresholds, then the courses."""
    parser = argparse.ArgumentParser(description="Influence balancing: bias of truncated BPTT on paper, as data, in training.")
    parser.add_argument("--write", action="store_true", help="put the table and the picture into docs/")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of the stream (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    for name, form in (("windows", fb.Truncation), ("chunks", fb.Truncation.chunks)):
        print(f"{name}: the right sign from horizon {threshold(form)} on paper, {threshold(form, measured)} measured")
    done = courses(steps=chosen.steps)
    print(table(done))
    if chosen.write:
        sys.path.insert(0, str(DOCS))
        from tables import rewrite

        page = DOCS / "truncation-bias.md"
        page.write_text(rewrite(page.read_text(encoding="utf-8"), "horizons", table(done)), encoding="utf-8")
        draw(done, DOCS / "truncation-bias.png")


if __name__ == "__main__":
    main()
