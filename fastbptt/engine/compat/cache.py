"""Where Numba keeps compiled kernels: in a folder of ours. Done without it: `cache=True`, in files of Numba's own making."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from numba.core import caching


def attach(dispatcher: Any, folder: Path) -> None:
    """Keep the compiled code of a dispatcher in `folder`, whose name says which sources it belongs to."""

    class Locator(caching._CacheLocator):
        def __init__(self, py_func: Any, py_file: str):
            self._line = py_func.__code__.co_firstlineno

        def get_cache_path(self) -> str:
            return str(folder)

        def get_source_stamp(self) -> str:
            return folder.name

        def get_disambiguator(self) -> str:
            return str(self._line)

        @classmethod
        def from_function(cls, py_func: Any, py_file: str) -> Any:
            return cls(py_func, py_file)

    class Impl(caching.CompileResultCacheImpl):
        _locator_classes = [Locator]

    class Cache(caching.FunctionCache):
        _impl_class = Impl

    dispatcher._cache = Cache(dispatcher.py_func)
