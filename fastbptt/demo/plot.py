"""The picture of the demo: learning by updates and by time, direction of the gradients, cost by T."""
from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from ..training.files import replacing
from .growth import products_per_step
from .machine import machine
from .text import SEQUENCE
from .train import BATCH, HIDDEN

if TYPE_CHECKING:
    from .report import Report

COLOURS = ("#22223b", "#e07a1f", "#1b8a8f")
GREY = "0.4"
LINE = 13.0         # points between the lines of labels
End = tuple[float, float, str]
Ends = tuple[list[End], float]
"""Where the lines of a panel end and what is said there, and the points between two labels."""


def draw(report: Report, path: str | os.PathLike[str]) -> None:
    """Write the picture to a file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")       # of a file's name in a script that the font lacks
        figure = make_figure(report)
        with replacing(path) as file:
            figure.savefig(file, dpi=130, format=Path(path).suffix[1:] or "png")


def make_figure(report: Report) -> Figure:
    """The four panels, laid out; names at the ends of the lines, when it is known where these end."""
    spacing = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1, hspace=0.04, wspace=0.03)
    figure = Figure(figsize=(12, 8.2), layout=spacing, facecolor="white")
    axes = figure.subplots(2, 2)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.22, linewidth=0.7)
        axis.tick_params(labelsize=9)
    ends = [_learning(axes[0, 0], report), _by_time(axes[0, 1], report), _cosine(axes[1, 0], report), _cost(axes[1, 1], report)]
    figure.suptitle("Full and truncated backpropagation through time on real text", x=0.012, ha="left", fontsize=15,
                    weight="bold")
    figure.supxlabel(f"{report.corpus.sizes()}.\nRNN of {HIDDEN} tanh units; batches of {BATCH} × {SEQUENCE} characters, the "
                     "same for all; each gradient trains a model of its own from the same start. "
                     f"{machine()}.", fontsize=8.5, color=GREY, x=0.012, ha="left", parse_math=False)
    figure.draw_without_rendering()
    for axis, (places, gap) in zip(axes.flat, ends, strict=True):
        _label_ends(axis, places, gap)
    figure.draw_without_rendering()
    return figure


def _title(axis: Any, title: str, x: str, y: str) -> None:
    axis.set_title(title, loc="left", fontsize=11.5, weight="bold", pad=10)
    axis.set_xlabel(x, fontsize=9.5)
    axis.set_ylabel(y, fontsize=9.5)


def _label_ends(axis: Any, ends: list[End], gap: float) -> None:
    """Names right of all ends, beside their own, pushed apart until `gap` points lie between them, and none above the panel."""
    scale = 72 / axis.figure.dpi
    points = [axis.transData.transform((x, y)) * scale for x, y, _ in ends]
    order = sorted(range(len(ends)), key=lambda k: points[k][1])
    heights = np.array([points[k][1] for k in order])
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    heights -= np.mean(heights) - np.mean([p[1] for p in points])
    top = axis.bbox.y1 * scale - gap / 2
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], top)
        top = heights[i] - gap
    right = max(p[0] for p in points)
    for k, height in zip(order, heights, strict=True):
        x, y, text = ends[k]
        axis.annotate(text, (x, y), xytext=(right - points[k][0] + 8, height - points[k][1]), textcoords="offset points",
                      va="center", fontsize=9.5, color=COLOURS[k], annotation_clip=False)


def _learning(axis: Any, report: Report) -> Ends:
    updates, courses = report.trained.updates, report.trained.courses
    for course, colour in zip(courses, COLOURS, strict=True):
        axis.plot(updates, course.bits, "o-", color=colour, markersize=3.5, linewidth=1.8)
    axis.set_xlim(0, 1.3 * updates[-1])
    axis.axhline(np.log2(len(report.corpus.vocabulary)), color=GREY, linewidth=0.9, linestyle=":")
    axis.annotate("all characters equally likely", (1.28 * updates[-1], np.log2(len(report.corpus.vocabulary))), ha="right",
                  va="top", xytext=(0, -4), textcoords="offset points", fontsize=8.5, color=GREY)
    axis.set_ylim(bottom=0)
    _title(axis, "What is learned, update by update", "updates", "bits per held-out character")
    return [(updates[-1], c.bits[-1], f"{c.name}: {c.bits[-1]:.2f}") for c in courses], LINE


def _by_time(axis: Any, report: Report) -> Ends:
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
    return [(s[-1], c.bits[-1], text) for s, c, text in zip(spent, courses, texts, strict=True)], LINE


def _cosine(axis: Any, report: Report) -> Ends:
    updates, courses = report.trained.updates, report.trained.courses
    for course, colour in zip(courses, COLOURS, strict=True):
        axis.plot(updates, course.cosine, "o-", color=colour, markersize=3.5, linewidth=1.8)
    axis.set_xlim(0, 1.3 * updates[-1])
    axis.set_ylim(min(0.7, *(min(c.cosine) for c in courses)) - 0.02, 1.03)
    _title(axis, "Direction: cosine of each gradient with the full one", "updates with full gradients",
           "cosine, parameters of the cell")
    return [(updates[-1], c.cosine[-1], f"{c.name}: {c.cosine[-1]:.3f}") for c in courses], LINE


def _cost(axis: Any, report: Report) -> Ends:
    growth = report.growth
    for seconds, colour in zip(growth.seconds.values(), COLOURS, strict=True):
        axis.loglog(growth.lengths, [1e3 * s for s in seconds], "o-", color=colour, markersize=3.5, linewidth=1.8)
    axis.set_xlim(growth.lengths[0] / 1.15, growth.lengths[-1] * 3.6)
    axis.set_ylim(top=2e3 * max(max(s) for s in growth.seconds.values()))       # room for the label below the title
    axis.xaxis.set_major_locator(FixedLocator(list(growth.lengths)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticklabels([f"{T:,}" for T in growth.lengths])
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _title(axis, "Cost of one gradient by length, one sequence", "T, steps (log)", "ms, forward and backward (log)")
    texts = [f"{name}: {1e3 * s[-1]:.1f} ms\n{products_per_step(name):.0f} δW per step" for name, s in growth.seconds.items()]
    return [(growth.lengths[-1], 1e3 * s[-1], text) for s, text in zip(growth.seconds.values(), texts, strict=True)], 2 * LINE + 2
