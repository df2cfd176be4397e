"""What a new process pays: the import, the first gradient with an empty and with a warm cache, and Numba's own floor."""

import subprocess
import sys
import tempfile
from pathlib import Path

from fastbptt.bench.cases import Case
from fastbptt.bench.peers import OursSide, checked_setup

CASE = Case("rnn", T=100, B=1, I=32, H=64, dtype="float32", size_class="S")

FIRST_GRADIENT = f"""
import numpy as np
import fastbptt as fb

cell = fb.RNN({CASE.I}, {CASE.H})
params = cell.init(seed=0, dtype=np.{CASE.dtype})
x = np.ones(({CASE.T}, {CASE.B}, {CASE.I}), np.{CASE.dtype})
dh = np.ones(({CASE.T}, {CASE.B}, {CASE.H}), np.{CASE.dtype})
fb.backward(cell, params, fb.forward(cell, params, x), dh)
"""

EMPTY_CACHE = """
import os, tempfile
folder = tempfile.TemporaryDirectory()
os.environ["NUMBA_CACHE_DIR"] = folder.name
"""

TRIVIAL = """
import numba

@numba.njit(cache=True)
def double(x):
    return 2.0 * x
"""


class Startup:
    """Every sample is a process of its own."""

    timeout = 300

    def timeraw_import_numba(self) -> str:
        return "import numba"

    def timeraw_import(self) -> str:
        return "import fastbptt"


class Warm:
    """The kernels are on disk already."""

    timeout = 300

    def setup(self) -> None:
        checked_setup(OursSide(), CASE)  # the result is right
        subprocess.run([sys.executable, "-c", FIRST_GRADIENT], check=True)  # and these very kernels are cached

    def timeraw_first_gradient(self) -> str:
        return FIRST_GRADIENT


class Cold:
    """Everything is compiled."""

    timeout = 300
    repeat = (1, 3, 30.0)

    def setup(self) -> None:
        checked_setup(OursSide(), CASE)

    def timeraw_first_gradient(self) -> str:
        return EMPTY_CACHE + FIRST_GRADIENT


class Floor:
    """The first call of a trivial cached function: nothing that uses Numba starts faster."""

    timeout = 300

    def setup(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        Path(self.folder.name, "trivial.py").write_text(TRIVIAL)
        self.code = f"import sys\nsys.path.insert(0, {self.folder.name!r})\nimport trivial\nassert trivial.double(2.0) == 4.0"
        subprocess.run([sys.executable, "-c", self.code], check=True)

    def teardown(self) -> None:
        self.folder.cleanup()

    def timeraw_trivial(self) -> str:
        return self.code
