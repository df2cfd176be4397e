"""Who works on the pieces of a call: the calling thread alone, or Numba's threads with it."""
from __future__ import annotations

import os
import threading

import numba
import numpy as np
from numba import config

from . import fork
from .partition import LEAST_ROWS

# Below so many FLOPs a call is over before a second thread has woken up (measured: docs/performance.md).
SMALL_FLOPS = 1_500_000
SMALL_ALONE_FLOPS = 4_000_000      # the same for so few rows that only products are left to other threads

_main_pid = os.getpid()
_entered = threading.Lock()      # held while a parallel region runs: the layers that cannot be entered twice never are


def forked() -> bool:
    """Whether this process is a fork of the one that imported the package (OpenMP cannot run there)."""
    return os.getpid() != _main_pid


def enter_threads(flops: float, rows: int) -> tuple[int, int]:
    """(threads, parallel_for) for a call of so much work on so many rows: (1, 0) where this thread does it alone.

    A parallel_for other than 0 is held by this call until `leave_threads`.
    """
    if flops < (SMALL_FLOPS if rows >= 2 * LEAST_ROWS else SMALL_ALONE_FLOPS):
        return 1, 0
    threads = get_num_threads()
    if threads == 1 or forked():
        return 1, 0
    parallel_for = fork.parallel_for()
    if not parallel_for or not _entered.acquire(blocking=False):
        return 1, 0
    return threads, parallel_for


def leave_threads(parallel_for: int) -> None:
    """Ends what `enter_threads` began."""
    if parallel_for:
        _entered.release()


def set_num_threads(n: int) -> None:
    """Use at most n threads from now on, in calls from this Python thread.

    The number changes how long a call takes, never a bit of its result.

    Parameters
    ----------
    n : int
        1 … the number Numba started with (NUMBA_NUM_THREADS, else the CPUs this process may use).

    Raises
    ------
    TypeError, ValueError
        If n is not an integer, or lies outside that range.

    Examples
    --------
    >>> import fastbptt as fb
    >>> fb.set_num_threads(1)
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise TypeError(f"n: expected an integer number of threads, got {n!r}; pass 1 … {config.NUMBA_NUM_THREADS}")
    if not 1 <= n <= config.NUMBA_NUM_THREADS:
        raise ValueError(f"n: expected 1 … {config.NUMBA_NUM_THREADS} threads, got {n}; "
                         "set NUMBA_NUM_THREADS before the import for more")
    fork.start_threads()
    numba.set_num_threads(int(n))


def get_num_threads() -> int:
    """The number of threads a call from this Python thread may use."""
    fork.start_threads()
    return int(numba.get_num_threads())
