"""Where figures come from: the CPU, the lanes of its vectors, its large-product rate, and versions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Iterable

import numpy as np

from ..engine import simd
from .host import settle
from .side import package_of

PRODUCT_SIZE = 2048
PRODUCTS_PER_CASE = 3
DISTRIBUTIONS = {"paddle": ("paddlepaddle",), "numba": ("numba", "scipy")}
"""By package: what is installed under another name, or besides."""


def cpu_name() -> str:
    """The CPU as it calls itself; with family and model where the system tells them, as a virtual one may hide its name."""
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    name = fields.get("model name") or platform.processor() or platform.machine()
    if {"cpu family", "model"} <= fields.keys():
        name += f" (family {fields['cpu family']}, model {fields['model']})"
    return name


def vector_name() -> str:
    """The instruction set that kernels use, and its lanes."""
    names = {512: "AVX-512", 256: "AVX2", 128: "NEON" if simd.FEATURES.get("neon") else "SSE"}
    return f"{names[simd.BITS]}, {simd.lane_count(np.dtype('float32'))} float32 lanes"


def machine(sides: Iterable[str]) -> dict[str, str]:
    """CPU, cores, vectors, and the versions of Python and of what the sides need."""
    found = {"cpu": cpu_name(), "cores": str(os.cpu_count()), "vectors": vector_name(), "python": platform.python_version()}
    packages = dict.fromkeys((*(package_of(side) for side in sides), "numpy", "numba"))
    for name in (distribution for package in packages for distribution in DISTRIBUTIONS.get(package, (package,))):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # run from a checkout that is not installed
            found[name] = importlib.metadata.version(name)
    return found


def product_rates(dtype: str) -> list[float]:
    """GFLOP/s of some large NumPy products in this dtype: what this machine's matrix product gives, at this moment."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((PRODUCT_SIZE, PRODUCT_SIZE)).astype(dtype) for _ in range(2))
    settle()
    rates = []
    for repeat in range(PRODUCTS_PER_CASE + 1):
        start = time.perf_counter()
        a @ b
        if repeat:  # the first one wakes the threads
            rates.append(2e-9 * PRODUCT_SIZE**3 / (time.perf_counter() - start))
    settle()
    return rates


def describe(found: dict[str, str], product: dict[str, float]) -> str:
    """One clause: CPU, cores, vectors, rates, versions."""
    rates = ", ".join(f"{rate:.0f} in {dtype}" for dtype, rate in product.items())
    where = ", ".join((found["cpu"], f"{found['cores']} cores", *filter(None, [found.get("vectors")])))
    versions = ", ".join(f"{k} {v}" for k, v in found.items() if k not in ("cpu", "cores", "vectors"))
    return f"{where}; large NumPy product {rates} GFLOP/s; {versions}"


def describe_now() -> str:
    """The same of this machine at this moment, with the versions of NumPy and Numba."""
    return describe(machine(()), {dtype: statistics.median(product_rates(dtype)) for dtype in ("float32", "float64")})
