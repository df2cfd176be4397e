"""Renames an undocumented part of Numba wherever Numba uses it, then imports the package and asks it for numbers.

``python renames.py FOLDER NAME …`` writes one JSON line for each name, or for several with commas between them: the
warnings, and what went wrong. MODULE:NAME is renamed in that module alone.
"""
from __future__ import annotations

import gc
import json
import os
import sys
import traceback
import types
import warnings
from pathlib import Path

import numba
import numpy as np


@numba.njit
def everyday(x):
    """What Numba loads only when it compiles is loaded before anything is renamed."""
    total = np.zeros((2, 3)).reshape(6).sum()
    for value in (x, 2.0):
        total += value
    return total


def with_names(code: types.CodeType, old: str, new: str) -> types.CodeType:
    """The code with another name in the place of one: of attributes, globals, keywords, and where it is spelt as a string."""
    def constant(c: object) -> object:
        if isinstance(c, types.CodeType):
            return with_names(c, old, new)
        return new if c == old else tuple(map(constant, c)) if isinstance(c, tuple) else c
    return code.replace(co_names=tuple(map(constant, code.co_names)), co_varnames=tuple(map(constant, code.co_varnames)),
                        co_consts=tuple(map(constant, code.co_consts)))


def rename(old: str, within: str = "numba") -> int:
    """Renames an attribute or a global in all of Numba, or one module, as a new version might; how many owners had it."""
    new, owners = f"{old}_renamed", 0
    for thing in gc.get_objects():
        module = thing.__name__ if type(thing) is types.ModuleType else getattr(type(thing), "__module__", "")
        if isinstance(thing, types.FunctionType | type):
            module = thing.__module__
        if not str(module).startswith(within):
            continue
        if isinstance(thing, types.FunctionType):
            thing.__code__ = with_names(thing.__code__, old, new)
        elif old in getattr(thing, "__dict__", ()):
            owners += 1
            setattr(thing, new, vars(thing)[old])
            delattr(thing, old)
    if old == "_compile_for_args":      # C code asks every dispatcher for it, and would know the new name
        everyday.__class__.__getattr__ = lambda self, name: object.__getattribute__(self, new if name == old else name)
    return owners


def outcome(name: str, folder: Path) -> dict[str, object]:
    """What happens in a process whose Numba has another name for this, or these."""
    numba.config.CACHE_DIR = str(folder / name[:40].replace(":", "-"))
    owners = [rename(*reversed(one.split(":"))) for one in name.split(",")]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            import small_kernels

            import fastbptt.engine.compat
            small_kernels.check()
            plain, wrong = fastbptt.engine.compat.PLAIN, ""
        except BaseException:
            plain, wrong = None, traceback.format_exc()[-1500:]
    return {"name": name, "owners": owners, "plain": plain, "wrong": wrong,
            "warnings": [str(w.message) for w in said if "fastbptt" in str(w.message)]}


def main(folder: Path, names: list[str]) -> None:
    everyday(1.0)
    for name in names:
        read, write = os.pipe()
        if (pid := os.fork()) == 0:
            os.write(write, json.dumps(outcome(name, folder)).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            print(pipe.read().decode() or json.dumps({"name": name, "wrong": "the process died"}), flush=True)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main(Path(sys.argv[1]), sys.argv[2:])
