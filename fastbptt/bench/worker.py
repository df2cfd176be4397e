"""A side in a process of its own: its threads, its environment, and nothing of any other side.

Some settings are read once, when a library starts (XLA_FLAGS, the size of a thread pool), and the idle threads of one library
spin while another is timed; so every side that is timed has its own process, `python -m fastbptt.bench.worker`. It is told what
to do in pickles on its standard input, and ends when that closes, whatever has become of the process that started it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from .host import Host
from .peers import OURS, PEERS, OursSide

ROOT = Path(__file__).resolve().parents[2]


class Worker:
    """`Host` of the side of this name, in a new process with these additions to the environment.

    Raises
    ------
    ImportError
        If the side's library is not installed.
    RuntimeError
        If the process ends before it is told to.
    """

    def __init__(self, name: str, threads: int | None = None, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fastbptt.bench.worker", name, str(threads or 0)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, **(environment or {})})
        try:
            self.result()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def begin(self, method: str, *arguments: Any) -> None:
        """Has the process call a method of its host; `result` waits for what it returns."""
        assert self._process.stdin is not None
        try:
            pickle.dump((method, arguments), self._process.stdin)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def result(self) -> Any:
        """What the method returned, or raised."""
        assert self._process.stdout is not None
        try:
            result, error = pickle.load(self._process.stdout)
        except EOFError:
            raise self._ended() from None
        if error is not None:
            raise error
        return result

    def call(self, method: str, *arguments: Any) -> Any:
        """Both."""
        self.begin(method, *arguments)
        return self.result()

    def _ended(self) -> RuntimeError:
        status = self._process.wait()
        return RuntimeError(f"{self.name}: its process ended with status {status}; leave this side out to go on")

    def close(self) -> None:
        """Ends the process at once: it has nothing to save."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:      # something was still to be written to a process that has ended
                    pass


def serve(name: str, threads: int | None, commands: BinaryIO, results: BinaryIO) -> None:
    """Answers commands until there are no more."""
    def answer(result: Any, error: Exception | None) -> None:
        pickle.dump((result, error), results)
        results.flush()

    try:
        host = Host((OursSide if name == OURS else PEERS[name])(threads))
    except Exception as error:
        answer(None, _plain(error))
        return
    answer(None, None)
    while True:
        try:
            method, arguments = pickle.load(commands)
        except EOFError:
            return
        try:
            result = getattr(host, method)(*arguments)
        except Exception as error:
            answer(None, _plain(error))
        else:
            answer(result, None)


def _plain(error: Exception) -> Exception:
    """An error that any process can read: those of other libraries become errors of Python's own with their words."""
    for kind in (ImportError, MemoryError, AssertionError, ValueError, TypeError):
        if isinstance(error, kind):
            return kind(str(error))
    return RuntimeError(f"{type(error).__name__}: {error}")


def main() -> None:
    """Of the process. What libraries print goes to standard error, as standard output carries results."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)      # Ctrl-C is answered by the process that started this one
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(BrokenPipeError):      # whoever started this process is gone
        serve(sys.argv[1], int(sys.argv[2]) or None, sys.stdin.buffer, results)
    os._exit(0)      # without waiting for the threads of any library


if __name__ == "__main__":
    main()
