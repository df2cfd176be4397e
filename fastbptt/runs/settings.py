"""The settings of a run: together with the data, they determine its weights."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..bptt.stack import Stack
from ..bptt.truncation import Truncation
from ..cells import CELLS
from ..errors import check_choice, check_fraction, check_integer, check_positive, check_text, check_up_to
from ..training.model import SequenceModel
from ..training.optim import SGD, Adam
from ..training.schedule import Cosine

OPTIMIZERS: dict[str, Any] = {"adam": Adam, "sgd": SGD}
CELL_NAMES = {name.lower(): cell for name, cell in CELLS.items()}
SCHEDULES = ("constant", "cosine")
AUTO, FULL = "auto", "full"
KINDS = ("text", "npz")
MOST_LAYERS = 1000
WARMUP = 100        # updates over which a cosine schedule grows


@dataclass(frozen=True)
class Settings:
    """The options of `fastbptt train`, checked; kept in the checkpoint as JSON."""

    source: str
    kind: str
    """"text" or "npz"."""
    cell: str = "gru"
    layers: int = 1
    hidden: int = 256
    dropout: float = 0.0
    window: int = 128
    batch: int = 32
    truncate: str = FULL
    """"full" (back to the start of the window), "auto", "K" (chunks of K steps) or "H,S"."""
    clip: float = 1.0
    optimizer: str = "adam"
    lr: float = 0.002
    schedule: str = "constant"
    epochs: int | None = None
    seconds: float | None = None
    seed: int = 0
    evaluate_every: int = 500
    workers: int = 1
    """Processes that train together, each with `batch` lanes of its own."""

    def __post_init__(self) -> None:
        check_text("source", self.source)
        check_choice("kind", self.kind, KINDS)
        check_choice("--cell", self.cell, tuple(CELL_NAMES))
        for name in ("layers", "hidden", "window", "batch", "evaluate_every", "workers"):
            check_integer(f"--{name.replace('_', '-')}", getattr(self, name), 1, "pass a number above 0")
        check_up_to("--layers", self.layers, MOST_LAYERS, "a number of layers")
        check_fraction("--dropout", self.dropout)
        if self.dropout and self.layers == 1:
            raise ValueError(f"--dropout: expected 0 for one layer, got {self.dropout}; it lies between layers: --layers 2")
        check_positive("--clip", self.clip)
        check_choice("--optimizer", self.optimizer, tuple(OPTIMIZERS))
        check_positive("--lr", self.lr)
        check_choice("--schedule", self.schedule, SCHEDULES)
        if self.epochs is not None:
            check_integer("--epochs", self.epochs, 1, "pass the number of passes over the data")
        if self.seconds is not None:
            check_positive("--seconds", self.seconds)
        if self.schedule == "cosine" and self.epochs is None:
            raise ValueError("--schedule: expected constant where only --seconds is given, got cosine, which needs an end "
                             "counted in updates; add --epochs")
        check_integer("--seed", self.seed, 0, "pass an integer from 0")
        self.truncation()

    @property
    def lanes(self) -> int:
        """Of all workers."""
        return self.batch * self.workers

    def truncation(self) -> Truncation | None:
        """Of every window; None: full, or not measured yet."""
        if self.truncate in (AUTO, FULL):
            return None
        try:
            numbers = [int(n) for n in check_text("--truncate", self.truncate).split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 2):
            raise ValueError(f"--truncate: expected full, auto, K (chunks) or H,S (horizon, stride), got {self.truncate!r}")
        return Truncation(numbers[0], numbers[-1])

    def model(self, inputs: int, outputs: int, loss: str) -> SequenceModel:
        """The cell, or a stack of them, with a readout."""
        kind = CELL_NAMES[self.cell]
        cells = [kind(inputs if k == 0 else self.hidden, self.hidden) for k in range(self.layers)]
        return SequenceModel(cells[0] if self.layers == 1 else Stack(cells, dropout=self.dropout), outputs, loss)

    def make_optimizer(self) -> Any:
        """SGD or Adam."""
        return OPTIMIZERS[self.optimizer](self.lr)

    def make_schedule(self, windows: int) -> Cosine | None:
        """Of the learning rate, for so many windows in a pass; None: constant."""
        if self.schedule == "constant" or self.epochs is None:
            return None
        updates = windows * self.epochs
        return Cosine(updates, min(WARMUP, updates // 10))
