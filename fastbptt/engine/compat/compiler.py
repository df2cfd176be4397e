"""How blocks and kernels are compiled: Numba's pipeline without what our code has no use for.

Done without it (`plain`): `numba.njit`, with the same results. Blocks are then optimised and assembled once for themselves
and once more in each of their callers, and count references.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from numba import types
from numba.core import typed_passes as typed
from numba.core import untyped_passes as untyped
from numba.core.compiler import CompilerBase, DefaultPassBuilder, Flags
from numba.core.compiler_machinery import PassManager

from ..folder import Folders
from ..progress import shown
from ..switches import dispatcher, jit_enabled
from . import cache, codegen_units
from .libraries import UNIT_SIZE, BlockLibrary, KernelLibrary

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


class _Flags(Flags):
    """Flags that are compared in no time.

    Numba looks up every overloaded function by the flags of the function that calls it, among others, and compares flags
    by listing all options of both: an eighth of all the time of compiling, as many blocks call many functions.
    """

    __slots__ = ()

    def values(self) -> dict[str, Any]:
        return {**_DEFAULTS, **self._values}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Flags) and (self._values == other._values or self.values() == other.values())

    def __hash__(self) -> int:
        return _HASH


_DEFAULTS, _HASH = Flags().values(), hash(Flags())      # Numba hashes the names of the options alone


class _Compiler(CompilerBase):
    """What blocks and entry points share."""

    def __init__(self, typingctx: Any, targetctx: Any, library: Any, args: Any, return_type: Any, flags: Any, locals: Any):
        super().__init__(typingctx, targetctx, library, args, return_type, _Flags(flags), locals)
        context = self.state.targetctx
        context.get_abi_sizeof = partial(_size, context.get_abi_sizeof)


def _size(measure: Callable[[Any], int], t: Any) -> int:
    """Bytes of a type of LLVM, once: Numba asks for that of each variable, for a debugger, and LLVM parses a module for it."""
    key = str(t)
    if key not in _SIZES:
        _SIZES[key] = measure(t)
    return _SIZES[key]


_SIZES: dict[str, int] = {}


class _BlockCompiler(_Compiler):
    """For building blocks: no wrappers for Python and C."""

    def define_pipelines(self) -> list[Any]:
        state = self.state
        state.flags.no_cpython_wrapper = True
        state.flags.no_cfunc_wrapper = True
        size = math.inf if state.flags.forceinline else UNIT_SIZE
        state.library = BlockLibrary(state.targetctx.codegen(), state.func_id.func_qualname, size)
        return _pipeline(state)


class _KernelCompiler(_Compiler):
    """For entry points: no wrapper for C."""

    def compile_extra(self, function: Any) -> Any:
        with jit_enabled(), shown(), codegen_units.side_by_side(), codegen_units.garbage_later():
            return super().compile_extra(function)

    def define_pipelines(self) -> list[Any]:
        state = self.state
        state.flags.no_cfunc_wrapper = True
        state.library = KernelLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
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


def functions(cx: Any, module: Any, name: str, define: Callable[[Any, str], None]) -> None:
    """Have the block that is being lowered call functions that `define` writes into a module, in LLVM IR, with a linkage.

    They have a library of their own, found by its name: LLVM works on them once, for all kernels of a process, and unrolls
    their loops.
    """
    if name not in _FUNCTIONS:
        generator = cx.codegen()
        library = BlockLibrary(generator, name, unit_size=0, unroll=True)
        written = generator._create_empty_module(name)
        define(written, "external")
        library.add_ir_module(written)
        _FUNCTIONS[name] = library
    cx.active_code_library.add_linking_library(_FUNCTIONS[name])


_FUNCTIONS: dict[str, BlockLibrary] = {}
