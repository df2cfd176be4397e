"""Where there is no GPU: importing costs nothing, and what is asked for says what is missing."""
from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

import fastbptt as fb

EXTRA = find_spec("numba_cuda") is not None


def run(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_nothing_of_cuda_is_imported():
    code = """
import sys
import fastbptt as fb
assert not [name for name in sys.modules if name.startswith(("numba.cuda.", "numba_cuda", "cuda.", "fastbptt.cuda"))]
fb.cuda.to_device
assert not [name for name in sys.modules if name.startswith(("numba.cuda.", "numba_cuda", "fastbptt.cuda."))]
"""
    run(code)


def test_a_missing_package_is_named():
    """Whether it is installed here or not."""
    code = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "numba_cuda" else find(name, *more)
import fastbptt as fb
assert fb.cuda.is_available() is False
try:
    fb.cuda.to_device(fb.RNN(2, 3).init())
except ImportError as error:
    print(error)
"""
    assert run(code) == ("fastbptt.cuda: expected the package numba-cuda, which is not installed; "
                         "pip install 'fastbptt[cuda13]', or 'fastbptt[cuda12]' for a driver of CUDA 12\n")


@pytest.fixture
def target():
    if not EXTRA:
        pytest.skip("numba-cuda is not installed")
    from fastbptt.cuda import target
    return target


def test_no_driver(target, monkeypatch):
    monkeypatch.setattr(target.cuda, "is_available", lambda: False)
    assert not fb.cuda.is_available()
    with pytest.raises(RuntimeError, match="^fastbptt.cuda: expected a GPU with its driver, found none; install .* or pass NumPy"):
        fb.cuda.to_device(fb.RNN(2, 3).init())


def test_a_gpu_that_is_too_old(target, monkeypatch):
    class Old:
        compute_capability = (7, 0)

    monkeypatch.setattr(target.cuda, "is_available", lambda: True)
    monkeypatch.setattr(target.cuda, "get_current_device", Old)
    assert not fb.cuda.is_available()
    with pytest.raises(RuntimeError, match="expected a GPU of compute capability 8.0 or newer, found 7.0; choose a newer one"):
        fb.cuda.to_device(fb.RNN(2, 3).init())
