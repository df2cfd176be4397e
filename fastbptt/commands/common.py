"""What all commands share: errors of one line, and a parser that reports its own in one line too."""
from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["Parser"]


class CommandError(Exception):
    """An error that the user sees as one line, with exit status 2."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C that was handled and left nothing unsaved; its message is the line that the user sees."""


def check_folder(out: Path, name: str = "--out") -> None:
    """Refuse a folder that cannot be written or created, before any work; leaves nothing there."""
    nearest = next(p for p in [out.absolute(), *out.absolute().parents] if p.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise CommandError(f"{name}: expected a folder that can be written, got {out} ({error.strerror})") from None


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong argument is reported in one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Print one line and exit with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def names(text: str) -> list[str]:
    """The items of a comma-separated argument."""
    return [name for name in text.split(",") if name]
