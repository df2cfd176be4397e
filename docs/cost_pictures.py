"""Measures time and memory by sequence length, draws docs/cost.png and writes the table of long-sequences.md.

    python docs/cost_pictures.py            # some minutes, on a machine with nothing else running
    python docs/cost_pictures.py --turns 1  # a quick look
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from tables import rewrite

from fastbptt.bench.cost import BUDGET, HIDDEN, INPUTS, LENGTHS, Cost, measure_cost
from fastbptt.demo.machine import machine

FOLDER = Path(__file__).parent
COLOURS = {"full": "#22223b", "chunks of 32": "#e07a1f", "window of 32": "#1b8a8f", "checkpointed": "#9b2f6b"}


def draw(cost: Cost, path: Path) -> None:
    """Time per step and peak memory against T."""
    figure = Figure(figsize=(12, 4.8), layout="constrained", facecolor="white")
    times, peaks = figure.subplots(1, 2)
    for form, colour in COLOURS.items():
        times.plot(cost.lengths, 1e9 * np.array(cost.seconds[form]) / cost.lengths, "o-", color=colour, label=form)
        peaks.plot(cost.lengths, np.array(cost.peaks[form]) / 2**20, "o-", color=colour, label=form)
    peaks.axhline(float(BUDGET.split()[0]), color=COLOURS["checkpointed"], linestyle=":", label=f"budget, {BUDGET}")
    peaks.set_yscale("log", base=2)
    for axes, title, unit in ((times, "Time per step, forward and backward", "nanoseconds"),
                              (peaks, "Peak memory, inputs and results excluded", "MiB")):
        axes.set_title(title, loc="left", fontsize=11.5, weight="bold")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(cost.lengths))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([f"{T:,}" for T in cost.lengths])
        axes.set(xlabel="T", ylabel=unit)
        axes.legend(frameon=False)
        axes.grid(alpha=0.22)
        axes.spines[["top", "right"]].set_visible(False)
    times.set_ylim(bottom=0)
    peaks.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    figure.supxlabel(f"RNN, float32, B = 1, I = {INPUTS}, H = {HIDDEN}. {machine()}.", fontsize=8.5, color="0.4", x=0.012,
                     ha="left")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=51, help="runs of every form at every length (default: %(default)s)")
    cost = measure_cost(LENGTHS, parser.parse_args().turns)
    page = FOLDER / "long-sequences.md"
    page.write_text(rewrite(page.read_text(encoding="utf-8"), "cost", cost.markdown()), encoding="utf-8")
    draw(cost, FOLDER / "cost.png")


if __name__ == "__main__":
    sys.exit(main())
