"""Codegen units, parts of a kernel that LLVM compiles in threads: the same code, kept on disk; nothing stays of the threads."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastbptt.engine.compat import PLAIN

ENGINE = Path(__file__).resolve().parent
pytestmark = [pytest.mark.slow, pytest.mark.skipif(PLAIN, reason="there Numba compiles all by itself")]
TRACED = """
import gc, os, threading, numpy as np
from fastbptt.engine.compat import codegen_units as units
seen, real = [], units._compile
def traced(*work):
    seen.append(threading.current_thread().name)
    return real(*work)
units._compile = traced
from fastbptt.engine.products import times
def check(dtype=np.float64):
    assert times(np.eye(3, dtype=dtype), np.full((3, 5), 2, dtype)).tolist() == [[2.0] * 5] * 3
def left():
    return [t.name for t in threading.enumerate() if t.name.startswith("fastbptt-llvm")]
"""


def run(code, folder, threads="2", before=TRACED, **env):
    env = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "NUMBA_NUM_THREADS": threads, **env}
    command = [sys.executable, "-W", "error", "-c", before + code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split()


@pytest.mark.parametrize("threads, names", [("1", {"MainThread"}), ("2", {"fastbptt-llvm_0"})])
def test_who_compiles(tmp_path, threads, names):
    """… and a second process reads what the first kept."""
    code = """
check()
assert not left() and gc.isenabled()
print(*set(seen))
"""
    assert names <= set(run(code, tmp_path, threads))
    assert run(code, tmp_path, threads) == []


GRADIENT = """
import numpy as np, fastbptt as fb
rng, cell = np.random.default_rng(0), fb.LSTM(5, 7)
params = cell.init(seed=0)
x, dh = rng.normal(size=(9, 6, 5)).astype(np.float32), rng.normal(size=(9, 6, 7)).astype(np.float32)
tape = fb.forward(cell, params, x)
for truncation in (None, fb.Truncation(3, 1)):
    grads = fb.backward(cell, params, tape, dh, truncation)
    print(b''.join(a.tobytes() for a in (*grads.params, grads.x, *grads.state)).hex())
from fastbptt.cells.backward import full_passes
assert len(full_passes.overloads) <= 1      # calls with all steps and those with a segment of them share what is compiled
"""


def test_the_same_bits_however_many_threads_compile_and_read_from_disk(tmp_path):
    one, many = (run(GRADIENT, tmp_path / threads, threads, before="") for threads in "14")
    assert one == many == run(GRADIENT, tmp_path / "4", "2", before="")


def test_units_of_any_size(tmp_path):
    """All that is not inlined a unit, and as few as can be, give the same bits."""
    sizes = (f"from fastbptt.engine.compat import compiler; compiler.UNIT_SIZE = {size}\n" for size in ("1", "1e9"))
    small, large = (run(GRADIENT, tmp_path / str(i), before=size) for i, size in enumerate(sizes))
    assert small == large


def test_one_that_is_interrupted_begins_again(tmp_path):
    run("""
optimise = units.optimise
def interrupt(*work):
    if threading.current_thread() is threading.main_thread():
        units.optimise = optimise
        raise KeyboardInterrupt
    return optimise(*work)
units.optimise = interrupt
try:
    check()
    raise AssertionError("not interrupted")
except KeyboardInterrupt:
    assert not left() and gc.isenabled()
check()
""", tmp_path)


def test_what_goes_wrong_in_a_thread_is_raised(tmp_path):
    run("""
def fail(*work):
    raise MemoryError("in a thread")
units._compile = fail
try:
    check()
    raise AssertionError("no error")
except MemoryError:
    assert not left() and gc.isenabled()
""", tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork on Windows")
def test_after_a_fork(tmp_path):
    run("""
check()
pid = os.fork()
if pid == 0:
    check(np.float32)
    os._exit(0 if "fastbptt-llvm_0" in seen and not left() else 1)
assert os.waitpid(pid, 0)[1] == 0
check(np.float32)
""", tmp_path)


def test_at_the_end_of_the_interpreter(tmp_path):
    assert run("import atexit; atexit.register(lambda: (check(), print('right')))", tmp_path) == ["right"]


def test_a_system_without_threads_to_give(tmp_path):
    run("""
def refuse(thread):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
check()
assert set(seen) == {"MainThread"}
""", tmp_path)


def test_a_kernel_of_a_user_has_the_code_in_itself(tmp_path):
    """Numba compiles and keeps it in its own way."""
    (tmp_path / "own.py").write_text("""
import numba
from fastbptt.engine.gemm import rows_times_panels
@numba.njit(cache=True)
def product(c, a, b):
    rows_times_panels(c, 0, 16, a, 0, 2, 1, 2, b, 0, 1, False)
""")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})" + """
from own import product
a, b, c = np.array([2.0, 3.0]), np.ones(32), np.zeros(16)
product(c, a, b)
assert c[0] == 5.0 and not seen
print(sum(product.stats.cache_hits.values()))
"""
    assert [run(code, tmp_path) for _ in range(2)] == [["0"], ["1"]]


@pytest.mark.skipif(sys.platform == "win32", reason="no fork on Windows")
def test_a_llvmlite_that_keeps_its_functions_elsewhere(tmp_path):
    """They are called with its lock: units are compiled one after the other, without a word."""
    env = {**os.environ, "FASTBPTT_PLAIN": "0"}
    done = subprocess.run([sys.executable, str(ENGINE / "renames.py"), str(tmp_path), "llvmlite.binding.ffi:_cfn"], env=env,
                          capture_output=True, text=True, timeout=300)
    line = json.loads(done.stdout)
    assert line["owners"] and line["plain"] is False and not line["wrong"] and not line["warnings"], line
