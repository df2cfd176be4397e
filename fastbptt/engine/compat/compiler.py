"""How blocks and kernels are compiled: Numba's pipeline and code libraries, without what our code has no use for.

Done without it (`plain`): `numba.njit`, with the same results. Blocks are then optimised and assembled once for themselves
and once more in each of their callers, and count references.
"""
from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from numba import types
from numba.core import codegen
from numba.core import typed_passes as typed
from numba.core import untyped_passes as untyped
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager

from ..folder import Folders
from ..switches import dispatcher, jit_enabled
from . import cache


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
            with jit_enabled():
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


DISPATCHER = ("_compile_for_args", "add_overload", "get_call_template")
"""What `block` replaces in a dispatcher: a name that is no longer asked for would be replaced in vain."""


def block(f: Callable[..., Any], flags: dict[str, Any], *, allocates: bool, python: bool, forceinline: bool, once: bool) -> Any:
    """A building block, see `jit.njit`; `_nrt` is Numba's switch for the counting of references, `once` for plain mode."""
    made = dispatcher(f, forceinline=forceinline, pipeline_class=_BlockCompiler, _nrt=allocates, **flags)
    if python:
        # A call from Python that finds no compiled code asks for it, and calls what it gets: here a function of its own.
        twin = dispatcher(f, pipeline_class=_KernelCompiler, **flags)
        made._compile_for_args = lambda *args, **kws: twin
        made.add_overload = lambda compiled: made.overloads.update({tuple(compiled.signature.args): compiled})
    return _without_literals(made)


def _without_literals(made: Any) -> Any:
    """Have callers ask for int64 where they pass a constant: Numba would compile the function once more for each value."""
    resolve = made.get_call_template

    def get_call_template(args: Any, kws: Any) -> Any:
        return resolve([types.unliteral(a) for a in args], {k: types.unliteral(a) for k, a in kws.items()})
    made.get_call_template = get_call_template
    return made


def overload_options(flags: dict[str, Any], *, allocates: bool) -> dict[str, Any]:
    """Options with which the implementation of an overload is compiled: as a block."""
    return {**flags, "pipeline_class": _BlockCompiler, "forceinline": True, "_nrt": allocates}


def kernel(f: Callable[..., Any], flags: dict[str, Any], folders: Folders | None, *,
           allocates: bool) -> Any:
    """An entry point, see `jit.kernel`."""
    made = dispatcher(f, pipeline_class=_KernelCompiler, _nrt=allocates, **flags)
    if folders is not None:
        cache.attach(made, folders)
    return made
