"""The results of the benchmark for a busy machine, as data, table, Markdown and JSON."""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from .cases import Case
from .machine import describe

HEAD = ("side", "alone ms", "beside one", "beside three", "two at once")


@dataclass(frozen=True)
class Calls:
    """The calls in one situation: median and longest in seconds, how many, and how long all of them took."""

    median: float
    worst: float
    count: int
    total: float


@dataclass(frozen=True)
class BusyTiming:
    """One side with so many threads (None: all cores) in one case, in all situations; ``two``: the calls of both processes."""

    case: str
    side: str
    threads: int | None
    how: str
    alone: Calls
    one: Calls
    three: Calls
    two: Calls

    @property
    def together(self) -> float:
        """Calls a second of two processes at once, over those of one process alone."""
        return 2 * (self.two.count / self.two.total) / (self.alone.count / self.alone.total)

    def figures(self) -> list[str]:
        """One row of the table."""
        alone = self.alone.median
        beside = [f"{calls.median / alone:.2f} ({calls.worst / alone:.1f})" for calls in (self.one, self.three)]
        return [f"{self.side}, {self.how}", f"{1e3 * alone:#.3g}".rstrip("."), *beside, f"{self.together:.2f}"]


@dataclass(frozen=True)
class BusyReport:
    """A whole run: the machine, missing peers with the reason, GFLOP/s of the large product, cases and timings."""

    machine: dict[str, str]
    missing: dict[str, str]
    product_gflops: dict[str, float]
    seconds: float
    """For each figure."""
    cases: tuple[Case, ...]
    timings: tuple[BusyTiming, ...]

    def rows(self, case: Case) -> list[list[str]]:
        """Of one case, in the order in which sides were given, one thread before all cores."""
        return [timing.figures() for timing in self.timings if timing.case == case.name]

    def caption(self) -> str:
        """How to read the figures, and where they come from."""
        left_out = "".join(f"; {name} left out" for name in self.missing)
        return (
            "Alone: median ms of forward + backward. Beside one and three busy processes: the median as a multiple of that, and "
            "in brackets the longest call. Two at once: the work that two processes do together, as a multiple of what one does "
            f"alone. {self.seconds:g} s for each figure. "
            f"{describe(self.machine, self.product_gflops)}{left_out}."
        )

    def markdown(self) -> str:
        """A table for each case, and the caption."""
        parts = []
        for case in self.cases:
            lines = [[case.name, *HEAD[1:]], ["---", *["---:"] * (len(HEAD) - 1)], *self.rows(case)]
            parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        return "\n\n".join((*parts, self.caption())) + "\n"

    def table(self) -> Any:
        """A rich.table.Table (extra ``demo``)."""
        box, table_module = importlib.import_module("rich.box"), importlib.import_module("rich.table")
        table = table_module.Table(caption=self.caption(), box=box.SIMPLE_HEAD, padding=(0, 0))
        for number, name in enumerate(HEAD):
            table.add_column(name, justify="right" if number else "left", min_width=8 if number else 20, overflow="fold")
        for case in self.cases:
            table.add_row(case.name)
            for row in self.rows(case):
                table.add_row(f"  {row[0]}", *row[1:])
            table.add_section()
        return table

    def to_json(self) -> str:
        """Everything, derived figures included."""
        data = asdict(self)
        for timing, entry in zip(self.timings, data["timings"], strict=True):
            entry["together"] = timing.together
        return json.dumps(data, indent=1)
