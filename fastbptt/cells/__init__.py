"""One file per cell, the table of cells, and the scans that run them all."""
from __future__ import annotations

from typing import Any

from .backward import scan_backward
from .forward import scan_forward
from .gru import GRU
from .lstm import LSTM
from .rnn import RNN

CELLS: dict[str, Any] = {cell.__name__: cell for cell in (RNN, GRU, LSTM)}
"""Every cell by its name: what model files call it."""

__all__ = ["CELLS", "scan_backward", "scan_forward"]
