"""Workers over PyTorch's gloo: TCP, no GPU needed."""
from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import check_positive, check_started, refuse_lost, refuse_missing
from ..training.workers import Workers

TIMEOUT = 600.0     # seconds
STARTED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def torch_gloo(timeout: float = TIMEOUT, group: Any = None) -> Workers:
    """The processes that `torchrun` started, as workers over gloo: Σ over them of a vector, on CPUs.

    Parameters
    ----------
    timeout : float, default 600
        Seconds that a worker waits for the others, in every sum: longer than what one of them does alone between two
        updates. The end of a process is noticed at once.
    group : torch.distributed.ProcessGroup, optional
        A group of the gloo backend that you made, with its own timeout. By default one of all processes, which begins
        `torch.distributed` if nothing else has.

    Returns
    -------
    Workers
        For `fastbptt.fit(…, reduce=workers)` and `fastbptt.stream(…, shard=(workers.rank, workers.size))`.

    Raises
    ------
    ImportError
        Without PyTorch.
    ValueError
        If no launcher has started this process: RANK, WORLD_SIZE, MASTER_ADDR or MASTER_PORT is not set.
    WorkerError
        If the others do not come within the timeout.

    Examples
    --------
    A group of one:

    >>> import os, tempfile
    >>> import fastbptt as fb, torch.distributed as dist
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
    ...     workers = fb.distributed.torch_gloo()
    ...     workers.rank, workers.size, workers([1.0, 2.0])
    ...     workers.close()
    ...     dist.destroy_process_group()
    (0, 1, array([1., 2.]))
    """
    timeout = check_positive("timeout", timeout)
    try:
        import torch.distributed as dist
    except ImportError:
        raise refuse_missing("torch_gloo", "PyTorch", "torch") from None
    if group is not None:
        return _Gloo(group, timeout, ())
    seconds = timedelta(seconds=timeout)
    if dist.is_initialized():
        own = dist.new_group(backend="gloo", timeout=seconds)
        return _Gloo(own, timeout, (own,))
    check_started(STARTED, [name for name in STARTED if name not in os.environ])
    try:
        dist.init_process_group("gloo", timeout=seconds)
    except RuntimeError as error:
        raise refuse_lost(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), timeout, error) from None
    return _Gloo(dist.group.WORLD, timeout, (None,))


class _Gloo(Workers):
    """`Workers` over a process group."""

    def __init__(self, group: Any, timeout: float, opened: tuple[Any, ...]):
        import torch.distributed as dist
        super().__init__(dist.get_rank(group), dist.get_world_size(group), timeout)
        self._group, self._opened = group, opened

    def close(self) -> None:
        """Leave the group, if `torch_gloo` has made it."""
        import torch.distributed as dist
        for group in self._opened:
            dist.destroy_process_group(group)
        self._opened, self._group = (), None        # the last reference: its threads end now, not with the interpreter

    def _sum(self, vector: Array) -> Array:
        import torch
        self._call("all_reduce", torch.from_numpy(vector))      # in place
        return vector

    def _gather(self, array: Array) -> Array:
        import torch
        rows = np.empty((self.size, *array.shape), array.dtype)
        self._call("all_gather", [torch.from_numpy(row) for row in rows], torch.from_numpy(array))
        return rows

    def _first(self, array: Array) -> Array:
        import torch
        self._call("broadcast", torch.from_numpy(array), group_src=0)
        return array

    def _call(self, name: str, *tensors: Any, **options: Any) -> None:
        import torch.distributed as dist
        try:
            getattr(dist, name)(*tensors, group=self._group, **options)
        except RuntimeError as error:
            raise refuse_lost(self.rank, self.size, self.timeout, error) from None
