"""`fastbptt demo`: train a character model on real text with full and truncated gradients, side by side."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import check_positive, printable
from ..training.storage import save_model
from .common import CommandError, check_folder, for_terminal, make_console

if TYPE_CHECKING:
    from rich.console import Console

    from ..demo import Corpus, Report
    from .common import Commands

PICTURE, WEIGHTS = "demo.png", "model.npz"


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    demo = commands.add_parser("demo", help="train on real text with full and truncated gradients, side by side")
    demo.add_argument("--text", type=Path, default=None, help="a UTF-8 file (default: the documentation topics of Python)")
    demo.add_argument("--seconds", type=float, default=45.0, help="training time for all three together (default: 45)")
    demo.add_argument("--out", type=Path, default=Path("fastbptt-demo"),
                      help="folder for the picture and the weights (default: fastbptt-demo)")
    demo.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Check the arguments, train, print and write the results."""
    try:
        import matplotlib.figure  # noqa: F401
        import rich  # noqa: F401

        from ..demo import default_text, read_text
    except ModuleNotFoundError as missing:
        raise CommandError(f"demo needs the package {missing.name}: pip install \"fastbptt[demo]\"") from None
    check_positive("--seconds", arguments.seconds)
    corpus = default_text() if arguments.text is None else read_text(arguments.text)
    check_folder(arguments.out)
    console = make_console()
    console.print(printable(corpus.sizes()), markup=False)
    report = _trained(corpus, arguments.seconds, console)
    for table in report.tables():
        console.print(table)
    prompt, written = report.sample
    console.print(f"After {prompt!r} the model writes:\n", markup=False)
    console.print(for_terminal(written), markup=False)
    arguments.out.mkdir(parents=True, exist_ok=True)
    report.plot(arguments.out / PICTURE)
    save_model(arguments.out / WEIGHTS, report.trained.model, report.trained.courses[0].params, corpus.vocabulary)
    console.print(f"\nThe curves: {arguments.out / PICTURE}\nThe weights, trained with full gradients: {arguments.out / WEIGHTS}",
                  markup=False, soft_wrap=True)


def _trained(corpus: Corpus, seconds: float, console: Console) -> Report:
    """The demo under a progress bar."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from ..demo import run_demo
    columns = (BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=1.0)
        return run_demo(corpus, seconds, lambda what, spent: progress.update(task, description=what, completed=spent))
