"""`fastbptt gradcheck`: gradients beside finite differences."""
from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np

from ..bptt.passes import backward, forward
from ..cells.rnn import RNN, RNNParams
from ..engine import activations
from .common import CommandError

if TYPE_CHECKING:
    from .common import Commands


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    check = commands.add_parser("gradcheck", help="compare gradients with finite differences")
    check.add_argument("--seed", type=int, default=0)
    check.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Directional derivative by central differences against backward, for every activation, in float64."""
    rng = np.random.default_rng(arguments.seed)
    worst = 0.0
    for name in activations.NAMES:
        cell = RNN(5, 7, name)
        params = cell.init(seed=arguments.seed, dtype=np.float64)
        x, dh = rng.normal(size=(12, 3, 5)), rng.normal(size=(12, 3, 7))
        grads = backward(cell, params, forward(cell, params, x), dh)
        direction = [rng.normal(size=a.shape) for a in params]
        ends = []
        for eps in (1e-6, -1e-6):
            moved = RNNParams(*(a + eps * d for a, d in zip(params, direction, strict=True)))
            ends.append(float((forward(cell, moved, x).h * dh).sum()))
        slope = (ends[0] - ends[1]) / 2e-6
        found = sum(float((g * d).sum()) for g, d in zip(grads.params, direction, strict=True))
        error = abs(slope - found) / max(1.0, abs(slope))
        print(f"{name:11s} slope {slope:+.9f}  gradient {found:+.9f}  relative difference {error:.1e}")
        worst = max(worst, error)
    if not worst < 1e-6:
        raise CommandError(f"gradients differ from finite differences by {worst:.1e}")
