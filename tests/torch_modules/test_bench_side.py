"""The side `fastbptt.torch` of the benchmark gives the gradients of plain NumPy, truncated ones too."""
from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from fastbptt.bench.cases import CELLS, Case  # noqa: E402
from fastbptt.bench.modules_peer import ModulesPeer  # noqa: E402
from fastbptt.bench.peers import assert_same_gradients  # noqa: E402


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("truncation", [None, (3, 3), (3, 1), (6, 3)])
def test_gradients_of_the_side(cell, truncation):
    before = torch.get_num_threads()
    case = Case(cell, 9, 2, 3, 5, "float32", "S", truncation)
    arrays, side = case.arrays(), ModulesPeer(threads=1)
    assert torch.get_num_threads() == 1
    side.setup(case, arrays)
    assert_same_gradients(case, arrays, [side])
    side.close()
    assert torch.get_num_threads() == before
