"""Which launcher has started this process, if any."""
from __future__ import annotations

import os

from ..errors import refuse_missing
from ..training.workers import Workers
from .gloo import TIMEOUT, torch_gloo
from .message_passing import mpi

MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")      # Open MPI; MPICH, Intel MPI; MVAPICH


def launched(timeout: float = TIMEOUT) -> Workers | None:
    """The workers among which a launcher has started this process: by `torchrun` over gloo, by `mpirun` over MPI.

    Parameters
    ----------
    timeout : float, default 600
        As for `torch_gloo` and `mpi`.

    Returns
    -------
    Workers or None
        None for a process that was started alone.

    Raises
    ------
    ImportError
        If there are several processes, and PyTorch, or mpi4py, is not installed.

    Examples
    --------
    >>> import fastbptt as fb
    >>> fb.distributed.launched() is None
    True
    """
    if _several("WORLD_SIZE") and "RANK" in os.environ:
        return torch_gloo(timeout)
    if any(map(_several, MPI_SIZES)):
        try:
            from mpi4py import MPI
        except ImportError:
            raise refuse_missing("mpi", "mpi4py", "mpi") from None
        return mpi(MPI.COMM_WORLD, timeout)
    return None


def _several(name: str) -> bool:
    """Whether a variable of the environment says that there is more than one process."""
    value = os.environ.get(name, "")
    return value.isdecimal() and int(value) > 1
