"""Imports point down only: the arrows of the house, and the rules a script can see."""
from __future__ import annotations

import ast
from pathlib import Path

import pytest

from fastbptt.engine.jit import is_compiled

PACKAGE = Path(__file__).resolve().parents[1] / "fastbptt"
LAYERS = {"arrays": 0, "tree": 0, "errors": 1, "engine": 2, "cells": 3, "bptt": 4, "flow": 5, "training": 5,
          "interop": 6, "bench": 6, "demo": 6, "runs": 6, "commands": 7, "cli": 8, "__main__": 9, "__init__": 10}
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
    """One file has the policy: no other takes njit from Numba, and no fast-math flag is set anywhere."""
    text = path.read_text()
    if path.relative_to(PACKAGE).as_posix() != "engine/jit.py":
        from_numba = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom) and n.module == "numba"]
        assert not any({a.name for a in n.names} & {"njit", "jit", "prange"} for n in from_numba)
    assert "fastmath=" not in text


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_what_is_compiled_keys_the_cache(path):
    """The cache of kernels is named by the sources of some rooms: code for Numba lies in no other."""
    names = {a.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) for a in n.names}
    if names & {"njit", "kernel", "overload", "intrinsic"}:
        assert is_compiled(path.relative_to(PACKAGE))
