"""What ragged sizes cost: `python -m benchmarks.sizes` prints time per FLOP against the next multiple of the vector lanes.

Every gradient is compared with plain NumPy in float64 before it is timed. Where a vector holds 16 units, H = 37 does the
work of H = 48, hence 1.3 times the time per FLOP at least; from two vectors on it should never be more than `LIMIT`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

import fastbptt as fb
from benchmarks.timing import markdown, shortest
from fastbptt.bench.cases import Case
from fastbptt.bench.peers import OursSide, assert_same_gradients
from fastbptt.engine.simd import lane_count

HIDDEN = (8, 20, 33, 37, 50, 65, 100, 130, 200, 300, 500, 512)
ROWS, INPUTS = (1, 3, 7, 20), (1, 10, 300)
LIMIT = 1.5
LEAST = {"float32": 33, "float64": 17}  # more than two vectors of 16 or 8 lanes
WORK = 1.5e7  # FLOPs of one call, about
ATTEMPTS = 4  # a ratio above the limit is measured again: on a busy machine one look proves nothing


def prepared(case: Case) -> OursSide:
    """Our side of a case, after its gradients were found right."""
    side, arrays = OursSide(), case.arrays()
    side.setup(case, arrays)
    assert_same_gradients(case, arrays, [side])
    return side


def ratio(case: Case, whole: Case) -> float:
    """Time per FLOP of one case over that of another, at the best of several attempts."""
    sides = [prepared(case), prepared(whole)]
    best = [float("inf")] * 2
    for _ in range(ATTEMPTS):
        best = [min(pair) for pair in zip(best, shortest([side.run for side in sides], 0.02), strict=True)]
        found = best[0] / case.flops / (best[1] / whole.flops)
        if found < 0.9 * LIMIT:
            break
    return found


def pairs(dtype: str) -> Iterator[tuple[Case, Case]]:
    """Every size, with the next multiple of the lanes in place of its H."""
    lanes = lane_count(np.dtype(dtype))
    for H in HIDDEN:
        for B in ROWS:
            for I in INPUTS:  # noqa: E741
                T = int(min(200, max(4, WORK / (6 * B * H * (H + I)))))
                case = Case("rnn", T, B, I, H, dtype, "S")
                yield case, replace(case, H=-(-H // lanes) * lanes)


def measure(dtype: str) -> tuple[str, list[str]]:
    """The table of a dtype, and the sizes above the limit."""
    found = {case: ratio(case, whole) for case, whole in pairs(dtype)}
    rows = []
    for H in HIDDEN:
        worst = [max(value for case, value in found.items() if (case.H, case.B) == (H, B)) for B in ROWS]
        rows.append([str(H), *(f"{value:.2f}" for value in worst)])
    slow = [f"{case.name}: {value:.2f}" for case, value in found.items() if case.H >= LEAST[dtype] and value > LIMIT]
    return markdown([f"H, {dtype}", *(f"B = {B}" for B in ROWS)], rows), slow


def main() -> int:
    """Print the tables; 1 if a size is above the limit."""
    fb.set_num_threads(1)
    slow = []
    for dtype in LEAST:
        text, above = measure(dtype)
        print(text, end="\n\n")
        slow += above
    print("\n".join([f"above {LIMIT}:", *slow]) if slow else f"no size from {LEAST} on is above {LIMIT}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
