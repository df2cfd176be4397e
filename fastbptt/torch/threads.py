"""PyTorch's limit on threads, for our kernels too: one in the workers of a DataLoader, `torch.set_num_threads` elsewhere."""
from __future__ import annotations

from types import TracebackType

import numba
import torch

from ..engine.threads import forked, get_num_threads, set_num_threads


class as_many_threads:  # noqa: N801   (used as a function; a generator-based one takes twice as long)
    """With it, a call uses at most as many threads as PyTorch may, in this Python thread."""

    __slots__ = ("before",)

    def __enter__(self) -> None:
        self.before = 0
        limit = torch.get_num_threads()
        if limit < numba.config.NUMBA_NUM_THREADS and not forked() and (before := get_num_threads()) > limit:
            set_num_threads(limit)
            self.before = before

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.before:
            set_num_threads(self.before)
