"""Imports point down only: the arrows of the house, and the rules a script can see."""
from __future__ import annotations

import ast
from pathlib import Path

import pytest

from fastbptt.engine.jit import is_compiled

PACKAGE = Path(__file__).resolve().parents[1] / "fastbptt"
LAYERS = {"__version__": 0, "arrays": 0, "tree": 0, "errors": 1, "engine": 2, "cells": 3, "bptt": 4, "flow": 5, "tangent": 5,
          "training": 5, "tasks": 5, "distributed": 6, "interop": 6, "torch": 6, "sklearn": 6, "cuda": 6, "bench": 6, "demo": 6,
          "runs": 6, "commands": 7, "cli": 8, "__main__": 9, "__init__": 10}
PLAIN_NUMBA = PACKAGE / "bench" / "numba_peer.py"      # what users would write without this package, which is not of its kernels
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts)


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imported_rooms(source: str, package: list[str]) -> set[str]:
    """Rooms that a module of `package` imports when it is itself imported (not inside functions)."""
    rooms = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            rooms |= {parts[1] if len(parts) > 1 else "__init__" for a in node.names
                      if (parts := a.name.split("."))[0] == "fastbptt"}
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            full = [*base, *(node.module.split(".") if node.module else [])]
            for target in ([full] if len(full) > 1 else [[*full, a.name] for a in node.names]):
                if target[0] == "fastbptt":
                    rooms.add(target[1])
    return rooms


def refused_imports(source: str, name: str, package: list[str]) -> list[str]:
    """The rooms that a module of room `name` may not import."""
    return [other for other in imported_rooms(source, package) - {name}
            if name == "reference" or other not in LAYERS or LAYERS[other] >= LAYERS[name]]


def package_of(path: Path) -> list[str]:
    return ["fastbptt", *path.relative_to(PACKAGE).parts[:-1]]


def is_policy(path: Path) -> bool:
    """Whether the file has the policy of compiling: what Numba does not document, its switches, and ours."""
    inside = path.relative_to(PACKAGE)
    return inside.as_posix() in ("engine/jit.py", "engine/switches.py") or inside.is_relative_to("engine/compat")


def compilers(source: str) -> set[str]:
    """What of Numba's that compiles a module names: imported, or as an attribute of the package, under whatever name."""
    tree, names = ast.parse(source), {"njit", "jit", "prange", "vectorize", "guvectorize", "generated_jit", "cfunc", "stencil"}
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and (n.module or "").split(".")[0] == "numba"]
    found = {a.name for n in imports for a in n.names}
    modules = {a.asname or a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names
               if a.name.split(".")[0] == "numba"}
    found |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
              and n.value.id in modules}
    return found & names


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_point_down(path):
    assert room(path) in {*LAYERS, "reference"}, f"{path}: a room that the house does not have"
    assert not refused_imports(path.read_text(), room(path), package_of(path))


@pytest.mark.parametrize("source", ["from ..flow import report", "from .. import flow", "import fastbptt.flow.report",
                                    "from fastbptt.flow import report", "from ..attic import x", "from .. import attic",
                                    "import fastbptt", "from ..training.fit import fit"])
def test_an_import_that_does_not_point_down_is_found(source):
    assert refused_imports(source, "bptt", ["fastbptt", "bptt"])
    assert refused_imports(source, "reference", ["fastbptt", "bptt"])


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_only_jit_compiles(path):
    """One file has the policy: no other takes njit from Numba, and no fast-math flag is set anywhere."""
    text = path.read_text()
    assert is_policy(path) or path == PLAIN_NUMBA or not compilers(text)
    assert "fastmath=" not in text


@pytest.mark.parametrize("source", ["from numba import njit as fast", "import numba\n@numba.njit\ndef f(): pass",
                                    "import numba as nb\nf = nb.jit(f)", "from numba import njit, types",
                                    "import numba.core\nf = numba.njit(f)", "from numba.core.decorators import njit"])
def test_a_compiler_of_numba_is_found(source):
    assert compilers(source)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_what_is_compiled_keys_the_cache(path):
    """The cache of kernels is named by the sources of some rooms: code for Numba lies in no other."""
    names = {a.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) for a in n.names}
    if names & {"njit", "kernel", "overload", "intrinsic", "jitable"}:
        assert is_compiled(path.relative_to(PACKAGE))
