"""Our calls on a busy machine: what others that work, and a second process like this one, cost them."""

from __future__ import annotations

from fastbptt.bench.busy import measure_busy, pair_of, set_up
from fastbptt.bench.busy_report import BusyTiming
from fastbptt.bench.cases import BUSY_CASES
from fastbptt.bench.numpy_peer import gradients
from fastbptt.bench.peers import OURS
from fastbptt.bench.variants import Variant

THREADS = {"one thread": 1, "all cores": None}
SECONDS = 0.5     # of each case in each situation
Timings = dict[tuple[str, str], BusyTiming]


class Busy:
    """Medians as multiples of the same call alone, on one thread and on all cores."""

    params = ([case.name for case in BUSY_CASES], list(THREADS))
    param_names = ["case", "threads"]

    def setup_cache(self) -> Timings:
        """All figures, measured once; gradients are checked before."""
        found = {}
        for words, threads in THREADS.items():
            variant = Variant(OURS, threads)
            with pair_of(variant) as pair:
                for case in BUSY_CASES:
                    set_up(pair, case, gradients(case, case.arrays().astype("float64")))
                    calls = measure_busy(pair, case, SECONDS)
                    found[case.name, words] = BusyTiming(case.name, OURS, threads, variant.label(), **calls)
        return found

    setup_cache.timeout = 600

    def track_beside_one(self, found: Timings, case: str, threads: str) -> float:
        """One busy process."""
        return found[case, threads].one.median / found[case, threads].alone.median

    def track_beside_three(self, found: Timings, case: str, threads: str) -> float:
        """Three."""
        return found[case, threads].three.median / found[case, threads].alone.median

    def track_longest_beside_one(self, found: Timings, case: str, threads: str) -> float:
        """The longest call beside one busy process."""
        return found[case, threads].one.worst / found[case, threads].alone.median

    track_beside_one.unit = track_beside_three.unit = track_longest_beside_one.unit = "times alone"

    def track_two_at_once(self, found: Timings, case: str, threads: str) -> float:
        """Work of two processes together."""
        return found[case, threads].together

    track_two_at_once.unit = "work of one process"
