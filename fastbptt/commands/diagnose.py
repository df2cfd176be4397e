"""`fastbptt diagnose`: how the gradients of a model behave on a text or a batch, in the terminal and as a page."""
from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..cells import CELLS
from ..errors import FileError, check_file_numbers, check_integer, shape_text
from ..flow.lyapunov import lyapunov_spectrum
from ..flow.report import GradientFlow, facts, gradient_flow
from ..runs.data import check_same_steps
from ..training.documentation import documentation
from ..training.files import replacing
from ..training.model import SequenceModel
from ..training.npz import open_npz
from ..training.sequences import Vocabulary
from ..training.storage import load_model
from ..training.text import TextFile
from .common import CommandError, check_folder, make_console

PAGE = "diagnose.html"
NAMES = ("ids", "x", "y", "lengths")        # of the arrays of a file
WANTED = "an npz file with x and y"
MOST = 2**63        # ids and lengths are compared with the model and with the steps
HIDDEN, MOST_EXPONENTS = 64, 16


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("diagnose", help="report whether gradients vanish or explode, and what may help")
    parser.add_argument("model", nargs="?", type=Path, help="a file written by save_model (default: a new RNN of 64 tanh units)")
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--text", type=Path, help="a UTF-8 file, for a character model (default: documentation of Python)")
    data.add_argument("--npz", type=Path,
                      help="a file with x (T, B, I), y and, if sequences differ, lengths; or with one sequence, as for train")
    parser.add_argument("--steps", type=int, default=100, help="characters in each sequence of text (default: 100)")
    parser.add_argument("--batch", type=int, default=8, help="number of sequences of text (default: 8)")
    parser.add_argument("--out", type=Path, help=f"folder in which to write the page {PAGE}")
    parser.add_argument("--json", action="store_true", help="print the report as JSON only")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Load the model and the data, compute the report, print and write it."""
    check_integer("--steps", arguments.steps, 2, "pass a number of characters")
    check_integer("--batch", arguments.batch, 1, "pass a number of sequences")
    _require(arguments)
    if arguments.out is not None:
        check_folder(arguments.out)
    model, params, vocabulary = _model(arguments)
    batch = _characters(arguments, model, vocabulary) if arguments.npz is None else _arrays(arguments, model, params)
    try:
        tape, _, dh = model.errors(params, **batch)
    except (TypeError, ValueError) as error:
        raise CommandError(f"{arguments.npz}: {error}" if arguments.npz is not None else str(error)) from None
    report = gradient_flow(model.cell, params.cell, tape, dh)
    if arguments.json:
        print(json.dumps(report.as_dict(), allow_nan=False))
    else:
        _print(report)
    if arguments.out is not None:
        from ..flow.page import html_page

        k = min(_state_size(model.cell), MOST_EXPONENTS)
        spectrum = None if "lengths" in batch else lyapunov_spectrum(model.cell, params.cell, batch["x"], k)
        arguments.out.mkdir(parents=True, exist_ok=True)
        with replacing(arguments.out / PAGE) as file:
            file.write(html_page(report, spectrum).encode())
        if not arguments.json:
            print(f"\nThe page with the pictures: {arguments.out / PAGE}")


def _require(arguments: argparse.Namespace) -> None:
    """The packages that this call needs."""
    try:
        if not arguments.json:
            import rich  # noqa: F401
        if arguments.out is not None:
            import matplotlib  # noqa: F401
    except ModuleNotFoundError as missing:
        raise CommandError(f"diagnose needs the package {missing.name}: pip install \"fastbptt[demo]\"") from None


def _state_size(cell: Any) -> int:
    """S, the number of components of a state."""
    return sum(part.hidden_size * len(part.state_type._fields) for part in cell.layers)


def _text(path: Path | None) -> str:
    return documentation() if path is None else TextFile(path).text()


def _model(arguments: argparse.Namespace) -> tuple[SequenceModel, Any, Vocabulary | None]:
    """The model of the file, or a new one for the text."""
    if arguments.model is not None:
        return tuple(load_model(arguments.model))  # type: ignore[return-value]
    if arguments.npz is not None:
        raise CommandError("model: expected a file of save_model together with --npz, got none")
    vocabulary = Vocabulary.from_text(_text(arguments.text))
    model = SequenceModel(CELLS["RNN"](len(vocabulary), HIDDEN), len(vocabulary))
    return model, model.init(seed=0), vocabulary


def _characters(arguments: argparse.Namespace, model: SequenceModel, vocabulary: Vocabulary | None) -> dict[str, Any]:
    """Sequences spread evenly over the text; each character is to be predicted from those before it."""
    if vocabulary is None or model.mode != "many_to_many":
        raise CommandError(f"--npz: expected a file with x and y, because {arguments.model} holds no character model")
    return _next_ids(vocabulary.encode(_text(arguments.text)), arguments, "--text")


def _next_ids(ids: Array, arguments: argparse.Namespace, option: str) -> dict[str, Any]:
    rows = _spread(ids, arguments.steps + 1, arguments.batch, option)
    return {"x": rows[:-1], "y": rows[1:]}


def _spread(array: Array, T: int, B: int, option: str) -> Array:
    """(T, B, …): B segments of T steps, spread evenly over an array (N, …)."""
    if len(array) < T:
        raise CommandError(f"{option}: expected at least {T} characters or steps, as many as --steps and the one to predict, "
                           f"got {len(array)}")
    starts = np.linspace(0, len(array) - T, B).astype(int)
    return np.stack([array[s:s + T] for s in starts], axis=1)


def _arrays(arguments: argparse.Namespace, model: SequenceModel, params: Any) -> dict[str, Any]:
    """What an npz file has: a batch, or one sequence as `fastbptt train` takes it, of which stretches are looked at."""
    dtype = params.readout.V.dtype
    with open_npz(arguments.npz, WANTED, "--npz") as archive:
        members = {name: archive.members[name] for name in NAMES if name in archive.members}
        if set(members) != {"ids"} and ("ids" in members or not {"x", "y"} <= set(members)):
            raise FileError("expected the arrays x and y, and lengths if sequences differ, or ids, "
                            f"got {', '.join(members) or 'none of them'}")
        of_one = model.mode == "many_to_many" and set(members) == {"x", "y"} and \
            (len(members["x"].shape), members["x"].dtype.kind) == (2, "f")
        if of_one:
            check_same_steps(archive)
        found = {name: check_file_numbers(name, archive.read(name), dtype, MOST) for name in members}
    if set(found) == {"ids"}:
        ids = found["ids"]
        if ids.ndim != 1 or ids.dtype.kind == "f":
            raise CommandError(f"{arguments.npz}: expected integer ids (N,), got {shape_text(ids.shape)} of {ids.dtype}")
        return _next_ids(ids, arguments, "--npz")
    if of_one:
        return {name: _spread(array, min(arguments.steps, len(array)), arguments.batch, "--npz") for name, array in found.items()}
    return found


def _print(report: GradientFlow) -> None:
    from rich.table import Table

    console = make_console()
    console.print(report.cell, markup=False)
    console.print(f"[bold]{report.verdict}[/bold]: ", end="")
    console.print(report.reason, markup=False)
    for title, rows in (("", facts(report)), ("What may help", report.remedies)):
        table = Table(box=None, show_header=False, title=title or None, title_justify="left", pad_edge=False)
        for row in rows:
            table.add_row(*map(_plain, row))
        console.print()
        console.print(table)


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)
