"""One file per cell, the table of cells, and the scan that runs them all."""
from __future__ import annotations

from typing import Any

from . import gru_before  # noqa: F401  (its arithmetic is found by the type of its Params)
from .gru import GRU
from .lstm import LSTM
from .rnn import RNN
from .scan import scan_forward
from .scan_back import scan_backward

CELLS: dict[str, Any] = {cell.__name__: cell for cell in (RNN, GRU, LSTM)}
"""Every cell by its name: what model files call it."""

__all__ = ["CELLS", "scan_backward", "scan_forward"]
