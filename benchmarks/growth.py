"""Full and truncated backpropagation as T grows: time, memory, and how much of the full gradient is left."""

import tracemalloc

import numpy as np

from fastbptt.bench.cases import GROWTH_FORMS, growth_case
from fastbptt.bench.cost import FORMS, LENGTHS, cost_side, peak_of, seconds_of
from fastbptt.bench.peers import OursSide, checked_setup

# T · B: a window does horizon times the products of a full pass, and is followed only this far.
LARGEST_WINDOW = 16_384


class Growth:
    """Forward + backward of an RNN with 16 inputs. Peak memory counts the inputs and the interpreter too."""

    params = ([64, 256, 1024, 4096, 16_384], [1, 16], [64, 128], list(GROWTH_FORMS))
    param_names = ["T", "B", "H", "form"]
    timeout = 300

    def setup(self, T: int, B: int, H: int, form: str) -> None:
        case = growth_case(form, T, B, H)
        if case.form == "window" and T * B > LARGEST_WINDOW:
            raise NotImplementedError("too large for a window")
        self.side = checked_setup(OursSide(), case)

    def time_forward_backward(self, T: int, B: int, H: int, form: str) -> None:
        self.side.run()

    def peakmem_forward_backward(self, T: int, B: int, H: int, form: str) -> None:
        self.side.run()


class CostPerStep:
    """One sequence of T steps: curves that should be flat in T, those of peak memory for checkpointed BPTT alone."""

    params = (list(LENGTHS), list(FORMS))
    param_names = ["T", "form"]
    timeout = 300

    def setup(self, T: int, form: str) -> None:
        self.side = cost_side(form, T)

    def track_ns_per_step(self, T: int, form: str) -> float:
        """Forward and backward."""
        return 1e9 * seconds_of({form: self.side}, 21)[form] / T

    track_ns_per_step.unit = "ns"

    def track_peak_bytes(self, T: int, form: str) -> int:
        """Beside inputs and results."""
        return peak_of(self.side)

    track_peak_bytes.unit = "bytes"


class Tracked:
    """Figures that are not times: they must not move when only the speed does."""

    params = (list(GROWTH_FORMS),)
    param_names = ["form"]
    T, B, H = 1024, 4, 64

    def setup(self, form: str) -> None:
        self.case = growth_case(form, self.T, self.B, self.H)
        self.side = checked_setup(OursSide(), self.case)

    def track_arrays_of_h(self, form: str) -> float:
        """Peak of what one call allocates, results included, in arrays of (T, B, H)."""
        tracemalloc.start()
        try:
            self.side.run()
            return tracemalloc.get_traced_memory()[1] / (4 * self.T * self.B * self.H)
        finally:
            tracemalloc.stop()

    track_arrays_of_h.unit = "arrays of (T, B, H)"

    def track_cosine_with_full(self, form: str) -> float:
        """Cosine between dL/dW of this form and of full backpropagation."""
        truncated = self.side.gradients(self.side.run())["W"]
        full_side = checked_setup(OursSide(), growth_case("full", self.T, self.B, self.H))
        full = full_side.gradients(full_side.run())["W"]
        return float(np.vdot(truncated, full) / (np.linalg.norm(truncated) * np.linalg.norm(full)))

    track_cosine_with_full.unit = "cosine"
