"""`.. example-scripts::`: every script of `examples/`, what it says of itself, what it prints when it is run, and its source.

Each runs with arguments for which it takes seconds. A script that fails ends the build.
"""
from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from docutils import nodes
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples"
QUICK = {
    "agreement": "--distance 20 --seeds 1 --updates 600 --networks small lstm lstm-cut",
    "flip_flop": "--updates 200",
    "influence_balancing": "--steps 1500",
    "many_machines": "--updates 10 --hidden 32",
    "neurogym_task": "--updates 20",
    "seed_sweep": "--seeds 2 --updates 50",
    "torch_char_lstm": "--updates 12 --hidden 64 --batch 16",
}
# Shown but not run where this is not installed.
NEEDS = {"neurogym_task": "neurogym", "seed_sweep": "joblib", "torch_char_lstm": "torch"}
LONGEST = 300       # seconds


def said_by(script: Path) -> tuple[str, str]:
    """The first sentence of a script's docstring, and the rest of it."""
    title, _, rest = (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or script.stem).partition("\n")
    return title, rest.strip("\n")


def block(text: str) -> nodes.Node:
    """A paragraph, or commands where it is indented."""
    return nodes.literal_block(code := dedent(text), code, language="sh") if text.startswith(" ") else nodes.paragraph(text=text)


def printed_by(script: Path, arguments: str) -> str:
    """What a script prints, run as a user runs it."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, str(script), *arguments.split()], cwd=ROOT, env={**os.environ, "PYTHONPATH": path},
                          capture_output=True, text=True, encoding="utf-8", timeout=LONGEST, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise ExtensionError(f"examples/{script.name} {arguments}: exit status {done.returncode}\n{done.stderr}")
    return done.stdout.strip()


class Scripts(SphinxDirective):
    """One section for each script."""

    def run(self) -> list[nodes.Node]:
        return [self.section(script) for script in sorted(FOLDER.glob("*.py"))]

    def section(self, script: Path) -> nodes.section:
        """Title, docstring, a run, the source."""
        title, rest = said_by(script)
        needed, arguments = NEEDS.get(script.stem), QUICK[script.stem]
        code = script.read_text(encoding="utf-8")
        self.env.note_dependency(str(script))
        section = nodes.section("", nodes.title(text=script.stem.replace("_", " ").capitalize()), nodes.paragraph(text=title),
                                ids=[f"script-{script.stem.replace('_', '-')}"], names=[f"script {script.stem}"])
        section += [block(text) for text in rest.split("\n\n")]
        if needed is None or importlib.util.find_spec(needed) is not None:
            run = f"$ python examples/{script.name} {arguments}\n{printed_by(script, arguments)}"
            section += nodes.literal_block(run, run, language="text")
        else:
            section += nodes.paragraph(text=f"Not run here: it needs {needed}, which was not installed when this page was built.")
        section += nodes.raw("", f"<details><summary>Source of {script.name}</summary>", format="html")
        section += nodes.literal_block(code, code, language="python")
        section += nodes.raw("", "</details>", format="html")
        where = os.path.relpath(script, Path(self.env.doc2path(self.env.docname)).parent)
        section += nodes.paragraph("", "", download_reference("", f"Download {script.name}", reftarget=where))
        return section


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("example-scripts", Scripts)
    return {"parallel_read_safe": True}
