"""`fastbptt compile`: fill the cache of compiled kernels."""
from __future__ import annotations

import argparse
from itertools import product
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from ..bptt.passes import backward, forward
from ..bptt.truncation import Truncation
from ..cells import CELLS

if TYPE_CHECKING:
    from .common import Commands


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    commands.add_parser("compile", help="fill the cache of compiled kernels").set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    for make, dtype, ids in product(CELLS.values(), (np.float32, np.float64), (False, True)):
        start = perf_counter()
        cell = make(3, 4)
        params = cell.init(dtype=dtype)
        x = np.zeros((2, 1), int) if ids else np.zeros((2, 1, 3), dtype)
        tape = forward(cell, params, x)
        backward(cell, params, tape, tape.h, Truncation(2))
        print(f"{make.__name__} {np.dtype(dtype).name} {'ids' if ids else 'vectors'}: {perf_counter() - start:.1f} s")
