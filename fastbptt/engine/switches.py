"""Numba's switch NUMBA_DISABLE_JIT, and code that exists only in compiled form."""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
from numba import config

_lock = threading.Lock()
_inside = 0
_value = 0


@contextmanager
def jit_enabled() -> Iterator[None]:
    """Compile inside, whatever NUMBA_DISABLE_JIT says: it is for stepping through the user's own functions, not ours.

    Code on vectors cannot run as Python. Several threads may be inside at once; the last one out restores the switch.
    """
    global _inside, _value
    with _lock:
        if _inside == 0:
            _value, config.DISABLE_JIT = config.DISABLE_JIT, 0
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                config.DISABLE_JIT = _value


def dispatcher(function: Callable[..., Any], **options: Any) -> Any:
    """`numba.njit(**options)(function)`, which is compiled whatever NUMBA_DISABLE_JIT says."""
    with jit_enabled():
        return numba.njit(**options)(function)
