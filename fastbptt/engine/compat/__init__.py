"""The only place in the package that uses undocumented parts of Numba, llvmlite or LLVM.

Each function says what it does, why, and what is done without it:

- `pointers`     pointers in LLVM IR, the parts of an array                     in both modes
- `arrays`       new arrays and views, masked loads, exceptions                 else `plain`, and `primitives`, `memory`
- `references`   tuples by their address                                        else by value, in `tuples`
- `callbacks`    building blocks as C functions, for threads                   else on the calling thread, in `pool`
- `compiler`     pipelines of blocks and kernels                               else `plain`: numba.njit
- `libraries`    what is linked with what, and optimised when                  else `plain`: by Numba
- `codegen_units` parts of a kernel that LLVM compiles in threads              else one after the other
- `cache`        compiled kernels on disk                                       else `plain`: Numba's own cache

The mode is chosen here, once, when the package is imported: FASTBPTT_PLAIN=1 asks for documented Numba alone, which is also
the fallback if one of these modules cannot be imported or the `selfcheck` fails, as with a Numba that changed. That costs
time, never a result. To support a new Numba, read what the warning says is missing, fix the function that uses it, and run
the tests with and without FASTBPTT_PLAIN=1.
"""
from __future__ import annotations

import os
import warnings
from typing import Any

import numba

from ..folder import Folders, open_folders


def _wanted() -> bool:
    value = os.environ.get("FASTBPTT_PLAIN", "")
    if value not in ("", "0", "1"):
        raise ValueError(f"FASTBPTT_PLAIN: expected 0 or 1, got {value!r}; unset it unless plain numba.njit is wanted")
    return value == "1"


def _fault(folders: Folders) -> str:
    """Why the fast modules do not work with this Numba; "" if they do."""
    try:
        from . import selfcheck
    except Exception as error:      # of whatever kind: an unknown Numba may raise anything
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return selfcheck.result(folders)


PLAIN = _wanted()
"""Whether only documented parts of Numba are used."""
FOLDERS = open_folders("plain" if PLAIN else "fast")
"""Where compiled kernels are kept."""
FAULT = "" if PLAIN else _fault(FOLDERS)
"""Why PLAIN is true though nobody asked for it."""
if FAULT:
    PLAIN, FOLDERS = True, open_folders("plain")
    warnings.warn(f"fastbptt: Numba {numba.__version__} is not as this version knows it ({FAULT}). Kernels are compiled by plain "
                  "numba.njit: the same results, in more time. A newer fastbptt may know it; FASTBPTT_PLAIN=1 ends this "
                  "warning.", RuntimeWarning, stacklevel=2)
arrays: Any
compiler: Any
if PLAIN:
    from . import plain as arrays
    from . import plain as compiler
else:
    from . import arrays, compiler

__all__ = ["FAULT", "FOLDERS", "PLAIN", "arrays", "compiler"]
