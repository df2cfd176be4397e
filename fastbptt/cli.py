"""The command line: `fastbptt <command>`; each command is a file of `fastbptt.commands`."""
from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from . import __version__
from .commands import bench, compile, demo, diagnose, gradcheck, info, sample, train
from .commands.common import CommandError, Interrupted, Parser
from .commands.interrupt import raise_again
from .errors import WorkerError, printable

COMMANDS = (demo, train, sample, diagnose, bench, gradcheck, info, compile)
REFUSED, INTERRUPTED, CLOSED = 2, 130, 141      # the last two are 128 + SIGINT and 128 + SIGPIPE, as shells count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    raise_again()
    parser = Parser(prog="fastbptt", description="Backpropagation through time on the CPU.")
    parser.add_argument("--version", action="version", version=f"fastbptt {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    for command in COMMANDS:
        command.register(commands)
    parsed = parser.parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")      # a text or a file's name may have characters that the terminal lacks
    try:
        parsed.run(parsed)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _leave_pipe()
        return CLOSED
    except MemoryError as error:
        return _refused(f"{parsed.command} needs more memory than there is ({error}); choose smaller sizes")
    except (CommandError, WorkerError, ValueError, TypeError, OSError) as error:
        return _refused(str(error))
    except Interrupted as done:
        return _refused(str(done), INTERRUPTED) if str(done) else INTERRUPTED
    except KeyboardInterrupt:
        return _refused(f"{parsed.command} interrupted; what it had not finished is not written", INTERRUPTED)
    return 0


def _refused(message: str, status: int = REFUSED) -> int:
    """Say it in one line, in which names of files cannot drive the terminal."""
    print(f"fastbptt: {printable(message, most=2000)}", file=sys.stderr)
    return status


def _leave_pipe() -> None:
    """Whoever read the output has gone, such as `head`: what is still to be written goes nowhere."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
