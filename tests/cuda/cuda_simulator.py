"""The simulator of numba-cuda, with what it lacks and our kernels use, and with an order of threads that shows what is missing.

For tests only; with it the kernels hold no branch for the simulator. Threads are greenlets. A warp runs by itself to the next
barrier of the block, before the next warp begins: a warp that a missing barrier lets run ahead reads what others have not yet
written, or overwrites what they have not yet read, every time and not by chance. `ORDER` is the order of the warps, and of the
threads in them: what one order does not show, the other does. A shuffle makes the lanes of a warp wait for each other, and
no others. New arrays are full of NaN. Threads of a block that do not come to the same barriers are an error.
"""
import sys
from types import SimpleNamespace

import numpy as np
from greenlet import getcurrent, greenlet
from numba.cuda.simulator import kernel, kernelapi

ORDER = {"step": 1}      # 1: the first warp and the first thread first; -1: the last ones
WARP = 32


def run_block(self, grid_point, *args):
    """All threads of a block, to the end."""
    threads = []
    for number, point in enumerate(np.ndindex(*self._block_dim)):
        thread = greenlet(lambda: self._f(*args))
        thread.number, thread.lanes = number, {}
        thread.threadIdx, thread.blockIdx = (SimpleNamespace(**dict(zip("xyz", p, strict=True))) for p in (point, grid_point))
        threads.append(thread)
    warps = [threads[first:first + WARP][::ORDER["step"]] for first in range(0, len(threads), WARP)][::ORDER["step"]]
    for warp in warps:
        shared = {}
        for thread in warp:
            thread.lanes = shared
    while True:
        places = [place for warp in warps for place in to_barrier(warp)]
        if len(set(places)) > 1:
            raise RuntimeError(f"threads of a block at different barriers: {set(places)}")
        if places[0] is None:
            return


def to_barrier(warp):
    """Run a warp to the next barrier of its block: the line of each thread there, or None at its end."""
    waiting, places = list(warp), []
    while waiting:
        at = [(thread, thread.switch()) for thread in waiting]
        waiting = [thread for thread, place in at if place == "shuffle"]
        places += [None if thread.dead else place for thread, place in at if place != "shuffle"]
        if waiting and places:
            raise RuntimeError("some lanes of a warp shuffle, others do not")
    return places


def syncthreads(self):
    frame = sys._getframe(1)
    getcurrent().parent.switch((frame.f_code.co_name, frame.f_lineno))


def shfl_xor_sync(self, mask, value, lane_mask):
    thread = getcurrent()
    thread.lanes[thread.number] = value
    thread.parent.switch("shuffle")
    got = thread.lanes[thread.number ^ lane_mask]
    thread.parent.switch("shuffle")
    return got


def shared_array(self, shape, dtype, alignment=None):
    """One array for each place in the code."""
    frame = sys._getframe(1)
    place = frame.f_code, frame.f_lasti
    if place not in self._allocations:
        self._allocations[place] = np.full(shape, np.nan, str(dtype))
    return self._allocations[place]


def local_array(self, shape, dtype, alignment=None):
    return np.full(shape, np.nan, str(dtype))


def install():
    module = kernelapi.FakeCUDAModule
    module.threadIdx = property(lambda self: getcurrent().threadIdx)
    module.blockIdx = property(lambda self: getcurrent().blockIdx)
    module.syncthreads, module.shfl_xor_sync = syncthreads, shfl_xor_sync
    kernelapi.FakeCUDAShared.array, kernelapi.FakeCUDALocal.array = shared_array, local_array
    kernel.BlockManager.run = run_block
