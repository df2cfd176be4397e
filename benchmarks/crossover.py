"""Where two threads begin to win: `python -m benchmarks.crossover` prints times with one and with all, for growing work.

The thresholds under test (`SMALL_FLOPS`, `SMALL_ALONE_FLOPS`, `TIME_FLOPS`) are set to zero for the measurement, in a cache
of its own. Results are the same bits whoever computes them; this is asserted for every size.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

STEPS = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
SHAPES = ((1, 32), (1, 64), (1, 128), (8, 16), (8, 32), (8, 64), (16, 64), (16, 128))  # (B, H) with I = H
LARGEST = 4e7  # FLOPs of a forward pass
SECONDS = 0.1


def compared(fb: Any, call: Callable[[], Any], arrays: Callable[[Any], Any], threads: int) -> tuple[float, float]:
    """Seconds of a call on one thread and on all, with equal results."""
    from benchmarks.timing import shortest

    def on(n: int) -> Callable[[], Any]:
        def run() -> Any:
            fb.set_num_threads(n)
            return call()
        return run
    one, many = on(1), on(threads)
    assert all(np.array_equal(a, b) for a, b in zip(arrays(one()), arrays(many()), strict=True))
    # Not in turns: threads that wait for their next region spin, which is what they do between two calls of a loop.
    return shortest([one], SECONDS, time.perf_counter)[0], shortest([many], SECONDS, time.perf_counter)[0]


def rows_of(fb: Any, B: int, H: int, threads: int) -> list[list[str]]:
    """A row for every number of steps: FLOPs of the products, microseconds forward and backward."""
    cell = fb.RNN(H, H)
    params = cell.init(seed=0, dtype=np.float32)
    rows = []
    for T in (T for T in STEPS if 4.0 * T * B * H * H <= LARGEST):
        x, dh = np.ones((T, B, H), np.float32), np.ones((T, B, H), np.float32)
        tape = fb.forward(cell, params, x)
        times = [*compared(fb, lambda x=x: fb.forward(cell, params, x), lambda tape: [tape.h], threads),
                 *compared(fb, lambda tape=tape, dh=dh: fb.backward(cell, params, tape, dh), lambda g: [*g.params, g.x], threads)]
        ratios = [f"{times[0] / times[1]:.2f}", f"{times[2] / times[3]:.2f}"]
        us = [f"{1e6 * t:.0f}" for t in times]
        rows.append([f"{B} × {H}, {T}", f"{4e-6 * T * B * H * H:.2f}", us[0], us[1], ratios[0], f"{8e-6 * T * B * H * H:.2f}",
                     us[2], us[3], ratios[1]])
    return rows


def table() -> str:
    """One line for every shape and number of steps, in Markdown."""
    import fastbptt as fb
    from benchmarks.timing import markdown
    from fastbptt.cells import rows as thresholds
    from fastbptt.engine import threads

    thresholds.TIME_FLOPS = 0.0
    threads.SMALL_FLOPS = threads.SMALL_ALONE_FLOPS = 0
    threads = fb.get_num_threads()
    rows = [row for B, H in SHAPES for row in rows_of(fb, B, H, threads)]
    return markdown(["B × H, T", "forward MFLOP", "µs on 1", f"µs on {threads}", "ratio",
                     "backward MFLOP", "µs on 1", f"µs on {threads}", "ratio"], rows)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NUMBA_CACHE_DIR"] = folder  # kernels keep the constants they were compiled with
        print(table())
