"""The code of blocks and kernels on its way from Numba to the machine: what is linked with what, and when it is optimised.

Numba optimises and assembles every function by itself and once more within each of its callers, so that the end of a chain of
calls five deep is compiled five times: half a minute for a scan instead of seconds. Here a block stays LLVM IR until it is
part of a kernel, or of one of its codegen units, which is optimised once. Done without it (`plain`): as Numba does it.
"""
from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from numba.core import codegen

from . import codegen_units

UNIT_SIZE = 2000      # instructions, before LLVM works on them; fewer are soon done with what calls them


class _NoEnvironment:
    """Takes the place of the code generator where Numba stores a function's environment, which only Python wrappers read."""

    def set_env(self, name: str, env: Any) -> None:
        pass


class BlockLibrary(codegen.JITCodeLibrary):
    """The code of a building block: LLVM IR for its callers, without copies of the blocks that it calls itself.

    From a certain size on, with all that is compiled with it, it is a codegen unit: LLVM begins with it at once, and callers
    have its declaration alone. One that is to be inlined has no such size.
    """

    def __init__(self, generator: Any, name: str, unit_size: float, unroll: bool = False):
        super().__init__(generator, name)
        self._unit_size, self._size, self._unroll = unit_size, 0, unroll
        self._unit: codegen_units.CodegenUnit | None = None
        self.is_unit = False
        self.symbols: list[str] = []
        """The functions by which it is called."""

    def add_ir_module(self, ir_module: Any) -> None:
        self._size += sum(len(block.instructions) for function in ir_module.functions for block in function.blocks)
        super().add_ir_module(ir_module)

    def _optimize_functions(self, module: Any) -> None:
        pass

    def finalize(self) -> None:
        self._raise_if_finalized()
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == llvm.Linkage.external:
                function.linkage = "linkonce_odr"     # may be inlined, and dropped where it then has no use
                self.symbols.append(function.name)
        self._finalized = True
        size = self._size + sum(part._size for part in _parts(self) if isinstance(part, BlockLibrary))
        self.is_unit = size >= self._unit_size
        if self.is_unit and codegen_units.threads_run():
            self.begin()

    def begin(self) -> codegen_units.CodegenUnit:
        """This unit, with which LLVM begins if it has not."""
        if self._unit is None:
            whole = self._final_module.clone()
            _link(whole, _parts(self))
            for name in self.symbols:
                whole.get_function(name).linkage = "external"
            self._unit = codegen_units.CodegenUnit(whole, self._codegen, self._unroll)
        return self._unit

    def _get_module_for_linking(self) -> Any:
        """With all that it calls, for a caller that Numba compiles in its own way."""
        whole = self._final_module.clone()
        _link(whole, _called_from(self))
        return whole

    @property
    def codegen(self) -> _NoEnvironment:
        return _NoEnvironment()

    def get_pointer_to_function(self, name: str) -> int:
        # What Python would call. A block cannot be: PyObject_Call refuses with "not callable".
        return ctypes.cast(ctypes.pythonapi.PyObject_Call, ctypes.c_void_p).value or 0


class KernelLibrary(codegen.JITCodeLibrary):
    """The code of an entry point, and of all blocks in it that are no units."""

    def __init__(self, generator: Any, name: str):
        super().__init__(generator, name)
        self.units: dict[str, bytes] = {}
        """Object files of the units that it calls."""

    def _optimize_functions(self, module: Any) -> None:
        pass

    def finalize(self) -> None:
        self._raise_if_finalized()
        called = _called_from(self)
        begun = {block.symbols[0]: block.begin() for block in called if _is_unit(block)}
        for library in called:
            if hasattr(library, "_reload_init"):      # since Numba 0.62
                self._reload_init.update(library._reload_init)
        _link(self._final_module, _parts(self))
        codegen_units.optimise(self._final_module, self._codegen._tm)
        self._final_module.verify()
        self._take(begun)
        self._finalize_final_module()

    def _take(self, begun: dict[str, codegen_units.CodegenUnit]) -> None:
        """Units, once they are compiled: this thread takes those that no other has begun."""
        codegen_units.collect_garbage()
        for unit in begun.values():
            unit.help()
        compiled = {name: unit.result() for name, unit in begun.items()}
        self.units = {name: unit.code for name, unit in compiled.items()}
        self._dynamic_globals += [name for name, unit in compiled.items() if unit.fixed]
        codegen_units.load(self.units, self._codegen)


def _reached(library: Any, through: Callable[[Any], bool]) -> list[Any]:
    """The libraries that `library` calls, and those that these call, as far as the way leads through some kind of them."""
    found = dict.fromkeys(library._linking_libraries)
    todo = list(found)
    while todo:
        called = todo.pop()
        if through(called):
            new = [callee for callee in called._linking_libraries if callee not in found]
            found.update(dict.fromkeys(new))
            todo += new
    return list(found)


def _called_from(library: Any) -> list[Any]:
    """All that a library calls; of Numba's own each has all it needs."""
    return _reached(library, lambda called: isinstance(called, BlockLibrary))


def _is_unit(library: Any) -> bool:
    return isinstance(library, BlockLibrary) and library.is_unit


def _parts(library: Any) -> list[Any]:
    """What a library calls and is compiled with: no units, nor what these call."""
    found = _reached(library, lambda called: isinstance(called, BlockLibrary) and not called.is_unit)
    return [part for part in found if not _is_unit(part)]


def _link(module: Any, parts: list[Any]) -> None:
    for part in parts:
        other = part._final_module if isinstance(part, BlockLibrary) else part._get_module_for_linking()
        module.link_in(other, preserve=True)
