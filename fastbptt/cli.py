"""The command line: `fastbptt <command>`; each command is a file of `fastbptt.commands`."""
from __future__ import annotations

import sys
from collections.abc import Sequence

from . import __version__
from .commands import bench, compile, demo, diagnose, gradcheck, info, sample, train
from .commands.common import CommandError, Interrupted, Parser

COMMANDS = (demo, train, sample, diagnose, bench, gradcheck, info, compile)
INTERRUPTED = 130       # 128 + SIGINT, as shells count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    parser = Parser(prog="fastbptt", description="Backpropagation through time on the CPU.")
    parser.add_argument("--version", action="version", version=f"fastbptt {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    for command in COMMANDS:
        command.register(commands)
    parsed = parser.parse_args(arguments)
    try:
        parsed.run(parsed)
    except (CommandError, ValueError, TypeError, OSError) as error:
        print(f"fastbptt: {error}".splitlines()[0], file=sys.stderr)
        return 2
    except Interrupted as done:
        print(f"fastbptt: {done}", file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        print(f"fastbptt: {parsed.command} interrupted; what it had not finished is not written", file=sys.stderr)
        return INTERRUPTED
    return 0
