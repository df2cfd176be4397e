"""A line on the terminal while kernels are compiled: seconds in which it would otherwise seem that nothing happens."""
from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

WAIT = 1.0      # seconds of silence
TEXT = "fastbptt: compiling for this CPU, {seconds} s; the code is kept for later processes"


@contextmanager
def shown() -> Iterator[None]:
    """Say on stderr, if that is a terminal, for how long it has been going on; the line is gone when this is left."""
    done = Event()
    writer = Thread(target=_write, args=(sys.stderr, done), name="fastbptt-progress")
    begun = _is_terminal(sys.stderr) and _started(writer)
    try:
        yield
    finally:
        done.set()
        if begun:
            writer.join()


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):      # there is none, or it is closed
        return False


def _started(thread: Thread) -> bool:
    try:
        thread.start()
    except RuntimeError:      # no thread can be started: there are too many, or the interpreter is about to end
        return False
    return True


def _write(stream: Any, done: Event) -> None:
    seconds, line = 0, ""
    try:
        while not done.wait(WAIT):
            seconds += 1
            line = TEXT.format(seconds=seconds)
            stream.write(f"\r{line}")
            stream.flush()
        if line:
            stream.write(f"\r{' ' * len(line)}\r")
            stream.flush()
    except (OSError, ValueError):      # nobody reads it any more: the kernel is compiled all the same
        pass
