"""pytest-benchmark of full and truncated backpropagation on long sequences, ours alone.

A peer's sliding window takes seconds a call: ``fastbptt bench`` measures it, with few turns.
"""

import pytest

from fastbptt.bench.cases import CELLS, DTYPES, select
from fastbptt.bench.peers import OursSide, checked_setup


@pytest.mark.parametrize("case", select(CELLS, DTYPES, ["long"]), ids=lambda case: case.name)
def test_forward_backward(benchmark, case):
    side = checked_setup(OursSide(), case)
    benchmark.group = f"{case.cell}-{case.dtype}-T{case.T}-B{case.B}-H{case.H}"
    benchmark.extra_info["flops"] = case.flops
    benchmark(side.run)
