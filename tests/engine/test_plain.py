"""How plain mode compiles blocks, in either mode: what it costs is the number of functions and of what they contain."""
from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import numba
import pytest
from numba.core import event

import fastbptt
from fastbptt.engine.compat import plain
from fastbptt.engine.jit import is_compiled

FLAGS = {"nogil": True, "error_model": "numpy"}


def scaled(x, factor):
    return factor * x


def compiled(once):
    """How often `scaled` is compiled for a caller that calls it with two constants."""
    function = type(scaled)(scaled.__code__, globals())      # another one in each call
    block = plain.block(function, FLAGS, allocates=False, python=False, forceinline=False, once=once)
    with event.install_recorder("numba:compile") as recorder:
        assert numba.njit(lambda x: block(x, 2) + block(x, 3))(1.0) == 5.0
    return sum(e.is_start and e.data["dispatcher"].py_func is function for _, e in recorder.buffer)


@pytest.mark.parametrize(("once", "times"), [(False, 1), (True, 0)])
def test_a_block_is_compiled_once_or_within_its_caller(once, times):
    assert compiled(once) == times


def test_blocks_that_are_inlined_have_one_caller():
    """In one file: two would hold two copies of all that it calls; of `run_pieces`, a short loop, there may be several."""
    package = Path(fastbptt.__file__).parent
    trees = [ast.parse(path.read_text()) for path in package.rglob("*.py") if is_compiled(path.relative_to(package))]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    once = {f.name for f in nodes if isinstance(f, ast.FunctionDef) for d in f.decorator_list
            if isinstance(d, ast.Call) and any(k.arg == "once" for k in d.keywords)}
    uses = [Counter(node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
            for tree in trees]
    most = {name: max(own[name] for own in uses) for name in once - {"run_pieces"}}
    assert len(once) > 10 and {name: count for name, count in most.items() if count != 1} == {}
