"""Threads that share the pieces of a call: `run_pieces` runs a function once for each of them.

Pieces are claimed, not dealt. The caller publishes a job and claims pieces itself until none is left; threads that are
awake claim with it. So the caller never waits for a thread that has not begun, only for pieces that others are working on:
a thread that the system keeps from running costs nothing. OpenMP's join waits for every thread instead, and beside other
busy processes that takes milliseconds.

A thread that finds nothing to claim looks for work for some 50 µs, then sleeps on a lock of Python's, a semaphore of the
platform. Python's threads run the loop, in compiled code that holds no lock of the interpreter. They are started with the
first call that is worth it, again in a forked child, and end before the interpreter does.

The memory that all of them share is an array of words. `CLAIMS` is the whole state of a job, so that one compare-and-swap
claims a piece of whatever job is under way: how many threads may take part, the number of pieces, and the next piece.
"""
from __future__ import annotations

import atexit
import ctypes
import os
import threading
from typing import Any

import numpy as np
from numba import config

from .atomics import acquire, add, call_piece, pause, read, release, swap, write
from .compat import PLAIN
from .jit import kernel, njit
from .primitives import minimum

# Addresses of words in bytes from the pool's own; what different threads write to lies in different cache lines.
CLAIMS, DONE, WAITING = 0, 128, 256
LIMIT, STALLS, FUNCTION, DATA, LOCK, ACQUIRE, RELEASE, STOP = (384 + 8 * i for i in range(8))
WORKERS, WORKER = 512, 128         # where those of thread 1 begin, and how far those of the next are away
ASLEEP, OWN_LOCK = 0, 8
SPINS = 1000                       # looks for work before a thread sleeps, some 50 µs
PIECES = 1 << 16                   # more than a job may have
PATIENCE = 100                     # hundredths of a second until a thread that does not end is left alone


@njit(forceinline=True)
def _worker(pool, number):
    """The words of a thread."""
    return pool + WORKERS + (number - 1) * WORKER


@njit
def _is_open(claims, number):
    """Whether the job has a piece left, and takes this thread."""
    return claims % PIECES < (claims // PIECES) % PIECES and number < claims // PIECES // PIECES


@njit
def _claim(pool, number):
    """The next piece of the job under way for this thread; −1: there is none, or the job takes fewer threads."""
    claims = read(pool + CLAIMS)
    while _is_open(claims, number):
        if swap(pool + CLAIMS, claims, claims + 1):
            return claims % PIECES
        claims = read(pool + CLAIMS)
    return -1


@njit
def _wake(pool, number):
    """Wake the two threads that come after this one, as a tree has them, if the job may use them."""
    claims = read(pool + CLAIMS)
    most = minimum(claims // PIECES // PIECES, (claims // PIECES) % PIECES)
    for other in range(2 * number + 1, minimum(2 * number + 3, most)):
        if swap(_worker(pool, other) + ASLEEP, 1, 0):
            release(read(pool + RELEASE), read(_worker(pool, other) + OWN_LOCK))


@njit
def _work_off(pool, number):
    """Claim and run pieces until none is left; whether there was one."""
    piece = _claim(pool, number)
    if piece < 0:
        return False
    _wake(pool, number)
    while piece >= 0:
        count = (read(pool + CLAIMS) // PIECES) % PIECES
        call_piece(read(pool + FUNCTION), piece, read(pool + DATA))
        if add(pool + DONE, 1) + 1 == count and swap(pool + WAITING, 1, 0):
            release(read(pool + RELEASE), read(pool + LOCK))
        piece = _claim(pool, number)
    return True


@kernel(allocates=False)
def _serve(pool, number):
    """What a thread does until it is told to stop."""
    own, spins = _worker(pool, number), 0
    while read(pool + STOP) == 0:
        if _work_off(pool, number):
            spins = 0
        elif spins < SPINS:
            spins += 1
            pause()
        else:
            write(own + ASLEEP, 1)
            # Who publishes a job, or asks to stop, does so before looking whether we sleep: look once more.
            stays_awake = _is_open(read(pool + CLAIMS), number) or read(pool + STOP) != 0
            if not stays_awake or not swap(own + ASLEEP, 1, 0):
                acquire(read(pool + ACQUIRE), read(own + OWN_LOCK))
            spins = 0


@njit
def share(pool, function, data, count):
    """function(piece, data) for piece = 0 … count−1, on the threads of a pool, or with pool = 0 on the calling one."""
    if pool == 0 or count < 2:
        for piece in range(count):
            call_piece(function, piece, data)
        return
    write(pool + DONE, 0)
    write(pool + FUNCTION, function)
    write(pool + DATA, data)
    write(pool + CLAIMS, (read(pool + LIMIT) * PIECES + count) * PIECES)
    _work_off(pool, 0)
    spins = 0
    while read(pool + DONE) < count:
        if spins < SPINS:
            spins += 1
            pause()
        else:
            add(pool + STALLS, 1)
            write(pool + WAITING, 1)
            if read(pool + DONE) < count or not swap(pool + WAITING, 1, 0):
                acquire(read(pool + ACQUIRE), read(pool + LOCK))


@njit(forceinline=True)
def limit_of(pool):
    """How many threads may take part in a job; 1 without a pool."""
    return 1 if pool == 0 else read(pool + LIMIT)


@njit(forceinline=True)
def stalls_of(pool):
    """How often the call that has the pool had to sleep until other threads had done what they began; 0 without a pool.

    A thread that the system takes off its core holds up everyone at the next meeting. Who meets at every step had better
    go on alone after that.
    """
    return 0 if pool == 0 else read(pool + STALLS)


if PLAIN:
    # Inlined, as a function that is passed on is an address, and code with addresses in it cannot be kept on disk.
    @njit(once=True)
    def run_pieces(function, job, count, pool):
        """function(piece, job) for piece = 0 … count−1, one after the other."""
        for piece in range(count):
            function(piece, job)
else:
    from .compat.callbacks import sharing

    run_pieces = sharing(share)
    """run_pieces(function, job, count, pool): function(piece, job) for piece = 0 … count−1, on the threads of a pool."""


class Pool:
    """The memory and the threads; the calling thread is number 0."""

    def __init__(self, most: int):
        self._memory = np.zeros(WORKERS // 8 + max(0, most - 1) * WORKER // 8 + 16, np.int64)
        self.address = -(-self._memory.ctypes.data // 128) * 128
        self._python = ctypes.pythonapi
        self._python.PyThread_allocate_lock.restype = ctypes.c_void_p
        self.set(ACQUIRE, ctypes.cast(self._python.PyThread_acquire_lock, ctypes.c_void_p).value)
        self.set(RELEASE, ctypes.cast(self._python.PyThread_release_lock, ctypes.c_void_p).value)
        self.set(LOCK, self._taken_lock())
        self.threads: list[threading.Thread] = []

    def set(self, at: int, value: Any) -> None:
        """Write the word `at` bytes from the address."""
        self._memory[(self.address - self._memory.ctypes.data + at) // 8] = value

    def get(self, at: int) -> int:
        """The word `at` bytes from the address."""
        return int(self._memory[(self.address - self._memory.ctypes.data + at) // 8])

    def _taken_lock(self) -> Any:
        lock = self._python.PyThread_allocate_lock()
        self._python.PyThread_acquire_lock(ctypes.c_void_p(lock), 1)
        return lock

    def limit(self, threads: int) -> int:
        """At most so many threads for the jobs to come; the address of the pool."""
        while len(self.threads) < threads - 1:
            number = len(self.threads) + 1
            self.set(WORKERS + (number - 1) * WORKER + OWN_LOCK, self._taken_lock())
            thread = threading.Thread(target=_serve, args=(self.address, number), name=f"fastbptt-{number}", daemon=True)
            try:
                thread.start()
            except RuntimeError:      # the system has none to give: then with fewer
                threads = number
                break
            self.threads.append(thread)
        self.set(LIMIT, threads)
        self.set(STALLS, 0)
        return self.address

    def stop(self) -> None:
        """End the threads: what the interpreter frees must not be running."""
        self.set(STOP, 1)
        for number, thread in enumerate(self.threads, 1):
            own = WORKERS + (number - 1) * WORKER
            for _ in range(PATIENCE):
                if self.get(own + ASLEEP):
                    self._python.PyThread_release_lock(ctypes.c_void_p(self.get(own + OWN_LOCK)))
                thread.join(0.01)
                if not thread.is_alive():
                    break


_pool: Pool | None = None
_stopped = False


def address(threads: int) -> int:
    """The address of the pool, for jobs of at most so many threads; 0 where there can be none."""
    global _pool
    if PLAIN or _stopped:
        return 0
    if _pool is None:
        _pool = Pool(config.NUMBA_NUM_THREADS)
    return _pool.limit(threads)


def _forget() -> None:
    """A forked child has the memory of its parent, and none of the threads."""
    global _pool
    _pool = None


@atexit.register
def _stop() -> None:
    global _stopped
    _stopped = True
    if _pool is not None:
        _pool.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
