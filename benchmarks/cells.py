"""One layer: forward, and forward + backward against the peers, over the sizes S, M and L."""

from dataclasses import replace

from fastbptt.bench.cases import CELLS, DTYPES, Case, select
from fastbptt.bench.peers import OURS, PEERS, OursSide, checked_setup

SIZES = {case.name.removeprefix("rnn-float32-"): case for case in select(["rnn"], ["float32"])}


def case_of(cell: str, size: str, dtype: str) -> Case:
    return replace(SIZES[size], cell=cell, dtype=dtype)


class Forward:
    """The tape alone."""

    params = (list(CELLS), list(SIZES), list(DTYPES))
    param_names = ["cell", "size", "dtype"]

    def setup(self, cell: str, size: str, dtype: str) -> None:
        self.side = OursSide()
        checked_setup(self.side, case_of(cell, size, dtype))

    def time_forward(self, cell: str, size: str, dtype: str) -> None:
        self.side.forward()


class ForwardBackward:
    """All gradients; a peer is another value on the axis, skipped where it is not installed."""

    params = (list(CELLS), list(SIZES), [OURS, *PEERS])
    param_names = ["cell", "size", "side"]
    timeout = 300

    def setup(self, cell: str, size: str, side: str) -> None:
        try:
            chosen = OursSide() if side == OURS else PEERS[side](None)
        except ImportError as error:
            if side == OURS:
                raise
            raise NotImplementedError(f"{side} is not installed") from error
        self.side = checked_setup(chosen, case_of(cell, size, "float32"))

    def time_forward_backward(self, cell: str, size: str, side: str) -> None:
        self.side.run()


class CallOverhead:
    """T = B = I = H = 1: what a public call costs around its kernels."""

    params = (list(CELLS),)
    param_names = ["cell"]

    def setup(self, cell: str) -> None:
        self.side = OursSide()
        checked_setup(self.side, Case(cell, T=1, B=1, I=1, H=1, dtype="float32", size_class="S"))

    def time_forward(self, cell: str) -> None:
        self.side.forward()

    def time_forward_backward(self, cell: str) -> None:
        self.side.run()
