"""Workers in threads of this process, over a communicator that stands in for one of mpi4py."""
from __future__ import annotations

import threading

import numpy as np
import pytest

import fastbptt as fb


class Request:
    """A collective call that was begun; `Test` completes it once all workers have begun it."""

    def __init__(self, given, size, complete):
        self.given, self.size, self.complete = given, size, complete

    def Test(self):  # noqa: N802  (as in MPI)
        if len(self.given) < self.size:
            return False
        self.complete([self.given[rank] for rank in range(self.size)])
        return True


class Communicator:
    """The methods of mpi4py.MPI.Comm that `fastbptt.distributed.mpi` uses; calls are matched by their order, as in MPI."""

    def __init__(self, rank, size, calls):
        self.rank, self.size, self.calls, self.made, self.aborted = rank, size, calls, 0, None

    def _begin(self, name, array, complete):
        given = self.calls.setdefault(self.made, {})
        self.made += 1
        given[self.rank] = name, array.copy()

        def completed(all_given):
            assert len({(name, a.shape, a.dtype) for name, a in all_given}) == 1, "workers in different collective calls"
            complete([a for _, a in all_given])
        return Request(given, self.size, completed)

    def Get_rank(self):  # noqa: N802
        return self.rank

    def Get_size(self):  # noqa: N802
        return self.size

    def Iallreduce(self, array, total):  # noqa: N802
        return self._begin("sum", array, lambda arrays: np.copyto(total, np.sum(arrays, axis=0)))

    def Iallgather(self, array, rows):  # noqa: N802
        return self._begin("gather", array, lambda arrays: np.copyto(rows, arrays))

    def Ibcast(self, array, root):  # noqa: N802
        return self._begin("first", array, lambda arrays: np.copyto(array, arrays[root]))

    def Abort(self, status):  # noqa: N802
        self.aborted = status


def run_on_workers(size, function, timeout=60.0):
    """What function(workers) returns, or raises, on each of `size` workers, by their ranks."""
    calls, found = {}, [None] * size

    def work(rank):
        workers = fb.distributed.mpi(Communicator(rank, size, calls), timeout=timeout)
        try:
            found[rank] = function(workers)
        except BaseException as error:
            found[rank] = error
    threads = [threading.Thread(target=work, args=(rank,), daemon=True, name=f"worker {rank}") for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=2 * timeout)
    assert not any(thread.is_alive() for thread in threads), "a worker hangs"
    return found


@pytest.fixture
def on_workers():
    return run_on_workers
