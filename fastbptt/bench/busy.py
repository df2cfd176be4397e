"""The same calls alone, beside busy processes, and in two processes at once, as joblib or a seed sweep does.

A busy process is a Python loop that does nothing. A variant of a side runs in two processes (`worker.py`), of which one works
except in the last situation. Nothing is left running: processes are killed on the way out, Ctrl-C included, and end by
themselves when the process that started them is gone.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from .busy_report import BusyReport, BusyTiming, Calls
from .cases import BUSY_CASES, Array, Case
from .host import Runner
from .machine import machine, product_rates
from .numpy_peer import gradients
from .peers import OURS, PEERS, assert_equal_gradients
from .run import Progress, check_request
from .variants import Variant, thread_choices, variants_of

# The thread waits for the end of standard input, which comes when the process that started this one is gone.
BURN = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
print("busy", flush=True)
while True:
    pass
"""
ROUNDS = 2  # of all situations, so that a noisy moment does not hit one of them alone
TOGETHER_SECONDS = 0.05  # from the order to start to the start of two processes


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[list[int]]:
    """So many processes that do nothing but keep a core busy; their ids.

    Examples
    --------
    >>> from fastbptt.bench.busy import busy_processes
    >>> with busy_processes(2) as ids:
    ...     len(ids)
    2
    """
    started: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            command = [sys.executable, "-I", "-S", "-c", BURN]
            started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
        for process in started:
            assert process.stdout is not None
            if process.stdout.readline().strip() != b"busy":
                raise RuntimeError("a busy process ended before it began; is there enough memory for another Python?")
        yield [process.pid for process in started]
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def measure_busy(pair: Sequence[Runner], case: Case, seconds: float) -> dict[str, Calls]:
    """Times one variant, set up with ``case`` in both processes, in all situations; ``seconds`` for each.

    Returns
    -------
    dict of Calls
        By situation: ``alone``, ``one`` and ``three`` busy processes, ``two``: both processes at once, their calls together.
    """
    taken: dict[str, list[float]] = {"alone": [], "one": [], "three": [], "two": []}
    for _ in range(ROUNDS):
        for situation, count in (("alone", 0), ("one", 1), ("three", 3)):
            with busy_processes(count):
                taken[situation] += pair[0].call("window", 0.0, seconds / ROUNDS)
        start = time.time() + TOGETHER_SECONDS
        for runner in pair:
            runner.begin("window", start, seconds / ROUNDS)
        for runner in pair:
            taken["two"] += runner.result()
    return {situation: Calls(statistics.median(found), max(found), len(found), sum(found)) for situation, found in taken.items()}


@contextlib.contextmanager
def pair_of(variant: Variant) -> Iterator[tuple[Runner, Runner]]:
    """Two processes of a variant."""
    with contextlib.ExitStack() as closing:
        workers = []
        for _ in range(2):
            workers.append(variant.start())
            closing.callback(workers[-1].close)
        yield workers[0], workers[1]


def set_up(pair: Sequence[Runner], case: Case, expected: dict[str, Array]) -> str:
    """Sets the case up in both processes, checks the gradients of each, and returns what the first chose.

    Raises
    ------
    AssertionError
        If a gradient is wrong.
    """
    for runner in pair:
        runner.begin("setup", case)
    for runner in pair:
        runner.result()
    settings = [str(runner.call("tune")) for runner in pair]
    for runner in pair:
        assert_equal_gradients(case, runner.name, runner.call("gradients"), expected)
    return settings[0]


def run_busy(
    cases: Sequence[Case] = BUSY_CASES,
    peers: Iterable[str] = tuple(PEERS),
    threads: int | None = None,
    seconds: float = 1.0,
    progress: Progress | None = None,
) -> BusyReport:
    """Measures every side in every situation, on one thread and on all cores.

    Parameters
    ----------
    cases : sequence of Case
        What is computed.
    peers : names among ``PEERS``
        One that is not installed is named in ``BusyReport.missing`` and left out.
    threads : int or None
        Of every side; None measures one thread and all cores.
    seconds : float
        For each side, number of threads, case and situation.
    progress : callable or None
        Called as ``progress(done, total, name)``.

    Raises
    ------
    ValueError
        If a name is unknown or ``threads`` is below 1.
    AssertionError
        If the sides do not agree on a gradient.
    """
    wanted = tuple(peers)
    check_request(wanted, threads)
    expected = {case: gradients(case, case.arrays().astype("float64")) for case in cases}
    product = {dtype: statistics.median(product_rates(dtype)) for dtype in dict.fromkeys(case.dtype for case in cases)}
    variants = [variant for side in (OURS, *wanted) for variant in variants_of(side, thread_choices(threads))]
    missing: dict[str, str] = {}
    timings: list[BusyTiming] = []
    for number, variant in enumerate(variants):
        if variant.side in missing:
            continue

        def tell(k: int, case: Case, before: int = number * len(cases), side: str = variant.side) -> None:
            if progress is not None:
                progress(before + k, len(variants) * len(cases), f"{side}, {case.name}")

        try:
            timings += _all_cases(variant, expected, seconds, tell)
        except ImportError as error:
            if variant.side == OURS:
                raise
            missing[variant.side] = str(error)
    return BusyReport(machine(t.side for t in timings), missing, product, seconds, tuple(cases), _fastest(timings))


def _all_cases(
    variant: Variant, expected: dict[Case, dict[str, Array]], seconds: float, tell: Callable[[int, Case], None]
) -> list[BusyTiming]:
    found = []
    with pair_of(variant) as pair:
        for k, (case, gradients_of_case) in enumerate(expected.items()):
            tell(k, case)
            if pair[0].call("supports", case):
                how = variant.label(set_up(pair, case, gradients_of_case))
                calls = measure_busy(pair, case, seconds)
                found.append(BusyTiming(case.name, variant.side, variant.threads, how, **calls))
    return found


def _fastest(timings: Iterable[BusyTiming]) -> tuple[BusyTiming, ...]:
    """Of the variants of a side with as many threads, the one that is fastest alone."""
    best: dict[tuple[str, str, int | None], BusyTiming] = {}
    for timing in timings:
        key = timing.case, timing.side, timing.threads
        if key not in best or timing.alone.median < best[key].alone.median:
            best[key] = timing
    return tuple(best.values())
