"""Medians of interleaved turns: every side runs in every round, so that a noisy minute affects all of them.

Each side runs in processes of its own, one for each of its variants: on one thread and on all cores, and what else its library
offers. The fastest variant takes part in the turns. A turn is as many calls as fill 20 ms, at least one; its value is their mean
time, the result the median over turns. What a turn does is in `host.py`.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .cases import Case, select
from .host import Runner
from .machine import machine, product_rates
from .numpy_peer import NumpyPeer, gradients
from .peers import PEERS, assert_equal_gradients
from .report import CaseResult, Report, Timing
from .variants import Entry, start_all

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called with (cases done, cases in all, name of the case that starts; empty at the end)."""

TURN_SECONDS = 0.02
WARM_BELOW_SECONDS = 0.25  # a longer call pays for its own cold start
MIN_TURNS = 5
LOOKS = 2  # turns that choose a variant: the shorter counts


def prepare(case: Case, entries: Sequence[Entry]) -> None:
    """Sets every variant up, as many at a time as there are cores: most of it is compiling."""
    at_once = os.cpu_count() or 1
    for first in range(0, len(entries), at_once):
        batch = entries[first : first + at_once]
        for entry in batch:
            entry.runner.begin("setup", case)
        for entry in batch:
            entry.runner.result()


def first_look(runner: Runner) -> tuple[float, int, bool]:
    """Seconds of a call, the calls of a turn, and whether a turn begins with a call that is not counted."""
    once = runner.call("turn", 1, False)
    calls, warm = max(1, int(TURN_SECONDS / once)), once < WARM_BELOW_SECONDS
    looks = [runner.call("turn", calls, warm) for _ in range(LOOKS)] if warm else [once]
    return min(looks), calls, warm


@dataclass(frozen=True)
class Chosen:
    """The variant of a side that takes part in the turns."""

    entry: Entry
    how: str
    look: float
    calls: int
    warm: bool


def choose(case: Case, entries: Sequence[Entry]) -> list[Chosen]:
    """Checks that all variants that know the case give the same gradients, and takes the fastest variant of each side.

    Raises
    ------
    AssertionError
        If a side gives another gradient than plain NumPy in float64.
    """
    able = [entry for entry in entries if entry.runner.call("supports", case)]
    prepare(case, able)
    expected = gradients(case, case.arrays().astype("float64"))
    best: dict[str, Chosen] = {}
    for entry in able:
        setting = entry.runner.call("tune")
        assert_equal_gradients(case, entry.variant.side, entry.runner.call("gradients"), expected)
        found = Chosen(entry, entry.variant.label(setting), *first_look(entry.runner))
        if entry.variant.side not in best or found.look < best[entry.variant.side].look:
            best[entry.variant.side] = found
    return list(best.values())


def measure(case: Case, entries: Sequence[Entry], seconds: float) -> CaseResult:
    """Chooses a variant of each side, see `choose`, then times them in turns.

    Parameters
    ----------
    case : Case
        What is computed.
    entries : sequence of Entry
        Those that do not support the case are left out.
    seconds : float
        Rounds of turns start until this much time has passed; at least ``MIN_TURNS`` are run.

    Raises
    ------
    AssertionError
        If a side gives a wrong gradient; nothing is timed then.
    """
    chosen = choose(case, entries)
    turns: list[list[float]] = [[] for _ in chosen]
    end = time.perf_counter() + seconds
    while len(turns[0]) < MIN_TURNS or time.perf_counter() < end:
        for side, taken in zip(chosen, turns, strict=True):
            taken.append(side.entry.runner.call("turn", side.calls, side.warm))
    return CaseResult(case, tuple(_timing(side, taken) for side, taken in zip(chosen, turns, strict=True)))


def _timing(side: Chosen, taken: list[float]) -> Timing:
    low, median, high = statistics.quantiles(taken, n=4)
    return Timing(side.entry.variant.side, median, low, high, len(taken), side.calls, side.how)


def check_request(peers: Sequence[str], threads: int | None) -> None:
    """Refuses names that are not those of peers, and less than a thread."""
    if unknown := [name for name in peers if name not in PEERS]:
        raise ValueError(f"peers: expected names among {', '.join(PEERS)}, got {', '.join(unknown)}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads: expected at least 1, got {threads}; leave it out for the better of one and all cores")


def run_bench(
    cases: Sequence[Case] | None = None,
    peers: Iterable[str] = tuple(PEERS),
    threads: int | None = None,
    seconds_per_case: float = 3.0,
    progress: Progress | None = None,
) -> Report:
    """Measures fastbptt and its peers.

    Parameters
    ----------
    cases : sequence of Case, optional
        See ``fastbptt.bench.cases.select``, whose defaults are taken.
    peers : names among ``PEERS``
        A peer that is not installed is named in ``Report.missing`` and left out.
    threads : int or None
        Limit for every side and for the large product; None gives every side the better of one thread and all cores.
    seconds_per_case : float
        Time for the turns of one case; checks, compilation and the choice of variants come on top.
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
    wanted, cases = tuple(peers), select() if cases is None else cases
    check_request(wanted, threads)
    rates: dict[str, list[float]] = {case.dtype: [] for case in cases}
    results = []
    with contextlib.ExitStack() as closing:
        closing.callback(NumpyPeer(threads).close)  # limits the large product, whoever takes part
        entries, missing = start_all(wanted, threads, closing)
        for done, case in enumerate(cases):
            if progress is not None:
                progress(done, len(cases), case.name)
            rates[case.dtype] += product_rates(case.dtype)
            results.append(measure(case, entries, seconds_per_case))
    if progress is not None:
        progress(len(cases), len(cases), "")
    product = {dtype: statistics.median(measured) for dtype, measured in rates.items()}
    return Report(machine(entry.variant.side for entry in entries), threads, missing, product, tuple(results))
