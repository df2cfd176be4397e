"""Where there is no GPU: importing costs nothing, and what is asked for says what is missing."""
from __future__ import annotations

import subprocess
import sys


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
