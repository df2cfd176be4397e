"""Workers over MPI, by a communicator of mpi4py."""
from __future__ import annotations

import time
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import check_communicator, check_positive, refuse_lost
from ..training.workers import Workers
from .gloo import TIMEOUT

TESTS, PAUSE = 2000, 1e-4       # asked so often without a pause, then with one of so many seconds


def mpi(comm: Any, timeout: float = TIMEOUT) -> Workers:
    """The processes of an MPI communicator as workers: Σ over them of a vector.

    Collective calls are begun without blocking and waited for, so that a worker that does not answer is given up, and Ctrl-C
    is heard. A process of MPI that has lost another one cannot end in order: run scripts by `python -m mpi4py script.py`, which
    ends all processes where an error ends one; `workers.close()` does the same after a loss.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        Such as `mpi4py.MPI.COMM_WORLD`.
    timeout : float, default 600
        Seconds that a worker waits for the others, in every sum.

    Returns
    -------
    Workers
        For `fastbptt.fit(…, reduce=workers)` and `fastbptt.stream(…, shard=(workers.rank, workers.size))`.

    Raises
    ------
    TypeError
        If comm is no communicator.

    Examples
    --------
    In a script that `mpirun -n 4 python -m mpi4py script.py` starts, after `from mpi4py import MPI`, it is
    `workers = fb.distributed.mpi(MPI.COMM_WORLD)`. What is no communicator is refused:

    >>> import fastbptt as fb
    >>> fb.distributed.mpi("world")
    Traceback (most recent call last):
        ...
    TypeError: comm: expected a communicator of mpi4py, such as mpi4py.MPI.COMM_WORLD, got str without Get_rank
    """
    return _MPI(check_communicator(comm), check_positive("timeout", timeout))


class _MPI(Workers):
    """`Workers` over a communicator."""

    def __init__(self, comm: Any, timeout: float):
        super().__init__(comm.Get_rank(), comm.Get_size(), timeout)
        self._comm, self._lost = comm, False

    def close(self) -> None:
        """After a loss, end all processes of MPI, which would wait for the lost one for ever."""
        if self._lost:
            self._comm.Abort(1)

    def _sum(self, vector: Array) -> Array:
        total = np.empty_like(vector)
        self._wait(self._comm.Iallreduce(vector, total))
        return total

    def _gather(self, array: Array) -> Array:
        rows = np.empty((self.size, *array.shape), array.dtype)
        self._wait(self._comm.Iallgather(array, rows))
        return rows

    def _first(self, array: Array) -> Array:
        self._wait(self._comm.Ibcast(array, root=0))
        return array

    def _wait(self, request: Any) -> None:
        """Until a collective call is over; WorkerError at the timeout."""
        deadline, tests = time.monotonic() + self.timeout, 0
        try:
            while not request.Test():
                tests += 1
                if tests > TESTS:
                    time.sleep(PAUSE)
                if time.monotonic() > deadline:
                    raise TimeoutError("no answer")
        except (RuntimeError, TimeoutError) as error:       # MPI.Exception is a RuntimeError
            self._lost = True
            raise refuse_lost(self.rank, self.size, self.timeout, error) from None
