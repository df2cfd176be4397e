"""`.. fastbptt-commands::`: the help of every command, from the parsers themselves."""
from __future__ import annotations

import argparse

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from fastbptt.cli import COMMANDS


def helps() -> dict[str, str]:
    """The help of every command by its name, at a fixed width."""
    parser = argparse.ArgumentParser(prog="fastbptt")
    commands = parser.add_subparsers()
    for command in COMMANDS:
        command.register(commands)
    for each in commands.choices.values():
        each.formatter_class = _Wide
    return {name: each.format_help() for name, each in commands.choices.items()}


class _Wide(argparse.HelpFormatter):
    def __init__(self, prog: str):
        super().__init__(prog, width=100)


class Commands(SphinxDirective):
    """One section for each command."""

    def run(self) -> list[nodes.Node]:
        sections: list[nodes.Node] = []
        for name, text in helps().items():
            section = nodes.section(ids=[f"fastbptt-{name}"], names=[f"fastbptt {name}"])
            section += nodes.title(text=f"fastbptt {name}")
            section += nodes.literal_block(text, text, language="text")
            sections.append(section)
        return sections


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("fastbptt-commands", Commands)
    return {"parallel_read_safe": True}
