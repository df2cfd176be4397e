"""Where `cuda` comes from, and whether there is a GPU to run on: the only file that knows.

The module `numba.cuda` is the one of the package numba-cuda. Kernels use nothing that only this package has.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np

if find_spec("numba_cuda") is None:
    raise ImportError("fastbptt.cuda: expected the package numba-cuda, which is not installed; "
                      "pip install 'fastbptt[cuda13]', or 'fastbptt[cuda12]' for a driver of CUDA 12")

from numba import config, cuda, types  # noqa: E402

__all__ = ["OLDEST", "SIMULATED", "compile_kernel", "cuda", "device", "fault", "lane_sum", "operations", "real_type", "types"]

SIMULATED = bool(config.ENABLE_CUDASIM)
"""Whether kernels run as Python in the simulator: NUMBA_ENABLE_CUDASIM=1."""
OLDEST = 8, 0
"""The oldest compute capability that kernels are compiled for in the tests."""


def fault() -> str:
    """Why nothing can run on a GPU here, in a sentence with the remedy; "" if it can."""
    if SIMULATED:
        return ""
    if not cuda.is_available():
        return ("fastbptt.cuda: expected a GPU with its driver, found none; install NVIDIA's driver until nvidia-smi lists the "
                "GPU, or pass NumPy arrays, which the CPU computes")
    found = tuple(cuda.get_current_device().compute_capability)
    if found < OLDEST:
        wanted, got = (".".join(map(str, capability)) for capability in (OLDEST, found))
        return (f"fastbptt.cuda: expected a GPU of compute capability {wanted} or newer, found {got}; "
                "choose a newer one with CUDA_VISIBLE_DEVICES, or pass NumPy arrays, which the CPU computes")
    return ""


def device(function: Callable[..., Any]) -> Any:
    """A function that kernels call; always inlined, so that what is constant in a kernel is constant in it."""
    return cuda.jit(function, device=True, **({} if SIMULATED else {"forceinline": True}))


def compile_kernel(function: Callable[..., Any], threads: int) -> Any:
    """A kernel for blocks of so many threads, which decides how many registers each may have."""
    return cuda.jit(function, **({} if SIMULATED else {"launch_bounds": threads}))


def real_type(dtype: Any) -> Any:
    """Numba's type for float32 or float64."""
    return types.float32 if np.dtype(dtype) == np.float32 else types.float64


def operations(dtype: Any) -> tuple[ModuleType, Any, Any]:
    """What `engine.simd` has, on numbers of a GPU, as far as cells use it; tanh; and the sigmoid."""
    real, one = real_type(dtype), np.dtype(dtype).type(1)
    simd: Any = ModuleType("simd")
    simd.fma = device(lambda a, b, c: cuda.fma(a, b, c))
    simd.const = device(lambda like, value: real(value))
    simd.select = device(lambda mask, a, b: a if mask else b)
    simd.vmax = device(lambda a, b: a if a > b else b)
    tanh = device(lambda x: real(math.tanh(x)))
    sigmoid = device(lambda x: one / (one + real(math.exp(-x))))
    return simd, tanh, sigmoid


def lane_sum(split: int) -> Any:
    """sum(x) over `split` neighbouring lanes, a power of two up to 32; the same value to each of them."""
    def total(x):
        step = 1
        while step < split:
            x = x + cuda.shfl_xor_sync(-1, x, step)
            step *= 2
        return x
    return device(total)
