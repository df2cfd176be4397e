"""What all commands share: errors of one line, and a parser that reports its own in one line too."""
from __future__ import annotations

import argparse
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    Commands = argparse._SubParsersAction["Parser"]


class CommandError(Exception):
    """An error that the user sees as one line, with exit status 2."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C that was handled and left nothing unsaved; its message, if any, is the line that the user sees."""


def check_folder(out: Path, name: str = "--out") -> None:
    """Refuse a folder that cannot be written or created, before any work; leaves nothing there."""
    nearest = next(p for p in [out.absolute(), *out.absolute().parents] if p.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise CommandError(f"{name}: expected a folder that can be written, got {out} ({error.strerror})") from None


def make_console() -> Console:
    """Of rich, from the extra `demo`; where whoever read the output has gone, it says so as `print` does."""
    from rich.console import Console

    class Terminal(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Terminal(highlight=False)


def for_terminal(text: str) -> str:
    """A text that may come from others: on a terminal its control characters are written as their codes."""
    if not sys.stdout.isatty():
        return text
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) == "Cc" and c not in "\n\r\t" else c for c in text)


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong argument is reported in one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Print one line and exit with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def names(text: str) -> list[str]:
    """The items of a comma-separated argument."""
    return [name for name in text.split(",") if name]
