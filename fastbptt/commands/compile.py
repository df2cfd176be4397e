"""`fastbptt compile`: fill the cache of compiled kernels in advance."""
from __future__ import annotations

import argparse
from itertools import product
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bptt.api import backward, forward
from ..cells import CELLS
from ..errors import check_choice
from .common import names

if TYPE_CHECKING:
    from .common import Commands

# Each form has its own parameter type, and so its own kernels.
FORMS: dict[str, dict[str, dict[str, Any]]] = {
    "RNN": {"RNN": {}},
    "GRU": {"GRU reset after": {}, "GRU reset before": {"reset": "before"}},
    "LSTM": {"LSTM": {}, "LSTM peephole": {"peephole": True}},
}
DTYPES = ("float32", "float64")


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    fill = commands.add_parser("compile", help="fill the cache of compiled kernels in advance")
    fill.add_argument("--cells", type=names, default=list(FORMS), help="comma-separated: RNN,GRU,LSTM (default: all)")
    fill.add_argument("--dtype", type=names, default=list(DTYPES), help="comma-separated: float32,float64 (default: both)")
    fill.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Gradients of every form of the cells, for vectors and for ids."""
    cells = [check_choice("--cells", cell, tuple(FORMS)) for cell in arguments.cells]
    dtypes = [check_choice("--dtype", dtype, DTYPES) for dtype in arguments.dtype]
    for cell, dtype, ids in product(cells, dtypes, (False, True)):
        for form, options in FORMS[cell].items():
            start = perf_counter()
            _compile(CELLS[cell](3, 4, **options), np.dtype(dtype), ids)
            print(f"{form} {dtype} {'ids' if ids else 'vectors'}: {perf_counter() - start:.1f} s", flush=True)


def _compile(cell: Any, dtype: Any, ids: bool) -> None:
    params = cell.init(dtype=dtype)
    x = np.zeros((2, 1), int) if ids else np.zeros((2, 1, 3), dtype)
    tape = forward(cell, params, x)
    backward(cell, params, tape, tape.h)      # truncation is data: the same kernel
