"""The command line: bench, gradcheck, info, compile."""
from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numba
import numpy as np

from . import __version__
from .bptt.passes import backward, forward
from .bptt.truncation import Truncation
from .cells.rnn import RNN, RNNParams
from .engine import activations, jit, shards, simd

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


class CommandError(Exception):
    """What goes to the user as one line, with exit status 2."""


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong argument is one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Print one line and leave with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _parser() -> Parser:
    parser = Parser(prog="fastbptt", description="Backpropagation through time on the CPU.")
    parser.add_argument("--version", action="version", version=f"fastbptt {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    bench = commands.add_parser("bench", help="measure forward + backward beside other libraries")
    bench.add_argument("--peers", type=_names, default=["numpy", "torch", "jax"], help="comma-separated: numpy,torch,jax")
    bench.add_argument("--cells", type=_names, default=["rnn"])
    bench.add_argument("--dtype", type=_names, default=["float32"], help="comma-separated: float32,float64")
    bench.add_argument("--classes", type=_names, default=["S", "M", "L"], help="comma-separated: S,M,L")
    bench.add_argument("--seconds", type=float, default=3.0, help="time for the turns of one case")
    bench.add_argument("--threads", type=int, default=None, help="limit for every side (default: all cores)")
    bench.add_argument("--out", type=Path, default=None, help="a .json or .png file")
    bench.set_defaults(run=_bench)
    check = commands.add_parser("gradcheck", help="compare gradients with finite differences")
    check.add_argument("--seed", type=int, default=0)
    check.set_defaults(run=_gradcheck)
    info = commands.add_parser("info", help="versions, CPU, threads, cache")
    info.add_argument("--timing", action="store_true", help="seconds to the first gradient of a new process, cold and warm")
    info.set_defaults(run=_info)
    commands.add_parser("compile", help="fill the cache of compiled kernels").set_defaults(run=_compile)
    return parser


def _bench(arguments: argparse.Namespace) -> None:
    if arguments.out is not None and arguments.out.suffix not in (".json", ".png"):
        raise CommandError(f"--out: expected a .json or .png file, got {arguments.out}")
    try:
        from rich.console import Console

        from .bench.run import run_bench
    except ModuleNotFoundError as missing:
        raise CommandError(f"bench needs the package {missing.name}: pip install \"fastbptt[bench]\"") from None
    console = Console()
    with console.status("measuring") as status:
        report = run_bench(arguments.peers, arguments.cells, arguments.dtype, arguments.threads, arguments.classes,
                           arguments.seconds, lambda done, total, name: status.update(f"{done} of {total}: {name}"))
    console.print(report.table())
    for name, reason in report.missing.items():
        console.print(f"{name} left out: {reason}")
    if arguments.out is not None:
        if arguments.out.suffix == ".json":
            arguments.out.write_text(report.to_json())
        else:
            report.plot(arguments.out)


def _gradcheck(arguments: argparse.Namespace) -> None:
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


def _seconds(code: str, cache: str) -> float:
    env = {**os.environ, "NUMBA_CACHE_DIR": cache}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _timing() -> None:
    """First gradients in new processes, beside the first call of a trivial cached function."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "trivial.py").write_text("import numba\n@numba.njit(cache=True)\ndef f(x):\n    return x[0] + 1\n")
        floor = FLOOR.format(folder=folder)
        cold = _seconds(FIRST, folder)
        _seconds(floor, folder)
        turns = [(_seconds(FIRST, folder), _seconds(floor, folder)) for _ in range(5)]
        warm, least = np.median(turns, axis=0)
    print(f"first gradient  cold {cold:.2f} s, warm {warm:.2f} s; first call of a trivial cached function {least:.2f} s")


def _info(arguments: argparse.Namespace) -> None:
    features = [name for name in ("avx512f", "avx2", "fma", "neon") if simd.FEATURES.get(name)]
    print(f"fastbptt {__version__}, numba {numba.__version__}, numpy {np.__version__}, Python {platform.python_version()}")
    print(f"CPU             {platform.processor() or platform.machine()}, {' '.join(features) or 'baseline'}")
    print(f"vector width    {simd.BITS} bits: {simd.lane_count('float32')} float32 or {simd.lane_count('float64')} float64")
    print(f"threads         {shards.get_num_threads()}, layer {numba.config.THREADING_LAYER}")
    print(f"cache           {jit.CACHE_DIR or 'none can be written'}")
    if arguments.timing:
        _timing()


def _compile(arguments: argparse.Namespace) -> None:
    for dtype in (np.float32, np.float64):
        for ids in (False, True):
            start = perf_counter()
            cell = RNN(3, 4)
            params = cell.init(dtype=dtype)
            x = np.zeros((2, 1), int) if ids else np.zeros((2, 1, 3), dtype)
            tape = forward(cell, params, x)
            backward(cell, params, tape, tape.h, Truncation(2))
            print(f"RNN {np.dtype(dtype).name} {'ids' if ids else 'vectors'}: {perf_counter() - start:.1f} s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except (CommandError, ValueError, TypeError, OSError) as error:
        print(f"fastbptt: {error}".splitlines()[0], file=sys.stderr)
        return 2
    return 0
