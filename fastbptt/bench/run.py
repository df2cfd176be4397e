"""Medians of interleaved turns: every side runs in every round, so that a noisy minute affects all of them.

A turn is one call that is not counted, then as many as fill 20 ms, at least one; its value is their mean time, the result
the median over turns.
Before each turn the process must be idle. This is not fussiness: the threads of NumPy's BLAS spin for 0.1 to 0.2 s after a
product, and on two cores the side that comes next then takes 1.8 times as long (PyTorch, RNN with B = 16 and H = 64,
measured: 21–23 ms right after and up to 0.1 s after a product, 12–13 ms from 0.2 s on).
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import numpy as np

from .cases import CELLS, Case, select
from .numpy_peer import NumpyPeer
from .peers import PEERS, OursSide, Side, assert_same_gradients
from .report import CaseResult, Report, Timing

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called with (cases done, cases in all, name of the case that starts; empty at the end)."""

TURN_SECONDS = 0.02
WARM_BELOW_SECONDS = 0.25  # a longer call pays for its own cold start
MIN_TURNS = 5
PRODUCT_SIZE = 2048
PRODUCTS_PER_CASE = 3


def settle(limit_seconds: float = 1.0) -> None:
    """Sleeps until all threads of this process have been idle for 20 ms, at most ``limit_seconds``.

    Shorter intervals show nothing: operating systems account the time of a running thread at ticks, every 4 to 10 ms.
    """
    deadline = time.perf_counter() + limit_seconds
    while time.perf_counter() < deadline:
        busy = time.process_time()
        time.sleep(0.02)
        if time.process_time() - busy < 0.002:
            return


def _turn(side: Side, calls: int, warm: bool) -> float:
    """Seconds of one call, as the mean of ``calls``; ``warm``: a call before them, not counted, wakes threads and caches."""
    settle()
    if warm:
        side.run()
    gc_was_on = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in range(calls):
            side.run()
        return (time.perf_counter() - start) / calls
    finally:
        if gc_was_on:
            gc.enable()


def measure(case: Case, sides: Sequence[Side], seconds: float) -> CaseResult:
    """Checks that all sides that know the case give the same gradients, then times them in turns.

    Parameters
    ----------
    case : Case
        What is computed.
    sides : sequence of Side
        Those that do not support the case are left out.
    seconds : float
        Rounds of turns start until this much time has passed; at least ``MIN_TURNS`` are run.

    Raises
    ------
    AssertionError
        If a side gives another gradient than plain NumPy in float64; nothing is timed then.
    """
    able = [side for side in sides if side.supports(case)]
    arrays = case.arrays()
    for side in able:
        side.setup(case, arrays)
    assert_same_gradients(case, arrays, able)
    once = [_turn(side, 1, warm=False) for side in able]  # the check above was the first call
    calls = [max(1, int(TURN_SECONDS / seconds_once)) for seconds_once in once]
    turns: list[list[float]] = [[] for _ in able]
    end = time.perf_counter() + seconds
    while len(turns[0]) < MIN_TURNS or time.perf_counter() < end:
        for side, n, cold, taken in zip(able, calls, once, turns, strict=True):
            taken.append(_turn(side, n, warm=cold < WARM_BELOW_SECONDS))
    return CaseResult(case, tuple(_timing(s, n, taken) for s, n, taken in zip(able, calls, turns, strict=True)))


def _timing(side: Side, calls: int, taken: list[float]) -> Timing:
    low, median, high = statistics.quantiles(taken, n=4)
    return Timing(side.name, median, low, high, len(taken), calls)


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
    return rates


def run_bench(
    peers: Iterable[str] = tuple(PEERS),
    cells: Iterable[str] = CELLS,
    dtypes: Iterable[str] = ("float32",),
    threads: int | None = None,
    size_classes: Iterable[str] = ("S", "M", "L"),
    seconds_per_case: float = 3.0,
    progress: Progress | None = None,
) -> Report:
    """Measures fastbptt and its peers on the table of cases.

    Parameters
    ----------
    peers : names among ``PEERS``
        A rival that is not installed is named in ``Report.missing`` and left out.
    cells, dtypes, size_classes : names
        Which cases; see ``fastbptt.bench.cases.select``.
    threads : int or None
        Limit for every side and for the large product; None leaves all cores to everybody, as users find it.
    seconds_per_case : float
        Time for the turns of one case; checks and compilation come on top.
    progress : callable or None
        Called as ``progress(done, total, name)``.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If a name is unknown or ``threads`` is below 1.
    ImportError
        If ``threads`` is given and threadpoolctl, which limits NumPy's BLAS, is not installed.
    AssertionError
        If the sides do not agree on a gradient.
    """
    wanted = tuple(peers)
    if unknown := [name for name in wanted if name not in PEERS]:
        raise ValueError(f"peers: expected names among {', '.join(PEERS)}, got {', '.join(unknown)}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads: expected at least 1, got {threads}; leave it out for all cores")
    cases = select(cells, dtypes, size_classes)
    rates: dict[str, list[float]] = {case.dtype: [] for case in cases}
    results = []
    with contextlib.ExitStack() as closing:
        closing.callback(NumpyPeer(threads).close)  # limits the large product, whoever takes part
        sides, missing = _open_sides(wanted, threads, closing)
        for done, case in enumerate(cases):
            if progress is not None:
                progress(done, len(cases), case.name)
            rates[case.dtype] += product_rates(case.dtype)
            results.append(measure(case, sides, seconds_per_case))
    if progress is not None:
        progress(len(cases), len(cases), "")
    product = {dtype: statistics.median(measured) for dtype, measured in rates.items()}
    return Report(_machine(side.name for side in sides), threads, missing, product, tuple(results))


def _open_sides(peers: Sequence[str], threads: int | None, closing: contextlib.ExitStack) -> tuple[list[Side], dict[str, str]]:
    sides: list[Side] = [OursSide(threads)]
    closing.callback(sides[0].close)
    missing = {}
    for name in peers:
        try:
            side = PEERS[name](threads)
        except ImportError as error:
            missing[name] = str(error)
            continue
        closing.callback(side.close)
        sides.append(side)
    return sides, missing


def _machine(packages: Iterable[str]) -> dict[str, str]:
    """Where the figures come from: CPU, cores, and the versions of Python and of every side."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    found = {"cpu": cpu, "cores": str(os.cpu_count()), "python": platform.python_version()}
    for name in dict.fromkeys((*packages, "numpy", "numba")):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # run from a checkout that is not installed
            found[name] = importlib.metadata.version(name)
    return found
