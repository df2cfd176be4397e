"""The pool of threads: every piece once, by threads that are there, and no wait for one that is not."""
from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Any, NamedTuple

import numpy as np
import pytest
from numba import config

from fastbptt.engine import pool as pools
from fastbptt.engine.atomics import add, pause, read, swap, write
from fastbptt.engine.compat import PLAIN
from fastbptt.engine.jit import kernel, njit
from fastbptt.engine.pool import Pool, run_pieces
from fastbptt.engine.tuples import named

pytestmark = pytest.mark.skipif(PLAIN, reason="there the calling thread does all work")
NOW, MOST, MEETING = 0, 64, 128      # words: pieces that run, the most at once, how many are to be there before any ends


class Job(NamedTuple):
    words: int
    done: Any


@njit
def meet(piece, job):
    """Counts the piece, and waits until as many run at once as are to meet."""
    now = add(job.words + NOW, 1) + 1
    most = read(job.words + MOST)
    while now > most:
        swap(job.words + MOST, most, now)
        most = read(job.words + MOST)
    while read(job.words + MOST) < read(job.words + MEETING):
        pause()
    job.done[piece] += 1
    add(job.words + NOW, -1)


@njit
def repeat(job, count, times, pool):
    for _ in range(times):
        write(job.words + MOST, 0)
        run_pieces(meet, job, count, pool)


@kernel(allocates=False)
def regions(job, count, times, pool):
    repeat(named(job, Job), count, times, pool)


def run(pool: int, count: int, meeting: int = 1, times: int = 1) -> tuple[np.ndarray, int]:
    """How often every piece ran, and how many ran at once."""
    words, done = np.zeros(40, np.int64), np.zeros(count, np.int64)
    at = -(-words.ctypes.data // 64) * 64
    words[(at - words.ctypes.data + MEETING) // 8] = meeting
    regions((at, done), count, times, pool)
    return done, int(words[(at - words.ctypes.data + MOST) // 8])


@pytest.fixture
def own():
    """A pool of its own, ended afterwards."""
    pool = Pool(8)
    yield pool
    pool.stop()
    assert not any(thread.is_alive() for thread in pool.threads)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_all_threads_work_at_once(own, threads):
    """Each piece waits for the others: with one thread fewer this would not end."""
    for _ in range(3):      # awake, and asleep
        done, most = run(own.limit(threads), threads, meeting=threads)
        assert (done == 1).all() and most == threads
        time.sleep(0.01)


def test_no_more_threads_than_allowed(own):
    own.limit(5)
    for threads in (1, 2, 3):
        done, most = run(own.limit(threads), 40, times=200)
        assert (done == 200).all() and most <= threads


def test_every_piece_once(own):
    rng = np.random.default_rng(0)
    for _ in range(300):
        count, times, threads = int(rng.integers(1, 70)), int(rng.integers(1, 60)), int(rng.integers(1, 9))
        done, most = run(own.limit(threads), count, times=times)
        assert (done == times).all() and most <= threads
        if rng.random() < 0.1:
            time.sleep(rng.random() * 2e-3)      # some of the threads fall asleep


def test_threads_that_do_not_come_are_not_waited_for(own, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", lambda thread: None)
    done, most = run(own.limit(4), 9)
    assert (done == 1).all() and most == 1
    own.threads.clear()


def test_a_system_without_threads_to_give(own, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    done, most = run(own.limit(4), 9)
    assert (done == 1).all() and most == 1 and not own.threads


def test_threads_sleep_between_calls(own):
    run(own.limit(3), 3, meeting=3)
    time.sleep(0.05)
    begin = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - begin < 0.05


LARGE = """
import numpy as np, fastbptt as fb
cell = fb.RNN(32, 64)
x = np.ones((60, 32, 32), np.float32)
tape = fb.forward(cell, cell.init(seed=0), x)
"""


@pytest.mark.parametrize("ending", ["", "import sys; sys.exit(0)",
                                    "import threading; threading.Thread(target=lambda: None).start()",
                                    "import atexit; atexit.register(lambda: fb.forward(cell, cell.init(seed=0), x))"])
def test_the_interpreter_ends_while_threads_are_awake(ending):
    env = {**os.environ, "NUMBA_NUM_THREADS": "4"}
    for _ in range(3):
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", LARGE + ending], env=env, capture_output=True,
                              text=True, timeout=300)
        assert done.returncode == 0 and not done.stderr, done.stderr
        assert time.perf_counter() - begin < 250


@pytest.mark.skipif(sys.platform == "win32", reason="no fork on Windows")
def test_a_forked_child_has_a_pool_of_its_own():
    code = LARGE + """
import os, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
child = os.fork()
if child == 0:
    again = fb.forward(cell, cell.init(seed=0), x)
    os._exit(not (np.array_equal(again.h, tape.h) and any(t.name == "fastbptt-1" for t in threading.enumerate())))
assert os.waitpid(child, 0)[1] == 0
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "NUMBA_NUM_THREADS": "2"}, capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_a_call_that_comes_while_another_is_under_way_runs_by_itself():
    from fastbptt.engine.threads import pool_for
    most = config.NUMBA_NUM_THREADS
    with pool_for(1e12) as first, pool_for(1e12) as second:
        assert bool(first) == (most > 1) and second == 0
    with pool_for(1e12) as again:
        assert again == first


ALL = config.NUMBA_DEFAULT_NUM_THREADS


@pytest.mark.parametrize("numba, omp, threads", [("3", None, 3), ("3", "2", 3), (None, "1", 1), (None, "1,4", 1),
                                                 (None, "100000", ALL), (None, "no", ALL)])
def test_number_of_threads_from_the_environment(numba, omp, threads):
    names = {"NUMBA_NUM_THREADS": numba, "OMP_NUM_THREADS": omp}
    env = {**{k: v for k, v in os.environ.items() if k not in names}, **{k: v for k, v in names.items() if v}}
    done = subprocess.run([sys.executable, "-c", "import fastbptt as fb; print(fb.get_num_threads())"], env=env,
                          capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == str(threads), done.stderr


def test_the_pool_of_the_package_is_asked_for_once():
    if config.NUMBA_NUM_THREADS > 1:
        assert pools.address(2) == pools.address(2) != 0
