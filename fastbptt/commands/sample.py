"""`fastbptt sample`: generate text with a character model."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import check_integer, check_positive
from ..training.sampling import sample
from ..training.storage import load_model
from .common import CommandError, for_terminal

if TYPE_CHECKING:
    from .common import Commands


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("sample", help="generate text with a character model")
    parser.add_argument("model", type=Path, help="a model file, such as best.npz from `fastbptt train`")
    parser.add_argument("--prime", default="\n", help="text that the model reads first (default: a newline)")
    parser.add_argument("--length", type=int, default=500, help="characters to generate (default: 500)")
    parser.add_argument("--temperature", type=float, default=0.8, help="above 0; low: likely characters only (default: 0.8)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random draws (default: 0)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Check the arguments, then generate character by character."""
    length = check_integer("--length", arguments.length, 1, "pass the number of characters to write")
    check_positive("--temperature", arguments.temperature)
    check_integer("--seed", arguments.seed, 0, "pass an integer from 0")
    saved = load_model(arguments.model)
    if saved.vocabulary is None:
        raise CommandError(f"{arguments.model}: expected a model of characters, got one without a vocabulary")
    if not arguments.prime:
        raise CommandError("--prime: expected at least one character, got none")
    prime = arguments.prime
    if prime == "\n" and prime not in saved.vocabulary.characters:
        prime = saved.vocabulary.characters[0]      # the default of a text of one line
    try:
        ids = saved.vocabulary.encode(prime)
    except ValueError as error:
        raise CommandError(str(error).replace("text:", "--prime:", 1)) from None
    drawn = sample(saved.model, saved.params, ids, temperature=arguments.temperature, seed=arguments.seed)
    print(prime, end="")
    for _ in range(length):
        print(for_terminal(saved.vocabulary.decode([next(drawn)])), end="", flush=True)
    print()
