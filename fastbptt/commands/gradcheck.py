"""`fastbptt gradcheck`: gradients compared with finite differences."""
from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bptt.api import backward, forward
from ..bptt.stack import Stack
from ..cells import CELLS
from ..engine import activations
from ..tree import leaves, tree_map
from .common import CommandError

if TYPE_CHECKING:
    from .common import Commands


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    check = commands.add_parser("gradcheck", help="compare gradients with finite differences")
    check.add_argument("--seed", type=int, default=0, help="seed of the parameters, inputs and direction (default: 0)")
    check.set_defaults(run=run)


def _cells() -> dict[str, Any]:
    """The cells that are checked, by their names in the table."""
    cells: dict[str, Any] = {f"RNN {name}": CELLS["RNN"](5, 7, name) for name in activations.NAMES}
    cells |= {"GRU reset after": CELLS["GRU"](5, 7), "GRU reset before": CELLS["GRU"](5, 7, "before")}
    cells |= {"LSTM": CELLS["LSTM"](5, 7), "LSTM peephole": CELLS["LSTM"](5, 7, peephole=True)}
    cells["2 layers"] = Stack([CELLS["LSTM"](5, 7), CELLS["GRU"](7, 6)])
    cells["2 layers, 2 directions"] = Stack([CELLS["LSTM"](5, 7), CELLS["GRU"](14, 6)], bidirectional=True)
    return cells


def run(arguments: argparse.Namespace) -> None:
    """Central differences in a random direction against backward, in float64, for every cell and activation and for stacks."""
    rng = np.random.default_rng(arguments.seed)
    worst = 0.0
    for name, cell in _cells().items():
        params = cell.init(seed=arguments.seed, dtype=np.float64)
        x, dh = rng.normal(size=(12, 3, 5)), rng.normal(size=(12, 3, cell.hidden_size))
        grads = backward(cell, params, forward(cell, params, x), dh)
        direction = tree_map(lambda a: rng.normal(size=a.shape), params)
        ends = []
        for eps in (1e-6, -1e-6):
            moved = tree_map(lambda a, d, eps=eps: a + eps * d, params, direction)
            ends.append(float((forward(cell, moved, x).h * dh).sum()))
        slope = (ends[0] - ends[1]) / 2e-6
        found = sum(float((g * d).sum()) for g, d in zip(leaves(grads.params), leaves(direction), strict=True))
        error = abs(slope - found) / max(1.0, abs(slope))
        print(f"{name:22s} slope {slope:+12.6f}  gradient {found:+12.6f}  relative difference {error:.1e}")
        worst = max(worst, error)
    if not worst < 1e-6:
        raise CommandError(f"gradients differ from finite differences by {worst:.1e}")
