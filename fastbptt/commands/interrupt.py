"""Ctrl-C while a command is still being imported: the process ends as shells expect, without a traceback.

Imported before everything else, because NumPy and Numba take most of the first half second.
"""
from __future__ import annotations

import signal
import sys
import threading
from itertools import pairwise
from pathlib import PurePath

NAME = "fastbptt"


def started_as_command(program: str, command_line: list[str]) -> bool:
    """Whether this process is `fastbptt …` or `python -m fastbptt …`."""
    return PurePath(program).stem in (NAME, f"{NAME}-script") or ("-m", NAME) in pairwise(command_line)


def end_quietly() -> None:
    """Until `raise_again`, Ctrl-C ends the process by the signal itself. A handler that somebody else has set stays."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_again() -> None:
    """Ctrl-C is a KeyboardInterrupt again, which commands answer in a line."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if started_as_command(sys.argv[0], sys.orig_argv):
    end_quietly()
