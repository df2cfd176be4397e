"""Imports point down only: the arrows of the house, and the rules a script can see."""
from __future__ import annotations

import ast
from pathlib import Path

import pytest

from fastbptt.engine.jit import is_compiled

PACKAGE = Path(__file__).resolve().parents[1] / "fastbptt"
LAYERS = {"arrays": 0, "errors": 0, "tree": 1, "engine": 1, "cells": 2, "bptt": 3, "flow": 4, "training": 4,
          "interop": 5, "bench": 5, "demo": 5, "runs": 5, "commands": 6, "cli": 7, "__main__": 8, "__init__": 9}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts)


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imported_rooms(path: Path) -> set[str]:
    """Rooms of the package that a file imports when it is itself imported (not inside functions)."""
    package = ["fastbptt", *path.relative_to(PACKAGE).parts[:-1]]
    rooms = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            full = [*base, *(node.module.split(".") if node.module else [])]
            for target in ([full] if len(full) > 1 else [[*full, a.name] for a in node.names]):
                if target[0] == "fastbptt" and len(target) > 1:
                    rooms.add(target[1])
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_point_down(path):
    if room(path) == "reference":
        assert not imported_rooms(path)
        return
    assert room(path) in LAYERS, f"{path}: a room that the house does not have"
    for other in imported_rooms(path) - {room(path)}:
        if other in LAYERS:
            assert LAYERS[other] < LAYERS[room(path)], f"{path} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_only_jit_compiles(path):
    """One policy: no other file takes njit from Numba, in either way, and no fast-math flag is set anywhere."""
    text, inside = path.read_text(), path.relative_to(PACKAGE)
    if inside.as_posix() != "engine/switches.py" and not inside.is_relative_to("engine/compat"):
        compilers = {"njit", "jit", "prange", "vectorize", "guvectorize", "stencil", "cfunc"}
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module == "numba":
                assert not {a.name for a in node.names} & compilers
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "numba":
                assert node.attr not in compilers
    assert "fastmath=" not in text


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_what_is_compiled_keys_the_cache(path):
    """The cache of kernels is named by the sources of some rooms: code for Numba lies in no other."""
    names = {a.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) for a in n.names}
    if names & {"njit", "kernel", "overload", "intrinsic"}:
        assert is_compiled(path.relative_to(PACKAGE))
