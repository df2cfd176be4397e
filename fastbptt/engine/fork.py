"""Fork and join: run a function once for every shard, on the threads that Numba keeps.

`prange` would compile the loop's body once more for each of its wrappers, seconds for kernels like ours, and once more
again for a serial twin. Here the compiled loop over shards is handed to Numba's threading layer (omp, tbb or workqueue) as
a C callback through the layer's own entry point, whose address is an argument of the kernel: 0 means the calling thread.
One kernel serves both, nothing in the cached code refers to a threading layer, and none is started before it is needed.
"""
from __future__ import annotations

from .compat.threads import launcher, run_shards

__all__ = ["launcher", "run_shards"]
