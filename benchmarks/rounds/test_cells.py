"""pytest-benchmark over the table of cases: one group per case, one row per side.

Run ``pytest benchmarks/rounds``; ``-k "rnn and float32 and S"`` picks a part, ``--benchmark-autosave`` and
``--benchmark-compare`` put two commits side by side. Peers that are not installed are skipped. All run in
one process, each with the threads that it takes by itself.
"""

import pytest

from fastbptt.bench.cases import CELLS, DTYPES, select
from fastbptt.bench.peers import OURS, PEERS, OursSide, checked_setup


@pytest.mark.parametrize("name", [OURS, *PEERS])
@pytest.mark.parametrize("case", select(CELLS, DTYPES), ids=lambda case: case.name)
def test_forward_backward(benchmark, case, name):
    try:
        side = OursSide() if name == OURS else PEERS[name](None)
    except ImportError as error:
        if name == OURS:
            raise
        pytest.skip(str(error))
    try:
        checked_setup(side, case)
        benchmark.group = case.name
        benchmark.extra_info["flops"] = case.flops
        benchmark(side.run)
    finally:
        side.close()
