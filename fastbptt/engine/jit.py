"""The one policy by which kernels are compiled: flags, the pipeline, the cache on disk.

`njit` compiles a building block (no cache of its own: it becomes part of its callers), `kernel` an entry point that Python
calls, cached on disk. Numba's own cache is keyed by one file and its time stamp, blind to edits in the files it imports
from; ours lives in a folder named by a hash of all sources that Numba compiles and of what else decides the code: the
vector width and bounds checking.
"""
from __future__ import annotations

import ctypes
import gc
import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
from numba import extending, types
from numba.core import caching, codegen, config
from numba.core import typed_passes as typed
from numba.core import untyped_passes as untyped
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager

from . import simd

PACKAGE = Path(__file__).resolve().parents[1]
COMPILED = ("arrays.py", "engine", "cells", "bptt/kernels.py")     # the rooms and files that hold what Numba compiles
KEPT_CACHES = 4      # folders of other versions or settings that stay: two checkouts' worth of wide and narrow lanes
# No fast-math flag: results then depend neither on what LLVM chose to fuse nor on scalar or vector form, and NaN survives.
_FLAGS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def is_compiled(path: Path) -> bool:
    """Whether Numba compiles what a file holds; its path inside the package."""
    return any(path.is_relative_to(part) for part in COMPILED)


def source_hash() -> str:
    """A hash of all sources that Numba compiles and of the settings that change the generated code."""
    digest = hashlib.sha256(f"{numba.__version__} {simd.BITS} {simd.REGISTERS} {config.BOUNDSCHECK}".encode())
    for path in sorted(p for p in PACKAGE.rglob("*.py") if is_compiled(p.relative_to(PACKAGE))):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _cache_roots() -> list[Path]:
    """Where compiled kernels may live, best first: NUMBA_CACHE_DIR alone if set, else the package, else the user cache."""
    if config.CACHE_DIR:
        return [Path(config.CACHE_DIR) / "fastbptt"]
    user = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return [PACKAGE / "__pycache__" / "kernels", Path(user) / "fastbptt"]


def _open_cache() -> Path | None:
    """The folder of this version's kernels, made if need be; None (and one warning) where no folder can be written."""
    name = source_hash()
    for root in _cache_roots():
        if _writable(root / name):
            _drop_old(root, keep=name)
            return root / name
    warnings.warn(
        f"fastbptt: no folder for compiled kernels can be written ({', '.join(map(str, _cache_roots()))}); every process will "
        "compile anew. Set NUMBA_CACHE_DIR to a writable folder.", RuntimeWarning, stacklevel=2)
    return None


def _drop_old(root: Path, keep: str) -> None:
    """Remove the folders of earlier sources, so that development does not fill the disk."""
    try:
        old = sorted((p for p in root.iterdir() if p.is_dir() and p.name != keep), key=lambda p: p.stat().st_mtime)
    except OSError:
        return
    for folder in old[:-KEPT_CACHES]:
        shutil.rmtree(folder, ignore_errors=True)


CACHE_DIR = _open_cache()


class _Locator(caching._CacheLocator):
    """Tells Numba's cache to use `CACHE_DIR`; the folder's name already says which sources it belongs to."""

    def __init__(self, py_func: Any, py_file: str):
        self._line = py_func.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(CACHE_DIR)

    def get_source_stamp(self) -> str:
        return CACHE_DIR.name if CACHE_DIR else ""

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Locator:
        return cls(py_func, py_file)


class _CacheImpl(caching.CompileResultCacheImpl):
    _locator_classes = [_Locator]


class _KernelCache(caching.FunctionCache):
    _impl_class = _CacheImpl


class _NoEnvironment:
    """Takes the place of the code generator where Numba stores a function's environment, which only Python wrappers read."""

    def set_env(self, name: str, env: Any) -> None:
        pass


class _BlockLibrary(codegen.JITCodeLibrary):
    """The code of a building block: kept as LLVM IR for its callers, neither optimised nor turned into machine code itself.

    Numba optimises and assembles every function by itself and once more within each of its callers, so that the end of a
    chain of calls five deep is compiled five times: half a minute for a scan instead of seconds. Nor does a block hold copies
    of the blocks it calls: a kernel takes each of them once.
    """

    def _optimize_functions(self, module: Any) -> None:
        pass

    def finalize(self) -> None:
        self._raise_if_finalized()
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == llvm.Linkage.external:
                function.linkage = "linkonce_odr"     # may be inlined, and dropped where it then has no use
        self._finalized = True

    def _get_module_for_linking(self) -> Any:
        """With all that it calls, for a caller that Numba compiles in its own way."""
        whole = self._final_module.clone()
        for library in _called_from(self):
            whole.link_in(_module_of(library), preserve=True)
        return whole

    @property
    def codegen(self) -> _NoEnvironment:
        return _NoEnvironment()

    def get_pointer_to_function(self, name: str) -> int:
        # What Python would call. A block cannot be: PyObject_Call refuses with "not callable".
        return ctypes.cast(ctypes.pythonapi.PyObject_Call, ctypes.c_void_p).value or 0


def _called_from(library: Any) -> list[Any]:
    """The libraries that `library` calls, and those that its blocks call; of Numba's own each has all it needs."""
    found = dict.fromkeys(library._linking_libraries)
    todo = list(found)
    while todo:
        block = todo.pop()
        if isinstance(block, _BlockLibrary):
            new = [callee for callee in block._linking_libraries if callee not in found]
            found.update(dict.fromkeys(new))
            todo += new
    return list(found)


def _module_of(library: Any) -> Any:
    return library._final_module if isinstance(library, _BlockLibrary) else library._get_module_for_linking()


# Passes of Numba for what our code does not have: closures, `with`, literal lists, array expressions, parallel loops,
# functions to be inlined before their types are known. Each would go through every function, and some number all variables anew.
_LEFT_OUT = {
    untyped.WithLifting, untyped.InlineClosureLikes, untyped.RewriteSemanticConstants, untyped.DeadBranchPrune,
    untyped.RewriteDynamicRaises, untyped.MakeFunctionToJitFunction, untyped.InlineInlinables, untyped.FindLiterallyCalls,
    untyped.LiteralUnroll, untyped.LiteralPropagationSubPipelinePass, typed.InlineOverloads, typed.NopythonRewrites,
    typed.AnnotateTypes, typed.DumpParforDiagnostics,
}


def _pipeline(state: Any) -> list[Any]:
    """Numba's pipeline without what our code has no use for."""
    short = PassManager("fastbptt")
    short.passes = [p for p in DefaultPassBuilder.define_nopython_pipeline(state).passes if p[0] not in _LEFT_OUT]
    short.finalize()
    return [short]


class _BlockCompiler(CompilerBase):
    """For building blocks: no wrappers for Python and C."""

    def define_pipelines(self) -> list[Any]:
        state = self.state
        state.flags.no_cpython_wrapper = True
        state.flags.no_cfunc_wrapper = True
        state.library = _BlockLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        return _pipeline(state)


class _KernelLibrary(codegen.JITCodeLibrary):
    """The code of an entry point and of all blocks in it, optimised once.

    Numba optimises the whole twice, the first time to find reference counts that cancel each other out, of which blocks have
    few; and lets LLVM look for loops to vectorise, of which kernels that say themselves what is a vector have none.
    """

    def _optimize_functions(self, module: Any) -> None:
        pass

    def finalize(self) -> None:
        self._raise_if_finalized()
        for library in _called_from(self):
            if hasattr(library, "_reload_init"):      # since Numba 0.62
                self._reload_init.update(library._reload_init)
            self._final_module.link_in(_module_of(library), preserve=True)
        self._optimize_final_module()
        self._final_module.verify()
        self._finalize_final_module()

    def _optimize_final_module(self) -> None:
        passes = self._codegen._module_pass_manager(loop_vectorize=False)
        if isinstance(passes, tuple):     # with its builder, since Numba went over to LLVM's new pass manager
            passes[0].run(self._final_module, passes[1])
        else:
            passes.run(self._final_module)


class _KernelCompiler(CompilerBase):
    """For entry points: no wrapper for C; no search for cyclic garbage on the way, which takes one second in twenty."""

    def compile_extra(self, function: Any) -> Any:
        collects = gc.isenabled()
        gc.disable()
        try:
            return super().compile_extra(function)
        finally:
            if collects:
                gc.enable()

    def define_pipelines(self) -> list[Any]:
        state = self.state
        state.flags.no_cfunc_wrapper = True
        state.library = _KernelLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return _pipeline(state)


def njit(function: Callable[..., Any] | None = None, *, allocates: bool = False, python: bool = False,
         forceinline: bool = False) -> Any:
    """A building block, callable from kernels and from any @njit code; with `python` from Python as well.

    A block does not count references to its arrays: its caller holds them. Counting is an atomic operation for every
    array that is taken out of a tuple, a third of the time of a small scan. Only a block that `allocates`, or calls one
    that does, counts; an array that it makes lives at least until its last mention there. What it is given by a block
    that does not count it would release once too often: such a block returns arrays only to its like.
    """
    def decorate(f: Callable[..., Any]) -> Any:
        block = numba.njit(forceinline=forceinline, pipeline_class=_BlockCompiler, _nrt=allocates, **_FLAGS)(f)
        if python:
            # A call from Python that finds no compiled code asks for it, and calls what it gets: here a function of its own.
            twin = numba.njit(**_FLAGS)(f)
            block._compile_for_args = lambda *args, **kws: twin
            block.add_overload = lambda compiled: block.overloads.update({tuple(compiled.signature.args): compiled})
        return _without_literals(block)
    return decorate if function is None else decorate(function)


def _without_literals(dispatcher: Any) -> Any:
    """Have callers ask for int64 where they pass a constant: Numba would compile the function once more for each value."""
    resolve = dispatcher.get_call_template

    def get_call_template(args: Any, kws: Any) -> Any:
        return resolve([types.unliteral(a) for a in args], {k: types.unliteral(a) for k, a in kws.items()})
    dispatcher.get_call_template = get_call_template
    return dispatcher


def overload(function: Callable[..., Any], *, allocates: bool = False, prefer_literal: bool = False) -> Any:
    """`numba.extending.overload` whose implementations are building blocks, inlined into the one place that calls each."""
    options = {**_FLAGS, "pipeline_class": _BlockCompiler, "forceinline": True, "_nrt": allocates}
    return extending.overload(function, prefer_literal=prefer_literal, jit_options=options)


def jitable(function: Callable[..., Any]) -> Any:
    """A plain Python function that building blocks may call as well: Python plans by the rules that kernels go by."""
    options = {**_FLAGS, "pipeline_class": _BlockCompiler, "forceinline": True, "_nrt": False}
    extending.overload(function, jit_options=options, strict=False)(lambda *args: function)
    return function


def kernel(function: Callable[..., Any] | None = None, *, allocates: bool = True) -> Any:
    """An entry point that Python calls: `njit` with the cache on disk. One that neither makes nor returns arrays says so."""
    def decorate(f: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(pipeline_class=_KernelCompiler, _nrt=allocates, **_FLAGS)(f)
        if CACHE_DIR is not None:
            dispatcher._cache = _KernelCache(dispatcher.py_func)
        KERNELS.append(dispatcher)
        return dispatcher
    return decorate if function is None else decorate(function)


KERNELS: list[Any] = []
"""Every entry point, for `fastbptt info` and the tests of the cache."""
