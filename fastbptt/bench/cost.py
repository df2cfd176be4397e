"""What a step costs as sequences grow: time and memory of full, chunked, windowed and checkpointed BPTT.

One float32 sequence through an RNN with 16 inputs and 64 units. The asv suite and the picture in docs/ use these functions.
"""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from ..bptt.plan import forget_plans
from .cases import Case
from .peers import OursSide, checked_setup

LENGTHS = (1024, 2048, 4096, 8192, 16_384)
BUDGET = "2 MiB"
INPUTS, HIDDEN = 16, 64

FORMS: dict[str, tuple[int, int] | None] = {"full": None, "chunks of 32": (32, 32), "window of 32": (32, 1), "checkpointed": None}
"""(horizon, stride); checkpointed is full BPTT within BUDGET."""


class BoundedSide(OursSide):
    """Full BPTT within a memory budget."""

    name = "fastbptt with a memory budget"

    def __init__(self, memory_budget: str, threads: int | None = None) -> None:
        super().__init__(threads)
        self._budget = memory_budget

    def forward(self) -> Any:
        """``fb.forward(…, memory_budget=…)``: a tape of checkpoints."""
        return self._fb.forward(self._cell, self._params, self._x, state=self._state, memory_budget=self._budget)


def cost_case(form: str, T: int) -> Case:
    """The case of a form of FORMS over T steps."""
    return Case("rnn", T, 1, INPUTS, HIDDEN, "float32", "long", FORMS[form])


def cost_side(form: str, T: int) -> OursSide:
    """A form ready to ``run`` over T steps, its gradients checked on a tiny case; checkpointed: also bitwise against full.

    Raises
    ------
    AssertionError
        If a gradient is wrong.
    """
    case, side = cost_case(form, T), BoundedSide(BUDGET) if form == "checkpointed" else OursSide()
    checked_setup(side, case)
    if form == "checkpointed":
        full = OursSide()
        full.setup(case, case.arrays())
        wanted = full.gradients(full.run())
        if not all(np.array_equal(got, wanted[name]) for name, got in side.gradients(side.run()).items()):
            raise AssertionError(f"checkpointed BPTT over {T} steps has other bits than full BPTT")
    return side


@dataclass(frozen=True)
class Cost:
    """By form, for every length: seconds of forward and backward, and their peak memory in bytes, see `peak_of`."""

    lengths: tuple[int, ...]
    seconds: dict[str, list[float]]
    peaks: dict[str, list[int]]

    def markdown(self) -> str:
        """Nanoseconds a step, and the peak."""
        rows = ["| | " + " | ".join(f"T = {T:,}" for T in self.lengths) + " |", "| --- |" + " ---: |" * len(self.lengths)]
        for name, seconds in self.seconds.items():
            steps = " | ".join(f"{1e9 * s / T:.0f} ns" for s, T in zip(seconds, self.lengths, strict=True))
            rows.append(f"| {name}: time per step | {steps} |")
        for name, peaks in self.peaks.items():
            rows.append(f"| {name}: peak memory | " + " | ".join(f"{peak / 2**20:.2f} MiB" for peak in peaks) + " |")
        return "\n".join(rows)


def seconds_of(sides: dict[str, OursSide], turns: int) -> dict[str, float]:
    """Medians of interleaved runs."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, side in sides.items():
            begin = perf_counter()
            side.run()
            taken[name].append(perf_counter() - begin)
    return {name: float(np.median(found)) for name, found in taken.items()}


def peak_of(side: OursSide) -> int:
    """Peak memory of a run in bytes, in NumPy and in compiled code, inputs and results excluded."""
    forget_plans()      # so that what is made once is counted too
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    result = side.run()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return int(peak - sum(a.nbytes for a in side.gradients(result).values()))


def measure_cost(lengths: tuple[int, ...] = LENGTHS, turns: int = 21) -> Cost:
    """Time and memory of every form at every length.

    Examples
    --------
    >>> from fastbptt.bench.cost import measure_cost
    >>> cost = measure_cost(lengths=(64, 128), turns=1)
    >>> sorted(cost.seconds), len(cost.peaks["full"])
    (['checkpointed', 'chunks of 32', 'full', 'window of 32'], 2)
    """
    seconds: dict[str, list[float]] = {form: [] for form in FORMS}
    peaks: dict[str, list[int]] = {form: [] for form in FORMS}
    for T in lengths:
        sides = {form: cost_side(form, T) for form in FORMS}
        for form, found in seconds_of(sides, turns).items():
            seconds[form].append(found)
            peaks[form].append(peak_of(sides[form]))
    return Cost(lengths, seconds, peaks)
