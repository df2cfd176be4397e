"""What `fastbptt train` does: a run over a file, with checkpoints, metrics and curves in a folder."""
from __future__ import annotations

from .checkpoint import CHECKPOINT
from .settings import Settings
from .start import begin, resume
from .train import BEST, MODEL, PICTURE, Run

__all__ = ["BEST", "CHECKPOINT", "MODEL", "PICTURE", "Run", "Settings", "begin", "resume"]
