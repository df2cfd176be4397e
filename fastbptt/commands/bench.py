"""`fastbptt bench`: forward + backward compared with other libraries."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..training.files import replacing
from .common import CommandError, make_console, names

if TYPE_CHECKING:
    from .common import Commands


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    bench = commands.add_parser("bench", help="time forward + backward against other libraries")
    bench.add_argument("--peers", type=names, default=["numpy", "torch", "jax"], help="comma-separated: numpy,torch,jax")
    bench.add_argument("--cells", type=names, default=["rnn", "gru", "lstm"], help="comma-separated: rnn,gru,lstm")
    bench.add_argument("--dtype", type=names, default=["float32"], help="comma-separated: float32,float64")
    bench.add_argument("--classes", type=names, default=["S", "M", "L"], help="comma-separated: S,M,L")
    bench.add_argument("--seconds", type=float, default=3.0, help="time to spend on each case (default: 3)")
    bench.add_argument("--threads", type=int, default=None, help="threads of every library (default: all cores)")
    bench.add_argument("--out", type=Path, default=None, help="write the results to a .json or .png file")
    bench.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    if arguments.out is not None and arguments.out.suffix not in (".json", ".png"):
        raise CommandError(f"--out: expected a .json or .png file, got {arguments.out}")
    try:
        import rich  # noqa: F401

        from ..bench.run import run_bench
    except ModuleNotFoundError as missing:
        raise CommandError(f"bench needs the package {missing.name}: pip install \"fastbptt[bench]\"") from None
    console = make_console()
    with console.status("measuring") as status:
        report = run_bench(arguments.peers, arguments.cells, arguments.dtype, arguments.threads, arguments.classes,
                           arguments.seconds, lambda done, total, name: status.update(f"{done} of {total}: {name}"))
    console.print(report.table())
    for name, reason in report.missing.items():
        console.print(f"{name} left out: {reason}")
    if arguments.out is not None:
        if arguments.out.suffix == ".json":
            with replacing(arguments.out) as file:
                file.write(report.to_json().encode())
        else:
            report.plot(arguments.out)
