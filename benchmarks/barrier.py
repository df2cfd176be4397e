"""What a barrier of two threads costs at its best: `python -m benchmarks.barrier` prints nanoseconds.

A call that is cut by hidden units has one barrier a step in each direction: no thread may begin a step before all have
finished the one before. Here two threads do nothing else: each writes the number of its step, and reads the other's until it
is there. What a real barrier costs beyond that is waiting for the slower one.
"""
from __future__ import annotations

import os
import threading
import time
from functools import cache

import llvmlite.ir as ir
import numpy as np
from numba import types
from numba.extending import intrinsic

from fastbptt.engine.compat.pointers import data_and_size, gep
from fastbptt.engine.jit import kernel

STEPS = 20_000
APART = 16      # int64: two cache lines, as caches fetch pairs of them
BYTES = 8


@intrinsic
def publish(context, steps, place, step):
    """steps[place] = step, seen by other threads after everything that was written before."""
    def codegen(cx, b, sig, a):
        pointer = gep(b, data_and_size(cx, b, sig.args[0], a[0])[0], [a[1]], ir.IntType(64))
        b.store_atomic(a[2], pointer, "release", BYTES)
        return cx.get_dummy_value()
    return types.none(steps, types.int64, types.int64), codegen


@intrinsic
def observe(context, steps, place):
    """steps[place], read anew."""
    def codegen(cx, b, sig, a):
        pointer = gep(b, data_and_size(cx, b, sig.args[0], a[0])[0], [a[1]], ir.IntType(64))
        return b.load_atomic(pointer, "acquire", BYTES, typ=ir.IntType(64))
    return types.int64(steps, types.int64), codegen


@kernel(allocates=False)
def meet(steps, mine, other, first, last):
    """At each step from first to last, wait for the other thread."""
    for step in range(first, last + 1):
        publish(steps, mine, step)
        while observe(steps, other) < step:
            pass


@cache
def barrier_seconds(looks: int = 15) -> float:
    """Of one barrier of two threads, the median of some looks; 0 where there is one core, which has nobody to wait for."""
    if (os.cpu_count() or 1) < 2:
        return 0.0
    taken = []
    meet(np.full(2 * APART, STEPS), 0, APART, 1, 1)      # compiled before anyone waits
    for _ in range(looks):
        steps = np.zeros(2 * APART, np.int64)
        partner = threading.Thread(target=meet, args=(steps, APART, 0, 1, STEPS))
        partner.start()
        meet(steps, 0, APART, 1, 1)      # it has begun
        start = time.perf_counter()
        meet(steps, 0, APART, 2, STEPS)
        taken.append((time.perf_counter() - start) / (STEPS - 1))
        partner.join()
        assert steps[0] == steps[APART] == STEPS
    return float(np.median(taken))


if __name__ == "__main__":
    print(f"{1e9 * barrier_seconds():.0f} ns")
