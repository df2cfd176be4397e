"""The curves of a run: its learning curves, and the norm of its gradients."""
from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import NullFormatter

from ..training.files import replacing
from .metrics import METRICS, read_metrics
from .train import PICTURE, Run

DARK, ORANGE, TEAL, GREY = "#22223b", "#e07a1f", "#1b8a8f", "0.4"


def draw(run: Run) -> Path:
    """Write the picture into the folder of the run."""
    lines = read_metrics(run.folder / METRICS)
    trained = [line for line in lines if "loss" in line]
    held_out = [line for line in lines if "held_out" in line]
    figure = Figure(figsize=(9, 6.4), facecolor="white", layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for axis in (top, bottom):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.22, linewidth=0.7)
        axis.tick_params(labelsize=9)
    _learning(top, run, trained, held_out)
    updates = [line["update"] for line in trained]
    bottom.semilogy(updates, [line["norm"] for line in trained], color=ORANGE, linewidth=0.9)
    bottom.axhline(run.settings.clip, color=GREY, linewidth=0.9, linestyle=":")
    bottom.annotate("clipped above", (1, run.settings.clip), xycoords=("axes fraction", "data"), xytext=(-4, 4), ha="right",
                    textcoords="offset points", fontsize=8.5, color=GREY)
    bottom.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    bottom.yaxis.set_minor_formatter(NullFormatter())
    bottom.set_xlabel("updates", fontsize=9.5)
    bottom.set_xlim(left=0)
    bottom.set_title("Largest norm of a gradient in 20 updates (log)", loc="left", fontsize=11, weight="bold")
    s = run.settings
    layers = f"{s.layers} layers of {s.hidden}" if s.layers > 1 else str(s.hidden)
    figure.suptitle(f"{s.cell.upper()}, {layers} units, on {Path(s.source).name}", x=0.012, ha="left", fontsize=14, weight="bold",
                    parse_math=False)
    cut = f", truncation {s.truncate}" if s.truncate != "full" else ""
    figure.supxlabel(f"Batches of {s.lanes} × {s.window} steps{cut}; {s.optimizer}, learning rate {s.lr:g} ({s.schedule}), "
                     f"clipped at {s.clip:g}; {run.seconds:,.0f} s.", fontsize=8.5, color=GREY, x=0.012, ha="left")
    path = run.folder / PICTURE
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")       # of a file's name in a script that the font lacks
        with replacing(path) as file:
            figure.savefig(file, dpi=120, format="png")
    return path


def _learning(axis: Any, run: Run, trained: list[dict[str, Any]], held_out: list[dict[str, Any]]) -> None:
    axis.plot([line["update"] for line in trained], [line["loss"] for line in trained], color=DARK, linewidth=0.9, alpha=0.75,
              label="windows trained on, before their update")
    label = "held-out tenth" + (f", at the end {held_out[-1]['held_out']:.3f}" if held_out else "")
    axis.plot([line["update"] for line in held_out], [line["held_out"] for line in held_out], "o-", color=TEAL, markersize=4,
              linewidth=1.8, label=label)
    axis.legend(frameon=False, fontsize=9.5)
    values = np.array([line["loss"] for line in trained] + [line["held_out"] for line in held_out], float)
    if (finite := values[np.isfinite(values)]).any():
        axis.set_ylim(0, 1.05 * float(np.quantile(finite, 0.995)))
    axis.set_title(run.data.unit.capitalize(), loc="left", fontsize=11, weight="bold")
