"""How a call would run on more cores: `python -m benchmarks.cores` prints microseconds a step for 1, 2, 4, 16 and 64 of them.

A model on paper, from what this machine has: the time of a call on one thread, of an empty public call, and of one region, in
which threads claim the parts of a step and wait for each other. Cores of the larger machine are taken to be like these, with a
second-level cache each, and memory fast enough.

- More shards than cores: ⌈shards / cores⌉ rounds of shards, each a call of its own.
- More cores than shards, and a step large enough: all cores share every step, with one region for the product and one for the
  gates (GRU(reset="before"): four), forward and back. A claim is a compare-and-swap on one cache line, so every further core
  adds half of what two cores take to tell each other something.
- Else the cores beyond the shards have nothing to do.

On one core and on two, the model stands beside what was measured in the same run.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import numpy as np

import fastbptt as fb
from benchmarks.barrier import barrier_seconds
from benchmarks.limits import median_seconds
from benchmarks.timing import markdown
from fastbptt.cells.time_blocks import STEP_FLOPS
from fastbptt.engine.atomics import pause
from fastbptt.engine.jit import kernel, njit
from fastbptt.engine.partition import shard_count
from fastbptt.engine.pool import run_pieces
from fastbptt.engine.threads import pool_for

CORES = (1, 2, 4, 16, 64)
REGIONS = 4            # of a step, forward and back
TIMES = 2_000
PAUSES = 30            # in a piece of a region that is timed, so that both threads take part

# Cell, T, B, I, H: one sequence, few rows, many rows.
CASES = [("RNN", 1000, 1, 64, 128), ("LSTM", 1000, 1, 64, 128), ("LSTM", 300, 1, 256, 512), ("LSTM", 60, 8, 256, 512),
         ("LSTM", 40, 32, 512, 512), ("LSTM", 40, 40, 300, 640), ("GRU", 60, 64, 256, 256), ("LSTM", 100, 256, 64, 64)]


@njit
def wait(piece, job):
    for _ in range(PAUSES):
        pause()


@kernel(allocates=False)
def regions(job, count, times, pool):
    """Regions of `count` pieces that each take a microsecond or so."""
    for _ in range(times):
        run_pieces(wait, fb.RNNState(job), count, pool)


def region_seconds() -> float:
    """What a region of two threads that are awake takes beyond the time of its pieces."""
    job = np.zeros((1, 1), np.float32)
    with pool_for(1e12) as pool:
        one, two = (median_seconds(lambda: regions(job, count, TIMES, given), 15) / TIMES  # noqa: B023
                    for count, given in ((1, 0), (2, pool)))
    return max(0.0, two - one)


@dataclass(frozen=True)
class Model:
    """Seconds of this machine."""

    empty_calls: float
    region: float
    """Of two threads."""
    claim: float
    """What each further thread adds to a region."""

    def seconds(self, alone: float, shards: int, steps: int, flops_of_step: float, cores: int) -> float:
        """Of a call that takes so long on one core."""
        work = alone - self.empty_calls
        if cores <= shards or flops_of_step < STEP_FLOPS:
            return self.empty_calls + work * -(-shards // cores) / shards
        return self.empty_calls + work / cores + REGIONS * shards * steps * (self.region + (cores - 2) * self.claim)


def main() -> int:
    threads = min(2, os.cpu_count() or 1)
    fb.set_num_threads(1)
    tiny = fb.RNN(1, 1)
    params, x = tiny.init(), np.zeros((1, 1, 1), np.float32)
    empty = median_seconds(lambda: fb.backward(tiny, params, fb.forward(tiny, params, x), x), 1001)
    fb.set_num_threads(threads)
    model = Model(empty, region_seconds() if threads > 1 else 0.0, barrier_seconds() / 2)
    rows = []
    for name, T, B, I, H in CASES:  # noqa: E741
        cell = getattr(fb, name)(I, H)
        params, rng = cell.init(seed=0), np.random.default_rng(0)
        x, dh = (rng.standard_normal((T, B, n)).astype(np.float32) for n in (I, H))
        shards = shard_count(B, T, cell.gates, I, H)
        taken = []
        for n in (1, threads):
            fb.set_num_threads(n)
            taken.append(median_seconds(lambda: fb.backward(cell, params, fb.forward(cell, params, x), dh), 9))  # noqa: B023
        step = 2.0 * -(-B // shards) * cell.gates * H * H
        found = [f"{1e6 * model.seconds(taken[0], shards, T, step, cores) / T:.3g}" for cores in CORES]
        W = 4 * cell.gates * H * H / 1024
        rows.append([f"{name} T={T} B={B} I={I} H={H}", f"{shards}", f"{W:.4g}", *(f"{1e6 * s / T:.3g}" for s in taken), *found])
    figures = ["measured: 1", f"measured: {threads}", *(f"model: {n}" for n in CORES)]
    head = ["µs a step, forward + backward", "shards", "W, KiB", *figures]
    print(markdown(head, rows))
    constants = f"{1e9 * model.region:.0f} ns", f"{1e9 * model.claim:.0f} ns", f"{1e6 * empty:.0f} µs"
    print(f"\nA region of two threads {constants[0]}, each further thread {constants[1]}; two empty calls {constants[2]}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
