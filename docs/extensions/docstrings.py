"""Reads docstrings as `rst.py` says, and makes `name` a link where the reference has that name."""
from __future__ import annotations

from typing import Any

from docutils import nodes
from rst import as_rst
from sphinx.application import Sphinx
from sphinx.domains.python import PyXRefRole
from sphinx.environment import BuildEnvironment


class Name(PyXRefRole):
    """A name of the reference, or code; one that begins with a dot is an attribute of what was spoken of, and is code."""

    def process_link(self, env: BuildEnvironment, refnode: nodes.Element, has_explicit_title: bool, title: str,
                     target: str) -> tuple[str, str]:
        if not title.startswith("."):
            title, target = super().process_link(env, refnode, has_explicit_title, title, target)
        refnode["reftype"] = "obj"
        return title, target


def process(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_rst(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_role_to_domain("py", "name", Name())
    app.connect("autodoc-process-docstring", process, priority=100)      # before numpydoc rewrites the sections
    return {"parallel_read_safe": True}
