"""The CPU that kernels are compiled for: its features, and how wide its vectors are."""
from __future__ import annotations

import os

import llvmlite.binding as llvm
from numba import config


def _host_features() -> dict[str, bool]:
    """The CPU features that Numba compiles for (NUMBA_CPU_FEATURES where it is set)."""
    if config.CPU_FEATURES is not None:
        return {name[1:]: name[0] == "+" for name in config.CPU_FEATURES.split(",") if name}
    return dict(llvm.get_host_cpu_features())


def _simd_bits(features: dict[str, bool]) -> int:
    """Width of a vector register in bits: FASTBPTT_SIMD_BITS, or the widest that the CPU has."""
    wanted = os.environ.get("FASTBPTT_SIMD_BITS", "")
    if wanted:
        if wanted not in ("128", "256", "512"):
            raise ValueError(f"FASTBPTT_SIMD_BITS: expected 128, 256 or 512, got {wanted!r}; unset it to use what this CPU has")
        return int(wanted)
    return 512 if features.get("avx512f") else 256 if features.get("avx2") else 128


FEATURES = _host_features()
BITS = _simd_bits(FEATURES)
# AVX-512 and NEON have 32 vector registers, the x86 sets before them 16: this decides how large a register block can be.
REGISTERS = 32 if FEATURES.get("avx512f") or FEATURES.get("neon") else 16
