"""The results of the demo, as tables for the terminal and for Markdown."""
from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from .growth import Growth, products_per_step
from .machine import machine
from .text import SEQUENCE, Corpus
from .train import BATCH, HIDDEN, Trained

Rows = tuple[list[str], list[list[str]]]


@dataclass(frozen=True)
class Report:
    """All results of a run of the demo."""

    corpus: Corpus
    trained: Trained
    growth: Growth
    sample: tuple[str, str]
    """The prompt, and the text that the model generated after it."""

    def courses(self) -> Rows:
        """Header and rows: the cost of each gradient, and what the model learned with it."""
        header = ["gradient", "ms per gradient", "bits before", "bits after", "cosine before", "cosine after"]
        return header, [[c.name, f"{1e3 * float(np.median(c.seconds)):.2f}", f"{c.bits[0]:.2f}", f"{c.bits[-1]:.2f}",
                         f"{c.cosine[0]:.3f}", f"{c.cosine[-1]:.3f}"] for c in self.trained.courses]

    def costs(self) -> Rows:
        """Header and rows: milliseconds of forward and backward by T."""
        header = ["gradient", "δW per step", *(f"T = {T:,}" for T in self.growth.lengths)]
        return header, [[name, f"{products_per_step(name):.0f}", *(f"{1e3 * s:.2f}" for s in seconds)]
                        for name, seconds in self.growth.seconds.items()]

    def courses_caption(self) -> str:
        """The caption of the first table."""
        return (f"RNN of {HIDDEN} tanh units, {self.trained.updates[-1]:,} updates each on the same batches of {BATCH} × "
                f"{SEQUENCE} characters. A gradient is forward, readout, loss and backward; bits are per held-out character; the "
                "cosine is between the cell's gradient and the full one, on one batch, at the weights trained with full "
                "gradients.")

    def costs_caption(self) -> str:
        """The caption of the second table."""
        return ("Milliseconds of forward and backward through the cell for one sequence, medians; δW per step counts the "
                "products with W in the backward pass. A window needs more of them than full BPTT, chunks as many: what "
                f"truncation gains is rows that step back together, and a bounded reach. {machine()}.")

    def markdown(self) -> str:
        """Both tables with their captions."""
        parts = []
        for (header, rows), caption in ((self.courses(), self.courses_caption()), (self.costs(), self.costs_caption())):
            rule = ["---", *["---:"] * (len(header) - 1)]
            parts.append("\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows)) + f"\n\n{caption}\n")
        return "\n".join(parts)

    def tables(self) -> list[Any]:
        """Both as rich.table.Table (extra ``demo``)."""
        from rich import box
        from rich.table import Table

        tables = []
        for (header, rows), caption in ((self.courses(), self.courses_caption()), (self.costs(), self.costs_caption())):
            table = Table(caption=caption, box=box.SIMPLE_HEAD, caption_justify="left", padding=(0, 0))
            for number, name in enumerate(header):
                table.add_column(name, justify="right" if number else "left", min_width=6)
            for row in rows:
                table.add_row(*row)
            tables.append(table)
        return tables

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw everything in one picture (extra ``demo``)."""
        from .plot import draw
        draw(self, path)
