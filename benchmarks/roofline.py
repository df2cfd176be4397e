"""Targets and limits: `python -m benchmarks.roofline docs/bench.json` prints them for every case of a run of the benchmark.

The targets are ratios, best peer's time over ours, that this project set itself on another machine. What a target leaves is
the peer's time divided by it. What the machine allows is an optimistic model, from rates measured in the same run: all products
but those of one row run at the rate of our best tile on all cores; gates cost what they cost in a loop that does nothing else;
there is no packing, no gathering, no reduction and no cache miss. Where a target leaves less than that, it is out of reach.
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
from benchmarks.limits import median_seconds, tile_seconds
from benchmarks.timing import markdown
from fastbptt.bench.cases import GATES, Case
from fastbptt.engine import simd
from fastbptt.engine.activations import sigmoid, tanh
from fastbptt.engine.jit import kernel

# By cell and dtype, None where there is none: S with H ≤ 64, S with H = 128, M with H ≤ 64, M with H = 128, L with H = 256,
# L with H = 512.
TARGETS = {
    ("rnn", "float32"): (10, 5, 5, 3, 3, 2.2), ("rnn", "float64"): (8, 4, 5, 3, 2, 2),
    ("gru", "float32"): (10, 5, 5, 4, 3, 2.2), ("gru", "float64"): (4, 4, 5, 5, None, None),
    ("lstm", "float32"): (8, 4, 2.5, 2, 2, 1.1), ("lstm", "float64"): (4, 4, 5, 5, None, None),
}
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


def least_seconds(case: Case, threads: int) -> float:
    """What the machine allows for a case."""
    rate, columns = rates(case.dtype), GATES[case.cell] * case.H
    tanhs, sigmoids, waits = GATE_COST[case.cell]
    vectors = case.B * case.H / simd.lane_count(np.dtype(case.dtype))
    gates = vectors * (tanhs * rate.tanh + sigmoids * rate.sigmoid)
    if case.B > 1:
        return case.flops / (threads * rate.tile) + case.T * gates / threads + rate.calls
    # One sequence: a step waits for the one before, on one core; all other products are distributed.
    step = row_seconds(case.H, columns, case.dtype) + row_seconds(columns, case.H, case.dtype)
    rest = case.flops - 2 * 2.0 * case.T * columns * case.H
    return case.T * (step + gates + waits * rate.wait) + rest / (threads * rate.tile) + rate.calls


def target_of(case: Case) -> float | None:
    """The ratio that this project set itself."""
    place = {"S": 0, "M": 2, "L": 4}[case.size_class] + (case.H > {"S": 64, "M": 64, "L": 256}[case.size_class])
    return TARGETS[case.cell, case.dtype][place]


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print("expected one argument, the JSON of a run of the benchmark, such as docs/bench.json", file=sys.stderr)
        return 2
    threads, rows, counts = fb.get_num_threads(), [], {"reached": 0, "out of reach": 0, "open": 0}
    fb.set_num_threads(1)
    for result in json.loads(Path(arguments[0]).read_text(encoding="utf-8"))["results"]:
        case = Case(**result["case"])
        target = target_of(case)
        if target is None:
            continue
        least = least_seconds(case, threads)
        ours = next(t["seconds"] for t in result["timings"] if t["side"] == "fastbptt")
        leaves = result["ratio"] * ours / target
        verdict = "reached" if leaves >= ours else "out of reach" if leaves < least else "open"
        counts[verdict] += 1
        figures = (f"{1e3 * seconds:.3g}" for seconds in (leaves, least, ours))
        rows.append([case.name, f"{target:g}", f"{result['ratio']:.2f}", *figures, f"{ours / least:.2f}", verdict])
    head = ["case", "target", "ratio", "target leaves ms", "machine allows ms", "fastbptt ms", "fastbptt / allowed", ""]
    print(markdown(head, rows))
    print(", ".join(f"{n} {verdict}" for verdict, n in counts.items()), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
