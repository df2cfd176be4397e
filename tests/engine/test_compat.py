"""Numba's internals: named in one place, and done without where a version has other ones."""
from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastbptt

ENGINE = Path(__file__).resolve().parent
PACKAGE = ENGINE.parents[1] / "fastbptt"
COMPAT = PACKAGE / "engine" / "compat"
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts and COMPAT not in p.parents)

# What the fast modules take from Numba, but for names that Numba itself keeps in tables of strings: flags, `fndesc`, `dumps`.
COMPILER = ["_raise_if_finalized", "_final_module", "_get_module_for_linking", "_linking_libraries", "_finalize_final_module",
            "_codegen", "enable_object_caching", "set_env", "JITCodeLibrary", "func_qualname", "add_ir_module",
            "_create_empty_module", "_customize_tm_options", "_dynamic_globals", "_engine", "get_abi_sizeof", "Flags", "_values",
            "DefaultPassBuilder", "define_nopython_pipeline", "PassManager", "CompilerBase", "_nrt", "_compile_for_args",
            "add_overload", "get_call_template"]
PASSES = ["WithLifting", "InlineClosureLikes", "RewriteSemanticConstants", "DeadBranchPrune", "RewriteDynamicRaises",
          "MakeFunctionToJitFunction", "InlineInlinables", "FindLiterallyCalls", "LiteralUnroll",
          "LiteralPropagationSubPipelinePass", "InlineOverloads", "NopythonRewrites", "AnnotateTypes", "DumpParforDiagnostics"]
OTHERS = ["_empty_nd_impl", "populate_array", "make_array", "return_user_exc", "unpack_tuple", "memset", "AttributeTemplate",
          "impl_ret_borrowed", "call_function", "declare_function", "alloca_once", "add_linking_library",
          "_reduce", "_rebuild", "magic_tuple", "load_overload", "save_overload", "has_dynamic_globals",
          "numba.core.dispatcher:_cache"]
NAMES = COMPILER + PASSES + OTHERS
GROUPS = [NAMES[i:i + 10] for i in range(0, len(NAMES), 10)]


def run(code, *arguments, **env):
    env = {**os.environ, "FASTBPTT_PLAIN": "0", "PYTHONPATH": str(Path(fastbptt.__file__).parents[1]), **env}
    done = subprocess.run([sys.executable, *code, *arguments], env=env,
                          capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no fork on Windows")
@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0].rpartition(":")[2])
def test_an_internal_that_has_another_name_costs_one_warning(names, tmp_path):
    said = run([str(ENGINE / "renames.py")], str(tmp_path), *names).stdout.splitlines()
    assert len(said) == len(names)
    for line in map(json.loads, said):
        assert not line["wrong"], line
        assert line["plain"] and len(line["warnings"]) == 1 and "by plain numba.njit" in line["warnings"][0], line


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no fork on Windows")
def test_names_that_plain_kernels_do_not_need(tmp_path):
    """All at once, but those that Numba's C code asks for."""
    names = ",".join(name for name in NAMES if name != "_compile_for_args")
    line = json.loads(run([str(ENGINE / "renames.py")], str(tmp_path), names, FASTBPTT_PLAIN="1").stdout)
    assert line["plain"] and not line["wrong"] and not line["warnings"], line
    assert sum(n > 0 for n in line["owners"]) > len(NAMES) - 5


SMALL = f"""
import sys, warnings; sys.path.insert(0, {str(ENGINE)!r})
import numba, numpy as np
from numba.np import arrayobj
"""


@pytest.mark.slow
def test_an_internal_with_another_signature(tmp_path):
    """… and one that does something else: found by the numbers of the self-check, once for a cache."""
    code = SMALL + """
from numba.core import cgutils
clear = cgutils.memset
cgutils.memset = lambda builder, ptr, size, value: clear(builder, ptr, size, 1)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    from fastbptt.engine.compat import FAULT, PLAIN
    cgutils.memset = clear
    import small_kernels
small_kernels.check()
assert PLAIN and FAULT == "a small kernel gives wrong numbers", FAULT
assert sum("by plain numba.njit" in str(w.message) for w in said) == 1
"""
    run(["-c", code], NUMBA_CACHE_DIR=str(tmp_path / "numbers"))
    code = SMALL + """
arrayobj._empty_nd_impl = lambda context, builder, arrtype: None
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    from fastbptt.engine.compat import FAULT, PLAIN
assert PLAIN and "takes 3 positional arguments" in FAULT, FAULT
"""
    run(["-c", code], NUMBA_CACHE_DIR=str(tmp_path / "signature"))
    again = "from fastbptt.engine.compat import PLAIN; assert PLAIN"
    assert run(["-c", again], NUMBA_CACHE_DIR=str(tmp_path / "signature")).stderr.count("by plain numba.njit") == 1


@pytest.mark.slow
def test_plain_kernels_give_the_same_bits(tmp_path):
    code = SMALL + """
import fastbptt as fb
rng, cell = np.random.default_rng(0), fb.RNN(5, 7)
params = cell.init(seed=0)
x, dh = rng.normal(size=(9, 6, 5)).astype(np.float32), rng.normal(size=(9, 6, 7)).astype(np.float32)
grads = fb.backward(cell, params, fb.forward(cell, params, x), dh)
print(b''.join(a.tobytes() for a in (*grads.params, grads.x, grads.state.h)).hex())
"""
    fast, plain = (run(["-c", code], NUMBA_CACHE_DIR=str(tmp_path), FASTBPTT_PLAIN=value).stdout for value in "01")
    assert fast == plain


@pytest.mark.slow
def test_opaque_pointers(tmp_path):
    """What is done once llvmlite has no typed pointers: a pointer of no type, with what it points to said at each use."""
    code = SMALL + """
from llvmlite import ir
from fastbptt.engine.compat import pointers
pointers.pointer_to = lambda t: ir.PointerType()
import small_kernels
small_kernels.check()
from fastbptt.engine.products import times
assert (times(np.eye(3), np.ones((3, 5))) == 1).all()
"""
    run(["-c", code], NUMBA_CACHE_DIR=str(tmp_path), FASTBPTT_PLAIN="1")


def test_plain_is_0_or_1():
    env = {**os.environ, "FASTBPTT_PLAIN": "yes"}
    done = subprocess.run([sys.executable, "-c", "import fastbptt"], env=env, capture_output=True, text=True)
    assert done.returncode and "FASTBPTT_PLAIN: expected 0 or 1, got 'yes'" in done.stderr


INTERNAL = ("numba.core", "numba.np", "numba.parfors", "numba.misc", "numba.cpython", "numba._", "llvmlite.binding.ffi",
            "llvmlite._")
OF_NUMBA = {"_cache", "_compile_for_args", "_final_module", "_nrt", "_getvalue", "_reduce", "_rebuild", "_codegen", "call_conv",
            "get_call_template", "add_overload", "make_array", "as_pointer", "get_or_insert_function", "active_code_library",
            "declare_function", "compile_internal", "enable_nrt", "codegen", "get_dummy_value", "targetctx", "typingctx"}
PUBLIC = {"numba": {"types", "config", "extending", "NumbaError", "NumbaTypeError", "LoweringError", "TypingError"}}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_internals_of_numba_have_one_place(path):
    """No other file imports from inside Numba or llvmlite, or touches what their documentation does not name."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not any(a.name.startswith(INTERNAL) for a in node.names), f"{path}:{node.lineno}"
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            assert not f"{node.module}.".startswith(tuple(f"{m}." for m in INTERNAL[:5])), f"{path}:{node.lineno}"
            assert not node.module.startswith(INTERNAL), f"{path}:{node.lineno}"
            if node.module in PUBLIC:
                public = PUBLIC[node.module] | ({"cuda"} if path == PACKAGE / "cuda" / "target.py" else set())
                assert {a.name for a in node.names} <= public, f"{path}:{node.lineno}"
        elif isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            assert node.attr == "__version__" or not dotted.startswith(INTERNAL), f"{path}:{node.lineno}: {dotted}"
            if path.parent == PACKAGE / "engine":
                assert node.attr not in OF_NUMBA, f"{path}:{node.lineno}: {dotted}"
                own = not node.attr.startswith("_") or node.attr.startswith("__") or dotted.startswith(("self.", "cls."))
                assert own, f"{path}:{node.lineno}: {dotted}"
        elif isinstance(node, ast.keyword):
            assert node.arg not in ("_nrt", "pipeline_class") or path.parent != PACKAGE / "engine", f"{path}:{node.lineno}"
