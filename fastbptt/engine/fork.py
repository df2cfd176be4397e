"""Fork and join: run a function once for every shard, on the threads that Numba keeps.

`prange` would compile the loop's body once more for each of its wrappers, seconds for kernels like ours, and once more
again for a serial twin. Here the compiled loop over shards is handed to Numba's threading layer (omp, tbb or workqueue) as
a C callback through the layer's own entry point, whose address is an argument of the kernel: 0 means the calling thread.
One kernel serves both, nothing in the cached code refers to a threading layer, and none is started before it is needed.
"""
from __future__ import annotations

import os
from functools import cache

import numba

from .compat import PLAIN
from .jit import njit

if PLAIN:
    def parallel_for() -> int:
        """0: the calling thread does all."""
        return 0

    @njit(once=True)
    def run_shards(function, job, count, threads, parallel_for):
        """function(shard, job) for shard = 0 … count−1, one after the other."""
        for shard in range(count):
            function(shard, job)
else:
    from .compat.threads import parallel_for, run_shards

__all__ = ["parallel_for", "run_shards", "start_threads"]

SPINS = "5000"      # some 50 µs, about as long as it takes to wake a thread


@cache
def start_threads() -> None:
    """Start Numba's threads, with little patience; to be called before anything else asks Numba about them.

    Threads of GNU OpenMP that wait for each other spin for milliseconds before they sleep. Where another process wants the
    core, the one waited for does not get it meanwhile: calls took forty times as long as on one thread. The library reads
    how often to spin from the environment, once, when it is loaded; what the user has set stays.
    """
    patient = "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ
    if not patient:
        os.environ["GOMP_SPINCOUNT"] = SPINS
    try:
        numba.get_num_threads()
    finally:
        if not patient:
            del os.environ["GOMP_SPINCOUNT"]
