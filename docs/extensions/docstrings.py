"""The docstrings of this package as reStructuredText: equations, absolute values, and names in single backquotes.

An indented block is an equation and is shown as it stands, |x| is an absolute value, and `name` is a link where the reference has it.
"""
from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyXRefRole
from sphinx.environment import BuildEnvironment


class Name(PyXRefRole):
    """A name of the reference, or code; one that begins with a dot is an attribute of what was spoken of, not to be searched for."""

    def process_link(self, env: BuildEnvironment, refnode: nodes.Element, has_explicit_title: bool, title: str,
                     target: str) -> tuple[str, str]:
        if not title.startswith("."):
            title, target = super().process_link(env, refnode, has_explicit_title, title, target)
        refnode["reftype"] = "obj"
        return title, target


def sections_begin(lines: list[str]) -> int:
    """Where the first section of a NumPy-style docstring begins: its title has a line of dashes below it."""
    return next((i for i in range(len(lines) - 1) if lines[i].strip() and set(lines[i + 1].strip()) == {"-"}), len(lines))


def as_rst(lines: list[str]) -> list[str]:
    """The lines with a mark before every indented block above the first section, and bars that are no substitutions."""
    end = sections_begin(lines)
    made: list[str] = []
    for i, line in enumerate(lines):
        indented = line.startswith("    ")
        if i < end and indented and i > 0 and not lines[i - 1].strip():
            before = next((other for other in reversed(made) if other.strip()), "")
            if not before.startswith("    ") and not before.endswith("::"):
                made += ["::", ""]
        is_code = line.lstrip().startswith((">>>", "...")) or "``" in line or (i < end and indented)
        made.append(line if is_code else as_text(line))
    return made


def as_text(line: str) -> str:
    """A line of text: its bars are no substitutions, `names` may touch other characters, and "T." begins no list."""
    line = re.sub(r"(?<!\\)\|", r"\\|", line)
    line = re.sub(r"([^\s(\[{'\"-]?)(`[^`]+`)", lambda pair: "\\ ".join(filter(None, pair.groups())), line)
    return re.sub(r"^(\w)\.$", r"\\\1.", line)


def process(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_rst(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_role_to_domain("py", "name", Name())
    app.connect("autodoc-process-docstring", process, priority=100)      # before numpydoc rewrites the sections
    return {"parallel_read_safe": True}
