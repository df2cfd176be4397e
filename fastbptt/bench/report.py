"""The results of a run of the benchmark, as data, table, Markdown, JSON and picture."""

from __future__ import annotations

import importlib
import json
import os
import statistics
from dataclasses import asdict, dataclass, replace
from typing import Any

from .cases import Case
from .machine import describe
from .peers import OURS
from .side import package_of


@dataclass(frozen=True)
class Timing:
    """One side in one case: median and quartiles, in seconds of a call, over ``turns`` turns of ``calls`` calls each.

    ``how`` says in words which of its variants was the fastest.
    """

    side: str
    seconds: float
    low: float
    high: float
    turns: int
    calls: int
    how: str = ""


@dataclass(frozen=True)
class CaseResult:
    """All sides in one case, in the order of their turns."""

    case: Case
    timings: tuple[Timing, ...]

    def seconds(self, side: str) -> float | None:
        """Median of a side, or None if it did not take part."""
        return next((t.seconds for t in self.timings if t.side == side), None)

    @property
    def ratio(self) -> float | None:
        """The best peer's time over ours; None without peers or without us."""
        ours = self.seconds(OURS)
        peers = [t.seconds for t in self.timings if t.side != OURS]
        return min(peers) / ours if peers and ours is not None else None

    def gflops(self, side: str) -> float | None:
        """Rate of a side by the operations that the case counts."""
        seconds = self.seconds(side)
        return None if seconds is None else 1e-9 * self.case.flops / seconds


@dataclass(frozen=True)
class Report:
    """A whole run: the machine, the limit of threads, missing peers with the reason, GFLOP/s of the large product by dtype."""

    machine: dict[str, str]
    threads: int | None
    missing: dict[str, str]
    product_gflops: dict[str, float]
    results: tuple[CaseResult, ...]

    @property
    def sides(self) -> tuple[str, ...]:
        """Names of all sides that took part in any case, ours first."""
        return tuple(dict.fromkeys(t.side for result in self.results for t in result.timings))

    def percent(self, result: CaseResult, side: str) -> float | None:
        """Rate of a side in percent of the large NumPy product, same dtype, same threads, same run."""
        rate = result.gflops(side)
        return None if rate is None else 100 * rate / self.product_gflops[result.case.dtype]

    def caption(self) -> str:
        """One sentence on how to read the figures."""
        each = "all cores" if self.threads is None else f"{self.threads} thread(s)"
        if self.threads is None and any(timing.how for result in self.results for timing in result.timings):
            each = "each side with the better of 1 thread and all cores"
        left_out = "".join(f"; {name} left out" for name in self.missing)
        return f"Forward + backward, median ms, {each}. {describe(self.machine, self.product_gflops)}{left_out}."

    def by_package(self) -> Report:
        """The same with one side for each library, the fastest of its forms in each case."""
        results = []
        for result in self.results:
            best: dict[str, Timing] = {}
            for timing in sorted(result.timings, key=lambda timing: timing.seconds):
                best.setdefault(package_of(timing.side), timing)
            order = dict.fromkeys(package_of(timing.side) for timing in result.timings)
            results.append(replace(result, timings=tuple(replace(best[package], side=package) for package in order)))
        return replace(self, results=tuple(results))

    def summary(self) -> str:
        """One sentence: in how many of the cases with peers we are the fastest side, and by how much.

        Raises
        ------
        ValueError
            If no case was measured with a peer.
        """
        ratios = sorted(result.ratio for result in self.results if result.ratio is not None)
        if not ratios:
            raise ValueError("results: expected a case that a peer took part in, got none; install torch or jax")
        fastest = sum(ratio > 1 for ratio in ratios)
        low, middle, high = (_number(ratio) for ratio in (ratios[0], statistics.median(ratios), ratios[-1]))
        return (
            f"fastbptt is the fastest in {fastest} of {len(ratios)} cases: the best peer takes {low} to {high} times as long, "
            f"{middle} times in the median."
        )

    def _rows(self) -> tuple[list[str], list[list[str]]]:
        header = ["case", *(f"{side} ms" for side in self.sides), "GFLOP/s", "% of product", "best peer / ours"]
        rows = []
        for result in self.results:
            times = [_number(result.seconds(side), 1e3) for side in self.sides]
            figures = [_number(result.gflops(OURS)), _number(self.percent(result, OURS)), _number(result.ratio)]
            rows.append([result.case.name, *times, *figures])
        return header, rows

    def table(self) -> Any:
        """A rich.table.Table (extra ``demo``)."""
        box, table_module = importlib.import_module("rich.box"), importlib.import_module("rich.table")
        header, rows = self._rows()
        table = table_module.Table(caption=self.caption(), box=box.SIMPLE_HEAD, padding=(0, 0))
        for number, name in enumerate(header):
            # Figures are never cut: on a narrow terminal it is the name of the case that folds.
            table.add_column(name, justify="right" if number else "left", min_width=7 if number else 15, overflow="fold")
        for row in rows:
            table.add_row(*row)
        return table

    def markdown_rows(self) -> str:
        """The same table in Markdown, alone."""
        header, rows = self._rows()
        rule = ["---", *["---:"] * (len(header) - 1)]
        return "".join("| " + " | ".join(row) + " |\n" for row in (header, rule, *rows))

    def markdown(self) -> str:
        """The same table in Markdown, with its caption below."""
        return f"{self.markdown_rows()}\n{self.caption()}\n"

    def to_json(self) -> str:
        """Everything, derived figures included."""
        data = asdict(self)
        for result, entry in zip(self.results, data["results"], strict=True):
            entry |= {"name": result.case.name, "flops": result.case.flops, "ratio": result.ratio}
            for timing in entry["timings"]:
                timing["gflops"] = result.gflops(timing["side"])
                timing["percent"] = self.percent(result, timing["side"])
        return json.dumps(data, indent=1)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws grouped bars, one panel per cell and dtype, time on a log scale, the ratio above our bars (extra ``demo``)."""
        figure_module = importlib.import_module("matplotlib.figure")
        panels: dict[str, list[CaseResult]] = {}
        for result in self.results:
            panels.setdefault(f"{result.case.cell} {result.case.dtype}", []).append(result)
        widest = max(len(results) for results in panels.values())
        figure = figure_module.Figure(figsize=(2 + 1.25 * widest, 0.8 + 3.4 * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axis, (title, results) in zip(axes, panels.items(), strict=True):
            self._draw(axis, title, results)
        figure.supxlabel(self.caption(), fontsize=7, color="0.35", wrap=True)
        figure.savefig(path, dpi=150)

    def _draw(self, axis: Any, title: str, results: list[CaseResult]) -> None:
        palette = ("#d1495b", "#8d99ae", "#edae49", "#00798c", "#30638e", "#7f5539", "#588157", "#b56576", "#6d597a")
        colours = dict(zip(self.sides, palette, strict=False))
        width = 0.84 / len(self.sides)
        for number, side in enumerate(self.sides):
            places = [k + (number - (len(self.sides) - 1) / 2) * width for k in range(len(results))]
            heights = [1e3 * (result.seconds(side) or float("nan")) for result in results]
            axis.bar(places, heights, 0.94 * width, color=colours[side], label=side)
            for place, height, result in zip(places, heights, results, strict=True):
                if side == OURS and result.ratio is not None:
                    above = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center", "size": 8}
                    axis.annotate(f"{result.ratio:.1f}×", (place, height), **above)
        labels = []
        for result in results:
            case = result.case
            extra = "" if case.truncation is None else f"\n{case.form} {case.truncation[0]}"
            labels.append(f"{case.size_class}  T={case.T} B={case.B}\nI={case.I} H={case.H}{extra}")
        axis.set(yscale="log", ylabel="ms (log)", xticks=range(len(results)))
        axis.set_xticklabels(labels, fontsize=8)
        axis.set_title(f"{title}: forward + backward, less is better", loc="left", fontsize=10)
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, ncols=len(self.sides), fontsize=8, loc="upper left")


def _number(value: float | None, scale: float = 1.0) -> str:
    """Three digits, never in powers of ten; a dash for what was not measured."""
    if value is None:
        return "–"
    value *= scale
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}" if value >= 0.1 else f"{value:.3f}"
