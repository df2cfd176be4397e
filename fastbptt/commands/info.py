"""`fastbptt info`: versions, CPU, threads, cache; time to the first gradient."""
from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numba
import numpy as np

from .. import __version__
from ..engine import jit, simd, threads

if TYPE_CHECKING:
    from .common import Commands

FIRST = """
import numpy as np, time
t = time.perf_counter()
import fastbptt as fb
cell = fb.RNN(32, 32)
params = cell.init(seed=0)
x = np.zeros((100, 1, 32), np.float32)
fb.backward(cell, params, fb.forward(cell, params, x), x)
print(time.perf_counter() - t)
"""
FLOOR = """
import numpy as np, sys, time
sys.path.insert(0, {folder!r})
t = time.perf_counter()
from trivial import f
f(np.zeros(1, np.float32))
print(time.perf_counter() - t)
"""


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    info = commands.add_parser("info", help="show versions, CPU, threads and cache")
    info.add_argument("--timing", action="store_true",
                      help="measure the time to the first gradient in a new process, with an empty and with a filled cache")
    info.set_defaults(run=run)


def _seconds(code: str, cache: str) -> float:
    env = {**os.environ, "NUMBA_CACHE_DIR": cache}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _timing() -> None:
    """Time to the first gradient in new processes, and to the first call of a trivial cached function."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "trivial.py").write_text("import numba\n@numba.njit(cache=True)\ndef f(x):\n    return x[0] + 1\n")
        floor = FLOOR.format(folder=folder)
        cold = _seconds(FIRST, folder)
        _seconds(floor, folder)
        turns = [(_seconds(FIRST, folder), _seconds(floor, folder)) for _ in range(5)]
        warm, least = np.median(turns, axis=0)
    print(f"first gradient  cold {cold:.2f} s, warm {warm:.2f} s; first call of a trivial cached function {least:.2f} s")


def run(arguments: argparse.Namespace) -> None:
    features = [name for name in ("avx512f", "avx2", "fma", "neon") if simd.FEATURES.get(name)]
    print(f"fastbptt {__version__}, numba {numba.__version__}, numpy {np.__version__}, Python {platform.python_version()}")
    print(f"CPU             {platform.processor() or platform.machine()}, {' '.join(features) or 'baseline'}")
    print(f"vector width    {simd.BITS} bits: {simd.lane_count('float32')} float32 or {simd.lane_count('float64')} float64")
    print(f"threads         {threads.get_num_threads()}")
    print(f"cache           {jit.CACHE_DIR or 'none can be written'}")
    if arguments.timing:
        _timing()
