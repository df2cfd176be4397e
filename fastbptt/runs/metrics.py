"""The history of a run as JSON lines."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import FileError, check_regular

METRICS = "metrics.jsonl"
TOGETHER = 20       # updates of one line
TRAINED, HELD_OUT = {"update", "loss", "norm"}, {"update", "held_out"}


class Pending(NamedTuple):
    """Updates that are not in a line yet."""

    updates: int = 0
    loss: float = 0.0
    norm: float = 0.0
    """The largest."""


class Metrics:
    """Lines {"update", "seconds", "loss", "norm", "rate", "steps_per_second"} of 20 updates each, and {"update", "held_out"}.

    Raises
    ------
    FileError
        A ValueError: a line that is kept is none of these. Better now than after hours of training.
    """

    def __init__(self, folder: Path, kept: dict[str, Any] | None = None):
        """A new file, or one cut to its length at a checkpoint, because the updates after the checkpoint are run again."""
        self.path = folder / METRICS
        kept = {"bytes": 0, "pending": Pending()} if kept is None else kept
        self.pending = Pending(*kept["pending"])
        check_regular(self.path)
        with open(self.path, "a+b") as file:
            size = os.fstat(file.fileno()).st_size
            self.shortened = size < kept["bytes"]
            """Whether lines from before the checkpoint are missing, because somebody removed or cut the file."""
            if self.shortened:
                file.seek(0)
                size = file.read().rfind(b"\n") + 1     # whole lines
            file.truncate(min(size, kept["bytes"]))
        read_metrics(self.path)

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


class NoMetrics(Metrics):
    """Of a worker that writes nothing, as worker 0 does it."""

    def __init__(self) -> None:
        self.shortened = False

    def kept(self) -> dict[str, Any]:
        """Nothing."""
        return {"bytes": 0, "pending": Pending()}

    def add(self, number: int, loss: float, norm: float, **more: float) -> None:
        """Nothing."""

    def write(self, line: dict[str, Any]) -> None:
        """Nothing."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All lines; FileError for one that no run writes."""
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict) or not (TRAINED <= set(line) or HELD_OUT <= set(line)) or not all(
                isinstance(value, int | float) for value in line.values()):
            raise FileError(f"{path}: expected the metrics of a run, got another line {number}; remove it, or the file")
        lines.append(line)
    return lines
