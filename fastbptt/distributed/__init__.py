"""Many machines, by engines that exist: sums over workers for `fastbptt.fit(…, reduce=workers)`.

    workers = fb.distributed.torch_gloo()           # under torchrun
    workers = fb.distributed.mpi(MPI.COMM_WORLD)    # under mpirun
"""
from ..errors import WorkerError
from ..training.workers import Workers
from .gloo import torch_gloo
from .launch import launched
from .message_passing import mpi

__all__ = ["WorkerError", "Workers", "launched", "mpi", "torch_gloo"]
