"""Every kernel as machine code, without a GPU: registers, spills, stack, and no double precision in float32 code.

Numba writes PTX for the oldest GPU, ptxas (of the wheel nvidia-cuda-nvcc) machine code for each.
"""
from __future__ import annotations

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numba.cuda.dispatcher
import pytest
from cuda_calls import CELLS

from fastbptt.cuda import small
from fastbptt.cuda.scan import Variant, backward_scan, forward_scan
from fastbptt.cuda.shape import shape_for
from fastbptt.cuda.target import OLDEST, cuda, real_type, types

TARGETS = ("sm_80", "sm_90", "sm_100")
REGISTERS = 65536      # of a multiprocessor
SIZES = {"float32": 4, "float64": 8}
CASES = [(name, H) for name in ("tanh", "leak", "gru_after", "gru_before", "lstm", "lstm_peephole") for H in (7, 64, 128)]
CASES += [(name, 32) for name in ("sigmoid", "relu", "leaky_relu")]
N, INTEGERS = types.int64, types.int64[::1]


def ptxas():
    """The assembler of the wheel for CUDA 13 or 12."""
    homes = [Path(p) for p in find_spec("nvidia").submodule_search_locations]
    return next(p for home in homes for p in home.glob("*/bin/ptxas"))


@pytest.fixture(autouse=True)
def no_driver(monkeypatch):
    """A kernel that calls a device function asks the driver for the GPU, although it was told one."""
    monkeypatch.setattr(numba.cuda.dispatcher, "get_current_device", lambda: SimpleNamespace(compute_capability=OLDEST))


def check(function, signature, threads, dtype, tmp_path):
    """Compile it, and look at what the assembler says; returns the PTX."""
    ptx, _ = cuda.compile(function, types.void(*signature), device=False, abi="numba", cc=OLDEST, output="ptx",
                          launch_bounds=threads)
    (tmp_path / "kernel.ptx").write_text(ptx)
    for target in TARGETS:
        command = [ptxas(), "-v", f"-arch={target}", tmp_path / "kernel.ptx", "-o", tmp_path / "kernel.cubin"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        for what in ("stack frame", "spill stores", "spill loads"):
            assert re.findall(rf"(\d+) bytes {what}", said) == ["0"], f"{target}: {said}"
        registers = int(re.search(r"Used (\d+) registers", said)[1])
        assert -(-registers // 8) * 8 * threads <= REGISTERS, f"{target}: {registers} registers"
    assert dtype == "float64" or ".f64" not in ptx
    return ptx


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize(("name", "H"), CASES)
def test_scans(name, H, dtype, direction, tmp_path):
    cell, array = CELLS[name][1](4, H), real_type(dtype)[::1]
    shape = shape_for(H, cell.form.layout.recurrent, SIZES[dtype], cell.form.extra_count)
    variant = Variant(cell.params_type, cell.options, cell._saves, True, dtype)
    flags = types.uint8[::1]
    if direction == "forward":
        made, rest = forward_scan, [INTEGERS, array, array, N, N]
    else:
        made, rest = backward_scan, [INTEGERS, INTEGERS, *[array] * 5, types.boolean, N, N]
    ptx = check(made(variant, shape), [*[array] * 5, flags, *rest], shape.threads, dtype, tmp_path)
    if shape.held:      # weights in registers: states come as vectors
        assert ("ld.shared.v4.b32" if dtype == "float32" else "ld.shared.v2.b64") in re.sub(r"\.[fu](?=32|64)", ".b", ptx)


@pytest.mark.parametrize("dtype", SIZES)
def test_small_kernels(dtype, tmp_path):
    array = real_type(dtype)[::1]
    packing = small.packing(shape_for(33, 4, SIZES[dtype]), 4, dtype)
    check(packing, [array, types.boolean, array], small.BLOCK, dtype, tmp_path)
    check(small.collect, [array, INTEGERS, array, N, N, N, N], small.BLOCK, dtype, tmp_path)
    check(small.scatter, [array, INTEGERS, INTEGERS, array, N, N, N], small.BLOCK, dtype, tmp_path)


def test_what_fits_the_registers():
    """W of an RNN with 128 units, and of an LSTM with 64: in registers; two gates of an LSTM with 128."""
    assert shape_for(128, 1, 4) == (128, 4, 128, 1) and shape_for(64, 4, 4) == (64, 4, 64, 4)
    assert shape_for(64, 4, 8) == (64, 8, 64, 4) and shape_for(64, 4, 8, 3) == (64, 8, 64, 3)
    assert shape_for(128, 4, 4) == (128, 4, 128, 2)
