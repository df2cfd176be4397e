"""`fastbptt bench`: forward + backward compared with other libraries, on a quiet and on a busy machine."""
from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..training.files import replacing
from .common import CommandError, make_console, names

if TYPE_CHECKING:
    from ..bench.busy_report import BusyReport
    from ..bench.report import Report
    from ..bench.run import Progress
    from .common import Commands

PEERS = "numpy,numpy-buffers,numba,torch,torch-function,jax,jax-vjp,paddle"


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    bench = commands.add_parser("bench", help="time forward + backward against other libraries")
    bench.add_argument("--peers", type=names, default=names(PEERS), help=f"comma-separated (default: all, {PEERS})")
    bench.add_argument("--cells", type=names, default=["rnn", "gru", "lstm"], help="comma-separated: rnn,gru,lstm")
    bench.add_argument("--dtype", type=names, default=["float32"], help="comma-separated: float32,float64")
    bench.add_argument("--classes", type=names, default=None, help="comma-separated: S,M,L,odd,long (default: S,M,L,odd)")
    bench.add_argument("--busy", action="store_true",
                       help="the same calls alone, beside one and three busy processes, and in two processes at once")
    bench.add_argument("--seconds", type=float, default=None,
                       help="time to spend on each case (default: 3), with --busy on each measurement (default: 1)")
    bench.add_argument("--threads", type=int, default=None,
                       help="threads of every library (default: the better of one and all cores; with --busy both)")
    bench.add_argument("--out", type=Path, default=None, help="write the results to a .json or .png file")
    bench.set_defaults(run=run)


def _check(arguments: argparse.Namespace) -> None:
    kinds = (".json",) if arguments.busy else (".json", ".png")
    if arguments.out is not None and arguments.out.suffix not in kinds:
        raise CommandError(f"--out: expected a {' or '.join(kinds)} file, got {arguments.out}")
    if arguments.busy and arguments.classes is not None:
        raise CommandError("--classes: --busy has cases of its own; leave one of the two out")


def _measure(arguments: argparse.Namespace, progress: Progress) -> Report | BusyReport:
    from ..bench.busy import run_busy
    from ..bench.cases import BUSY_CASES, MEASURED, select
    from ..bench.run import run_bench

    peers, threads, seconds = arguments.peers, arguments.threads, arguments.seconds
    cases = select(arguments.cells, arguments.dtype, arguments.classes or MEASURED)
    if not arguments.busy:
        return run_bench(cases, peers, threads, 3.0 if seconds is None else seconds, progress)
    cases = tuple(replace(case, dtype=dtype) for dtype in arguments.dtype for case in BUSY_CASES if case.cell in arguments.cells)
    return run_busy(cases, peers, threads, 1.0 if seconds is None else seconds, progress)


def run(arguments: argparse.Namespace) -> None:
    """Measure, print a table, and write it where that is asked for."""
    _check(arguments)
    try:
        import rich  # noqa: F401

        from ..bench.report import Report
    except ModuleNotFoundError as missing:
        raise CommandError(f"bench needs the package {missing.name}: pip install \"fastbptt[bench]\"") from None
    console = make_console()
    with console.status("starting") as status:
        report = _measure(arguments, lambda done, total, name: status.update(f"{done} of {total}: {name}"))
    console.print((report.by_package() if isinstance(report, Report) else report).table())
    for name, reason in report.missing.items():
        console.print(f"{name} left out: {reason}")
    if arguments.out is None:
        return
    if arguments.out.suffix == ".json":
        with replacing(arguments.out) as file:
            file.write(report.to_json().encode())
    elif isinstance(report, Report):
        report.by_package().plot(arguments.out)
