"""What needs a process of its own: forks, many threads, the cache, bounds checks, narrow lanes."""
from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

GRADIENT = """
import numpy as np, fastbptt as fb
def gradient(B=16, dtype=np.float32):
    rng = np.random.default_rng(0)
    cell = fb.RNN(33, 40)
    params = cell.init(seed=0, dtype=dtype)
    x, dh = rng.normal(size=(60, B, 33)).astype(dtype), rng.normal(size=(60, B, 40)).astype(dtype)
    grads = fb.backward(cell, params, fb.forward(cell, params, x), dh)
    return b''.join(a.tobytes() for a in (*grads.params, grads.x, grads.state.h))
"""


def run(code, **env):
    done = subprocess.run([sys.executable, "-W", "error", "-c", GRADIENT + code], env={**os.environ, **env},
                          capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_eight_threads_at_once():
    run("""
from concurrent.futures import ThreadPoolExecutor
one = gradient()
with ThreadPoolExecutor(8) as pool:
    assert all(r == one for r in pool.map(lambda _: gradient(), range(32)))
""", NUMBA_NUM_THREADS="3")


@pytest.mark.skipif(sys.platform == "win32", reason="no fork on Windows")
def test_after_a_fork():
    run("""
import os, warnings
one = gradient()
warnings.simplefilter("ignore", DeprecationWarning)
pid = os.fork()
if pid == 0:
    os._exit(0 if gradient() == one else 1)
assert os.waitpid(pid, 0)[1] == 0
assert gradient() == one
""", NUMBA_NUM_THREADS="3")


def test_second_process_hits_the_cache(tmp_path):
    count = """
gradient()
from fastbptt.engine.jit import KERNELS
scans = [k.stats for k in KERNELS if k.py_func.__name__ != "_serve"]      # which a thread of the pool asks for, sooner or later
print(sum(s.cache_hits.total() for s in scans), sum(s.cache_misses.total() for s in scans))
"""
    env = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert run(count, **env).split() == ["0", "2"]
    assert run(count, **env).split() == ["2", "0"]


def test_no_writable_cache_warns_once_and_works():
    env = {**os.environ, "NUMBA_CACHE_DIR": os.devnull + "/nowhere"}
    small = "import numpy as np; from fastbptt.engine.products import times; assert times(np.eye(3), np.eye(3)).sum() == 3"
    done = subprocess.run([sys.executable, "-c", small], env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0 and done.stderr.count("RuntimeWarning") == 1


@pytest.mark.slow
def test_core_with_bounds_checks_and_other_vector_widths(core_runs):
    """The comparison with the reference once more, in processes and caches of their own, all at once: each compiles anew."""
    for setting, run in core_runs.items():
        said, _ = run.communicate(timeout=900)
        assert run.returncode == 0, f"{setting}: {said[-3000:]}"


def test_wrong_width_is_refused():
    env = {**os.environ, "FASTBPTT_SIMD_BITS": "64"}
    done = subprocess.run([sys.executable, "-c", "import fastbptt"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "FASTBPTT_SIMD_BITS: expected 128, 256 or 512" in done.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have other rules")
def test_large_calls_use_memory_again():
    """From the third call on, no page has to be asked for anew."""
    code = """if True:
        import resource
        import numpy as np, fastbptt as fb
        cell = fb.LSTM(300, 640)
        params, x, dh = cell.init(seed=0), np.ones((4, 16, 300), np.float32), np.ones((4, 16, 640), np.float32)
        for _ in range(6):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            fb.backward(cell, params, fb.forward(cell, params, x), dh)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and int(done.stdout) < 200, done.stdout + done.stderr
