"""What all commands share: errors of one line, a parser that keeps to it."""
from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["Parser"]


class CommandError(Exception):
    """What goes to the user as one line, with exit status 2."""


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong argument is one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Print one line and leave with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def names(text: str) -> list[str]:
    """The items of a comma-separated argument."""
    return [name for name in text.split(",") if name]
