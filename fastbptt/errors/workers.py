"""Workers that train together: what one of them says to the others, and what all say to the user."""
from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from .arrays import shape_text
from .values import check_integer


class WorkerError(RuntimeError):
    """Another worker has stopped, was lost, or does not fit; the message says which, and why."""


def check_reduce(reduce: Any) -> Any:
    """A function of a vector, or None."""
    if reduce is not None and not callable(reduce):
        raise TypeError("reduce: expected a function of a vector that returns its sum over workers, "
                        f"got {type(reduce).__name__}; pass such as fastbptt.distributed.torch_gloo()")
    return reduce


def check_sum(total: Any, size: int) -> np.ndarray[Any, Any]:
    """What `reduce` returned: as many real numbers as it was given."""
    expected = f"reduce: expected it to return the sum of the vector over workers, ({size},) real numbers"
    if total is None:
        raise TypeError(f"{expected}, got None; return the vector")
    array = np.asarray(total)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{expected}, got {type(total).__name__} of {array.dtype}")
    if array.shape != (size,):
        raise ValueError(f"{expected}, got {shape_text(array.shape)}")
    return np.asarray(array, np.float64)


def check_shard(shard: Any) -> tuple[int, int]:
    """(rank, size) with 0 ≤ rank < size."""
    remedy = "pass (rank, size), such as (workers.rank, workers.size)"
    if not isinstance(shard, tuple | list) or len(shard) != 2:
        raise TypeError(f"shard: expected a pair (rank, size), got {shard!r}; {remedy}")
    rank, size = check_integer("shard[0]", shard[0], 0, remedy), check_integer("shard[1]", shard[1], 1, remedy)
    if rank >= size:
        raise ValueError(f"shard: expected a rank below the size {size}, got {rank}; ranks begin at 0")
    return rank, size


def check_own_shard(shard: tuple[int, int] | None, rank: int, size: int) -> None:
    """A stream with the lanes of this worker."""
    if shard is not None and shard != (rank, size):
        raise ValueError(f"batches: expected a stream with shard=({rank}, {size}), as `reduce` counts workers, got {shard}")


def check_alike(facts: Sequence[dict[str, str]]) -> None:
    """What has to be the same on all workers, by name."""
    for name, value in facts[0].items():
        others = [rank for rank, fact in enumerate(facts) if fact.get(name) != value]
        if others:
            raise WorkerError(f"{name}: expected the same on every worker, got another on worker {others[0]} than on worker 0; "
                              "begin on all of them with the same arguments and seeds")


def refuse_uneven(ended: Sequence[int], others: Sequence[int]) -> WorkerError:
    """The error of workers that have more batches than others."""
    return WorkerError(f"batches: expected as many on every worker, got none any more on worker {ended[0]} where worker "
                       f"{others[0]} has one; pass steps=, or fastbptt.stream(…, shard=(rank, size)), which deals every worker "
                       "as many")


def refuse_stopped(rank: int, text: str) -> WorkerError:
    """The error, on all others, of a worker that stopped with an error of its own."""
    return WorkerError(f"worker {rank} stopped: {text}")


def refuse_unsaid(number: int) -> WorkerError:
    """The error where `reduce` is a function of the user's, through which no worker can say why it stopped."""
    return WorkerError(f"batch {number}: expected finite sums over workers, got NaN or Inf where the numbers of this worker are "
                       "finite: another one has met NaN, or an error; look at its message")


def refuse_lost(rank: int, size: int, timeout: float, reason: Any) -> WorkerError:
    """The error of workers that do not answer."""
    said = re.sub(r"^\[[^]]*\] ?", "", str(reason).strip()).split("\n")[0].split(". ")[0] or type(reason).__name__
    return WorkerError(f"worker {rank}: expected an answer of all {size} workers within {timeout:g} s, got none of one of them "
                       f"({said}); it has ended, hangs, or its network is down: look at what it said last")


def refuse_missing(function: str, package: str, extra: str) -> ImportError:
    """The error of an engine that is not installed."""
    return ImportError(f"fastbptt.distributed.{function}: expected {package} to be installed, got none; "
                       f"install it with: pip install 'fastbptt[{extra}]'")


def check_started(wanted: Sequence[str], missing: Sequence[str]) -> None:
    """A process that a launcher started, by its environment."""
    if missing:
        raise ValueError(f"torch_gloo: expected a process that torchrun started, with {', '.join(wanted)} in its environment, "
                         f"got no {missing[0]}; start it by: torchrun --nproc-per-node 2 script.py")


def check_communicator(comm: Any) -> Any:
    """One of mpi4py, or what has its methods."""
    lacking = [name for name in ("Get_rank", "Get_size", "Iallreduce", "Iallgather", "Ibcast") if not hasattr(comm, name)]
    if lacking:
        raise TypeError(f"comm: expected a communicator of mpi4py, such as mpi4py.MPI.COMM_WORLD, got {type(comm).__name__} "
                        f"without {lacking[0]}")
    return comm
