"""`fastbptt train`: a model of a text or of arrays, on a stream, with checkpoints; `--resume` continues a run bit for bit."""
from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import check_positive, printable
from ..runs.settings import CELL_NAMES, KINDS, OPTIMIZERS, SCHEDULES, Settings
from .common import CommandError, Interrupted, check_folder, make_console

if TYPE_CHECKING:
    from rich.console import Console

    from ..runs import Run
    from ..training.fit import Step
    from ..training.workers import Workers
    from .common import Commands

DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(Settings) if f.default is not MISSING}
OUT = Path("fastbptt-train")
EPOCHS = 10         # where neither --epochs nor --seconds is given
ENDS = ("epochs", "seconds")        # a run may be resumed with others, counted from its start
OPTIONS: tuple[tuple[str, type, str], ...] = (
    ("cell", str, f"{', '.join(CELL_NAMES)}"),
    ("layers", int, "layers of cells"),
    ("hidden", int, "units of a layer"),
    ("dropout", float, "fraction of the outputs dropped between layers"),
    ("window", int, "steps of a batch; gradients reach back to its first step at most"),
    ("batch", int, "lanes of the data that are read in parallel"),
    ("truncate", str, "full, K (chunks of K steps), H,S (horizon and stride), or auto (measured after 200 updates)"),
    ("clip", float, "largest global norm of a gradient"),
    ("optimizer", str, f"{', '.join(OPTIMIZERS)}"),
    ("lr", float, "learning rate"),
    ("schedule", str, f"{', '.join(SCHEDULES)}"),
    ("epochs", int, f"passes over the data (default: {EPOCHS}, or no limit with --seconds)"),
    ("seconds", float, "time to train"),
    ("seed", int, "seed of the initial weights and of dropout"),
    ("evaluate_every", int, "updates between evaluations on the held-out tenth"),
)


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    train = commands.add_parser("train", help="train a model of a text or of arrays, with checkpoints to go on from")
    source = train.add_mutually_exclusive_group()
    source.add_argument("--text", type=Path, help="a UTF-8 file: a model of its characters")
    source.add_argument("--npz", type=Path, help="a file with ids (N,), or with x (N, I) and y: (N,) integers or (N, O) reals")
    train.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with the run of a folder, bit for bit; --epochs and "
                       "--seconds, counted from its begin, set another end, --text and --npz say where its data are now")
    for name, kind, text in OPTIONS:
        default = "" if DEFAULTS[name] is None else f" (default: {DEFAULTS[name]})"
        train.add_argument(f"--{name.replace('_', '-')}", type=kind, default=None, help=text + default)
    train.add_argument("--out", type=Path, default=None, help="folder for the run (default: fastbptt-train)")
    train.add_argument("--save-every", type=float, default=60.0, help="seconds between checkpoints (default: 60)")
    train.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Begin or resume, train, draw the curves."""
    try:
        import matplotlib.figure  # noqa: F401
        import rich  # noqa: F401
    except ModuleNotFoundError as missing:
        raise CommandError(f"train needs the package {missing.name}: pip install \"fastbptt[demo]\"") from None
    from ..distributed import launched
    try:
        workers = launched()
    except ImportError as missing:
        raise CommandError(f"train: {missing}") from None
    try:
        _run(arguments, workers)
    finally:
        if workers is not None:
            workers.close()


def _run(arguments: argparse.Namespace, workers: Workers | None) -> None:
    from ..runs.agreement import on_all
    first = workers is None or workers.rank == 0
    settings = on_all(workers, lambda: _checked(arguments, first))
    work = _begun(settings, arguments, workers) if settings is not None else _resumed(arguments, workers)
    try:
        _train(work)
    finally:
        if work.lock is not None:
            work.lock.release()


def _train(work: Run) -> None:
    """Train, draw the curves, say what there is; of several workers, the first one does."""
    if not work.first:
        with _interrupting(work):
            work.go()
        if work.stopped:
            raise Interrupted
        return
    console = make_console()
    console.print(_introduced(work), markup=False)
    if _trained(work, console):
        size = work.settings.workers
        raise Interrupted(f"interrupted; update {work.saved} is saved, go on: fastbptt train --resume {work.folder}"
                          f"{f', with {size} workers' if size > 1 else ''}")
    from ..runs import BEST, MODEL
    from ..runs.plot import draw
    lines = [f"Held out: {work.held_out:.4f} {work.data.unit}", f"The curves: {draw(work)}", f"The model: {work.folder / MODEL}"]
    if work.progress.best is not None:
        number, value = work.progress.best
        lines.append(f"The best on the held-out tenth: {work.folder / BEST} (update {number:,}, {value:.4f})")
    console.print("\n".join(map(printable, lines)), markup=False, soft_wrap=True)


def _source(arguments: argparse.Namespace) -> tuple[str, str] | None:
    """Kind and path of the data that --text or --npz names."""
    given = [(kind, str(path.absolute())) for kind in KINDS if (path := getattr(arguments, kind)) is not None]
    return given[0] if given else None


def _checked(arguments: argparse.Namespace, first: bool) -> Settings | None:
    """Settings of a run that begins; None for one that is resumed. The folder is that of the first worker."""
    check_positive("--save-every", arguments.save_every)
    given = {name: getattr(arguments, name) for name, _, _ in OPTIONS if getattr(arguments, name) is not None}
    if arguments.resume is None:
        if "epochs" not in given and "seconds" not in given:
            given["epochs"] = EPOCHS
        if (source := _source(arguments)) is None:
            raise CommandError("train: expected one of --text, --npz and --resume, got none")
        settings = Settings(source[1], source[0], **given)
        if first:
            check_folder(arguments.out or OUT)
        return settings
    other = [name for name in given if name not in ENDS] + ["out"] * (arguments.out is not None)
    if other:
        raise CommandError(f"--{other[0].replace('_', '-')}: expected no options of the run beside --resume, which has its own, "
                           "but --epochs and --seconds, and --text or --npz for data that have moved; leave it out")
    if first:
        check_folder(arguments.resume, "--resume")
    return None


def _begun(settings: Settings, arguments: argparse.Namespace, workers: Workers | None) -> Run:
    from ..runs import begin
    return begin(settings, arguments.out or OUT, arguments.save_every, workers)


def _resumed(arguments: argparse.Namespace, workers: Workers | None) -> Run:
    from ..runs import resume
    return resume(arguments.resume, arguments.save_every, arguments.epochs, arguments.seconds, _source(arguments), workers)


def _introduced(work: Run) -> str:
    s, data = work.settings, work.data
    layers = f"{s.layers} layers of {s.hidden}" if s.layers > 1 else str(s.hidden)
    at = f"; going on after update {work.progress.number}" if work.progress.number else ""
    at += "; lines of metrics.jsonl from before it are missing" if work.metrics.shortened else ""
    lanes = str(s.batch) if s.workers == 1 else f"{s.workers} workers with {s.batch}"
    return (f"{printable(Path(s.source).name)}: {data.steps:,} steps, {data.inputs} inputs, {data.outputs} outputs, "
            f"the last tenth held out. {s.cell.upper()} of {layers} units, {lanes} × {s.window} steps a batch{at}.")


def _trained(work: Run, console: Console) -> bool:
    """Train under a progress bar; returns whether Ctrl-C ended it. A second Ctrl-C does not wait for the current update."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    columns = (BarColumn(bar_width=8), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),      # of 80 characters
               TextColumn("{task.description}"))
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("compiling", total=1.0)
        work.tell = _Told(progress, task)

        with _interrupting(work):
            work.go()
    return work.stopped


@contextmanager
def _interrupting(work: Run) -> Iterator[None]:
    """Ctrl-C ends the run after the update under way; in the main thread, the only one that may listen to signals.

    So does SIGTERM where there are several workers: launchers send it to those that are left.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _: Any) -> None:
        work.stop = True
        signal.signal(number, signal.default_int_handler)
    heard = (signal.SIGINT,) if work.workers is None else (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Told:
    """Shows the smoothed loss, the speed and the gradient norm, and a line for every evaluation."""

    def __init__(self, progress: Any, task: Any):
        self.progress, self.task, self.loss, self.first = progress, task, float("nan"), (0.0, 0)

    def __call__(self, work: Run, step: Step) -> None:
        """After every update."""
        loss, seconds, s = work.data.scaled(step.loss), work.seconds, work.settings
        if self.loss != self.loss:
            self.loss, self.first = loss, (seconds, step.number)
        self.loss += 0.05 * (loss - self.loss)
        speed = (step.number - self.first[1]) * s.lanes * s.window / max(1e-9, seconds - self.first[0])
        text = f"{self.loss:.3f} {work.data.unit}, {speed:,.0f}/s, norm {step.norm:.2f}"
        self.progress.update(self.task, completed=work.spent, description=text)
        if step.evaluation is not None:
            self.progress.console.print(f"update {step.number:>7,}  {seconds:8.1f} s   trained {self.loss:.3f}   "
                                        f"held out {step.evaluation:.4f} {work.data.unit}", markup=False)
