"""What the machine allows: `python -m benchmarks.roofline docs/bench-avx2.json` prints it for every case of a run of `bench`.

An optimistic model, from rates measured in the same run: all products but those of one row run at the rate of our best tile on
all cores; gates cost what they cost in a loop that does nothing else; there is no packing, no gathering, no reduction and no
cache miss. One sequence may be cut by hidden units: each core then has its slice of W, and each step ends with a barrier
(`benchmarks/barrier.py`). The faster of both ways is what is allowed. The run must be of this machine.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import fastbptt as fb
from benchmarks.barrier import barrier_seconds
from benchmarks.limits import median_seconds, tile_seconds
from benchmarks.timing import markdown
from fastbptt.bench.cases import GATES, Case
from fastbptt.bench.machine import cpu_name, vector_name
from fastbptt.engine import simd
from fastbptt.engine.activations import sigmoid, tanh
from fastbptt.engine.jit import kernel

# Of a step: how many tanh and sigmoid a unit takes, and how many of them wait for each other.
GATE_COST = {"rnn": (1, 0, 1), "gru": (1, 2, 2), "lstm": (2, 3, 2)}
VALUES = 1024     # of a loop over activations: they stay in the first-level cache


@kernel
def repeat_tanh(z, y, times):
    for _ in range(times):
        for j in range(0, z.size, simd.lanes(z)):
            simd.store(y, j, tanh(simd.load(z, j)))


@kernel
def repeat_sigmoid(z, y, times):
    for _ in range(times):
        for j in range(0, z.size, simd.lanes(z)):
            simd.store(y, j, sigmoid(simd.load(z, j)))


@kernel
def chain_of_tanh(z, times):
    """Every tanh waits for the one before."""
    y = simd.load(z, 0)
    for _ in range(times):
        y = tanh(y)
    simd.store(z, 0, y)


@dataclass(frozen=True)
class Rates:
    """Of this machine for one dtype, in seconds, and FLOP/s of one thread."""

    tile: float
    tanh: float
    sigmoid: float
    wait: float
    """From the argument of one tanh to its result."""
    calls: float
    """Of the two public calls, with next to nothing to do."""


@cache
def rates(dtype: str) -> Rates:
    """Measured once, on one thread."""
    kind = np.dtype(dtype).type
    z, y, vectors = np.linspace(-3, 3, VALUES, dtype=kind), np.empty(VALUES, kind), VALUES // simd.lane_count(np.dtype(dtype))

    def per_vector(call: Callable[[Any, Any, int], object]) -> float:
        return median_seconds(lambda: call(z, y, 200)) / (200 * vectors)

    cell = fb.RNN(1, 1)
    params, x = cell.init(dtype=kind), np.zeros((1, 1, 1), kind)
    both = median_seconds(lambda: fb.backward(cell, params, fb.forward(cell, params, x), x), 2001)
    wait = median_seconds(lambda: chain_of_tanh(y, 10_000)) / 10_000
    tile = max(2 * 24 * H * H / tile_seconds(24, H, kind) for H in (64, 128, 256))
    return Rates(tile, per_vector(repeat_tanh), per_vector(repeat_sigmoid), wait, both)


@cache
def row_seconds(K: int, N: int, dtype: str) -> float:
    """Of one row of K times a (K, N) matrix."""
    return tile_seconds(1, K, np.dtype(dtype).type, N)


@dataclass(frozen=True)
class Least:
    """What the machine allows for a case, in seconds: cut by rows (or one core, for one row), and by hidden units."""

    by_rows: float
    by_units: float
    barriers: float
    """Of ``by_units``: one a step in each direction; 0 with one thread."""
    bytes_of_W: int

    @property
    def best(self) -> float:
        """The faster way."""
        return min(self.by_rows, self.by_units)


def least_of(case: Case, threads: int) -> Least:
    """The model."""
    rate, columns = rates(case.dtype), GATES[case.cell] * case.H
    tanhs, sigmoids, waits = GATE_COST[case.cell]
    vectors = case.B * case.H / simd.lane_count(np.dtype(case.dtype))
    gates = case.T * vectors * (tanhs * rate.tanh + sigmoids * rate.sigmoid)
    barriers = 2 * case.T * barrier_seconds() if threads > 1 else 0.0
    size = columns * case.H * np.dtype(case.dtype).itemsize
    if case.B > 1:
        rows = (case.flops / rate.tile + gates) / threads + rate.calls
        return Least(rows, rows + barriers, barriers, size)
    # One sequence: a step waits for the one before; products outside the recurrence are distributed in any case.
    rest = (case.flops - 2 * 2.0 * case.T * columns * case.H) / (threads * rate.tile) + case.T * waits * rate.wait + rate.calls
    alone, slices = (
        case.T * (row_seconds(case.H, -(-columns // cores), case.dtype) + row_seconds(columns, -(-case.H // cores), case.dtype))
        for cores in (1, threads))
    return Least(alone + gates + rest, slices + gates / threads + barriers + rest, barriers, size)


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print("expected one argument, the JSON of a run of the benchmark, such as docs/bench-avx2.json", file=sys.stderr)
        return 2
    run = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    here = cpu_name(), vector_name()
    if (there := (run["machine"]["cpu"], run["machine"]["vectors"])) != here:
        print(f"expected a run of this machine, {', '.join(here)}, got one of {', '.join(there)}; run the benchmark first",
              file=sys.stderr)
        return 2
    threads, rows = fb.get_num_threads(), []
    fb.set_num_threads(1)
    for result in run["results"]:
        case = Case(**result["case"])
        least = least_of(case, threads)
        ours = next(t["seconds"] for t in result["timings"] if t["side"] == "fastbptt")
        figures = (f"{1e3 * seconds:.3g}" for seconds in (least.by_rows, least.by_units, least.barriers, least.best, ours))
        rows.append([case.name, f"{least.bytes_of_W / 1024:.4g}", *figures, f"{ours / least.best:.2f}"])
    head = ["case", "W, KiB", "by rows ms", "by units ms", "of these barriers ms", "machine allows ms", "fastbptt ms",
            "fastbptt / allowed"]
    print(markdown(head, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
