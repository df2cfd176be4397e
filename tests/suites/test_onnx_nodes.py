"""The RNN, GRU and LSTM node cases of the onnx wheel: all of them, all present outputs."""
from __future__ import annotations

import warnings

import numpy as np
import pytest

from fastbptt.cells import CELLS
from fastbptt.interop.onnx import run_node

pytest.importorskip("onnx")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import onnx.backend.test.case.node as nodes
    from onnx.backend.test.case.node import gru, lstm, rnn  # noqa: F401  importing them makes their cases

CASES = [case for case in nodes._NodeTestCases if case.model.graph.node[0].op_type in CELLS]


def test_all_cases_are_here():
    assert len(CASES) >= 18


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_node(case):
    [node] = case.model.graph.node
    for inputs, outputs in case.data_sets:
        got = run_node(node, inputs)
        assert [a is not None for a in got] == [bool(name) for name in node.output]
        present = [a for a in got if a is not None]
        assert len(present) == len(outputs)
        for ours, theirs in zip(present, outputs, strict=True):
            assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
