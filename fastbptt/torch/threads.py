"""PyTorch's limit on threads, for our kernels too: one in the workers of a DataLoader, `torch.set_num_threads` elsewhere."""
from __future__ import annotations

from typing import Any

import torch

from ..engine.threads import get_num_threads, set_num_threads


class as_many_threads:  # noqa: N801  (used like a function)
    """With it, a call uses at most as many threads as PyTorch may, in this Python thread."""

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before, limit = get_num_threads(), torch.get_num_threads()
        if limit < self._before:
            set_num_threads(limit)

    def __exit__(self, *error: Any) -> None:
        if self._before > get_num_threads():
            set_num_threads(self._before)
