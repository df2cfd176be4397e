"""Who works on the pieces of a call: the calling thread alone, or the threads of the pool with it."""
from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
from numba import config

from . import pool
from .partition import SMALL_FLOPS

_entered = threading.Lock()        # held by the call that the pool works for: it does one job at a time


def _default() -> int:
    """As many threads as NUMBA_NUM_THREADS says, else OMP_NUM_THREADS as for other numerical libraries, else the CPUs."""
    most = int(config.NUMBA_NUM_THREADS)
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if "NUMBA_NUM_THREADS" in os.environ or not asked.isdecimal() or int(asked) == 0:
        return most
    return min(most, int(asked))


class _Number(threading.local):
    """The number of threads that each Python thread may use."""

    allowed = _default()


_number = _Number()


class _Turn:
    """With it, the address of the pool, which works for no other call until the end; 0: the calling thread does all."""

    __slots__ = ("_pool",)

    def __init__(self, pool: int):
        self._pool = pool

    def __enter__(self) -> int:
        return self._pool

    def __exit__(self, *error: Any) -> None:
        if self._pool:
            _entered.release()


_ALONE = _Turn(0)


def pool_for(flops: float) -> _Turn:
    """With this, the pool for a call of so much work, by its address; 0 where the calling thread does all.

    >>> with pool_for(flops=1e9) as pool:
    ...     pass
    """
    if flops < SMALL_FLOPS or _number.allowed == 1 or not _entered.acquire(blocking=False):
        return _ALONE
    address = pool.address(_number.allowed)
    if address:
        return _Turn(address)
    _entered.release()
    return _ALONE


def _forget() -> None:
    """In a forked child no call is under way."""
    global _entered
    _entered = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def set_num_threads(n: int) -> None:
    """Use at most n threads from now on, in calls from this Python thread.

    The number changes how long a call takes, never a bit of its result.

    Parameters
    ----------
    n : int
        1 … NUMBA_NUM_THREADS, else the CPUs that this process may use. Before the first call of this function it is
        NUMBA_NUM_THREADS, else OMP_NUM_THREADS, else those CPUs.

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
    _number.allowed = int(n)


def get_num_threads() -> int:
    """The number of threads a call from this Python thread may use."""
    return _number.allowed
