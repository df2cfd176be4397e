"""The picture of the demo: learning by updates and by time, direction of the gradients, cost by T."""
from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, NullLocator

from ..training.files import replacing
from .growth import products_per_step
from .machine import machine
from .text import SEQUENCE
from .train import BATCH, HIDDEN

if TYPE_CHECKING:
    from .report import Report

COLOURS = ("#22223b", "#e07a1f", "#1b8a8f")
GREY = "0.4"


def draw(report: Report, path: str | os.PathLike[str]) -> None:
    """Write the picture to a file."""
    spacing = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1, hspace=0.04, wspace=0.03)
    figure = Figure(figsize=(12, 8.2), layout=spacing, facecolor="white")
    axes = figure.subplots(2, 2)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.22, linewidth=0.7)
        axis.tick_params(labelsize=9)
    _learning(axes[0, 0], report)
    _by_time(axes[0, 1], report)
    _cosine(axes[1, 0], report)
    _cost(axes[1, 1], report)
    figure.suptitle("Full and truncated backpropagation through time on real text", x=0.012, ha="left", fontsize=15,
                    weight="bold")
    figure.supxlabel(f"{report.corpus.sizes()}.\nRNN of {HIDDEN} tanh units; batches of {BATCH} × {SEQUENCE} characters, the "
                     "same for all; each gradient trains a model of its own from the same start. "
                     f"{machine()}.", fontsize=8.5, color=GREY, x=0.012, ha="left", parse_math=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")       # of a file's name in a script that the font lacks
        with replacing(path) as file:
            figure.savefig(file, dpi=130, format=Path(path).suffix[1:] or "png")


def _title(axis: Any, title: str, x: str, y: str) -> None:
    axis.set_title(title, loc="left", fontsize=11.5, weight="bold", pad=10)
    axis.set_xlabel(x, fontsize=9.5)
    axis.set_ylabel(y, fontsize=9.5)


def _label_ends(axis: Any, ends: list[tuple[float, float, str]], gap: float = 13) -> None:
    """Names at the ends of their lines, pushed apart until `gap` points lie between them; drawn after the limits are final."""
    points = [axis.transData.transform((x, y)) * 72 / axis.figure.dpi for x, y, _ in ends]
    order = sorted(range(len(ends)), key=lambda k: points[k][1])
    heights = [points[k][1] for k in order]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    shift = float(np.mean(heights) - np.mean([p[1] for p in points]))
    for k, height in zip(order, heights, strict=True):
        x, y, text = ends[k]
        axis.annotate(text, (x, y), xytext=(8, height - shift - points[k][1]), textcoords="offset points", va="center",
                      fontsize=9.5, color=COLOURS[k], annotation_clip=False)


def _learning(axis: Any, report: Report) -> None:
    updates, courses = report.trained.updates, report.trained.courses
    for course, colour in zip(courses, COLOURS, strict=True):
        axis.plot(updates, course.bits, "o-", color=colour, markersize=3.5, linewidth=1.8)
    axis.set_xlim(0, 1.3 * updates[-1])
    axis.axhline(np.log2(len(report.corpus.vocabulary)), color=GREY, linewidth=0.9, linestyle=":")
    axis.annotate("all characters equally likely", (1.28 * updates[-1], np.log2(len(report.corpus.vocabulary))), ha="right",
                  xytext=(0, 4), textcoords="offset points", fontsize=8.5, color=GREY)
    axis.set_ylim(bottom=0)
    _title(axis, "What is learned, update by update", "updates", "bits per held-out character")
    _label_ends(axis, [(updates[-1], c.bits[-1], f"{c.name}: {c.bits[-1]:.2f}") for c in courses])


def _by_time(axis: Any, report: Report) -> None:
    """On a log axis a gradient that costs more is a curve further to the right by one distance everywhere."""
    updates, courses = report.trained.updates, report.trained.courses
    spent = [[float(np.sum(c.seconds[:n])) for n in updates] for c in courses]
    for course, seconds, colour in zip(courses, spent, COLOURS, strict=True):
        axis.semilogx(seconds[1:], course.bits[1:], "o-", color=colour, markersize=3.5, linewidth=1.8)
    axis.set_xlim(right=5 * max(s[-1] for s in spent))
    axis.set_ylim(bottom=min(c.bits[-1] for c in courses) - 0.5)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _title(axis, "The same, by the time spent on gradients", "seconds in forward, readout, loss and backward (log)",
           "bits per held-out character")
    texts = [f"{c.name}: {1e3 * float(np.median(c.seconds)):.1f} ms each" for c in courses]
    _label_ends(axis, [(s[-1], c.bits[-1], text) for s, c, text in zip(spent, courses, texts, strict=True)])


def _cosine(axis: Any, report: Report) -> None:
    updates, courses = report.trained.updates, report.trained.courses
    for course, colour in zip(courses, COLOURS, strict=True):
        axis.plot(updates, course.cosine, "o-", color=colour, markersize=3.5, linewidth=1.8)
    axis.set_xlim(0, 1.3 * updates[-1])
    axis.set_ylim(min(0.7, *(min(c.cosine) for c in courses)) - 0.02, 1.03)
    _title(axis, "Direction: cosine of each gradient with the full one", "updates with full gradients",
           "cosine, parameters of the cell")
    _label_ends(axis, [(updates[-1], c.cosine[-1], f"{c.name}: {c.cosine[-1]:.3f}") for c in courses])


def _cost(axis: Any, report: Report) -> None:
    growth = report.growth
    for seconds, colour in zip(growth.seconds.values(), COLOURS, strict=True):
        axis.loglog(growth.lengths, [1e3 * s for s in seconds], "o-", color=colour, markersize=3.5, linewidth=1.8)
    axis.set_xlim(growth.lengths[0] / 1.15, growth.lengths[-1] * 3.6)
    axis.xaxis.set_major_locator(FixedLocator(list(growth.lengths)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticklabels([f"{T:,}" for T in growth.lengths])
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _title(axis, "Cost of one gradient by length, one sequence", "T, steps (log)", "ms, forward and backward (log)")
    texts = [f"{name}: {1e3 * s[-1]:.1f} ms\n{products_per_step(name):.0f} δW per step" for name, s in growth.seconds.items()]
    _label_ends(axis, [(growth.lengths[-1], 1e3 * s[-1], text)
                       for s, text in zip(growth.seconds.values(), texts, strict=True)], gap=28)
