"""The history of a run as JSON lines."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

METRICS = "metrics.jsonl"
TOGETHER = 20       # updates of one line


class Pending(NamedTuple):
    """Updates that are not in a line yet."""

    updates: int = 0
    loss: float = 0.0
    norm: float = 0.0
    """The largest."""


class Metrics:
    """Lines {"update", "seconds", "loss", "norm", "rate", "steps_per_second"} of 20 updates each, and {"update", "held_out"}."""

    def __init__(self, folder: Path, kept: dict[str, Any] | None = None):
        """A new file, or one cut to its length at a checkpoint, because the updates after the checkpoint are run again."""
        self.path = folder / METRICS
        kept = {"bytes": 0, "pending": Pending()} if kept is None else kept
        self.pending = Pending(*kept["pending"])
        with open(self.path, "ab") as file:
            file.truncate(kept["bytes"])

    def kept(self) -> dict[str, Any]:
        """What a checkpoint has to store; flushes all lines to the disk first."""
        with open(self.path, "ab") as file:
            os.fsync(file.fileno())
            return {"bytes": os.fstat(file.fileno()).st_size, "pending": self.pending}

    def add(self, number: int, loss: float, norm: float, **more: float) -> None:
        """An update; `more` goes into the line that it completes."""
        count, total, largest = self.pending
        self.pending = Pending(count + 1, total + loss, max(largest, norm))
        if count + 1 == TOGETHER:
            line = {"update": number, "loss": (total + loss) / TOGETHER, "norm": self.pending.norm, **more}
            self.pending = Pending()
            self.write(line)

    def write(self, line: dict[str, Any]) -> None:
        """One line."""
        with open(self.path, "ab") as file:
            file.write(json.dumps(line).encode() + b"\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]
