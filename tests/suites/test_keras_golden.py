"""The test methods in the Keras wheel that hold golden arrays of SimpleRNN, GRU and LSTM, run on a stand-in for the layers.

Keras itself is not imported, it would need a backend: its test files are read, their imports dropped, and `layers`,
`initializers` and `testing` are the few lines below.
"""
from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.cells import CELLS
from fastbptt.interop.keras import from_weights

METHODS = ("test_correctness", "test_statefulness", "test_pass_initial_state", "test_pass_return_state", "test_masking",
           "test_legacy_implementation_argument")
FILES = {"SimpleRNN": "simple_rnn_test.py", "GRU": "gru_test.py", "LSTM": "lstm_test.py"}
GATES = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}


class Layer:
    """A layer of Keras as far as its golden tests use one: weights from initialisers, ours inside."""

    kind = ""

    def __init__(self, units, *, kernel_initializer, recurrent_initializer, bias_initializer, use_bias=True,
                 unit_forget_bias=True, reset_after=True, return_sequences=False, return_state=False, go_backwards=False,
                 stateful=False, zero_output_for_mask=False, unroll=False, implementation=2):
        self.config = {key: value for key, value in locals().items() if key not in ("self", "units")}
        self.units, self.kept = units, None
        for key, value in self.config.items():
            setattr(self, key, value)

    def get_config(self):
        return {"units": self.units, **self.config}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def reset_state(self):
        self.kept = None

    def built(self, inputs):
        """Our cell and its parameters."""
        H, width = self.units, GATES[self.kind] * self.units
        after = self.kind == "GRU" and self.reset_after
        bias = np.full((2, width) if after else width, self.bias_initializer)
        if self.kind == "LSTM" and self.unit_forget_bias:
            bias[H:2 * H] = 1
        weights = [np.full((inputs, width), self.kernel_initializer), np.full((H, width), self.recurrent_initializer), bias]
        options = {"reset": "after" if after else "before"} if self.kind == "GRU" else {}
        cell = CELLS[self.kind.removeprefix("Simple")](inputs, H, **options)
        return cell, from_weights(cell, [a.astype(np.float32) for a in (weights if self.use_bias else weights[:2])])

    def __call__(self, sequence, initial_state=None, mask=None):
        """sequence (B, T, I): a masked step keeps the state; its output is the one before, at first 0."""
        x = np.swapaxes(sequence, 0, 1)
        T, B, _ = x.shape
        seen = np.ones((T, B), bool) if mask is None else mask.T
        if self.go_backwards:
            x, seen = x[::-1], seen[::-1]
        cell, params = self.built(x.shape[2])
        state = self.kept
        if initial_state is not None:
            state = cell.state_type(*(initial_state if isinstance(initial_state, list) else [initial_state]))
        order = np.argsort(~seen, axis=0, kind="stable")         # the steps that are seen, then the others
        tape = fb.forward(cell, params, x[order, np.arange(B)], state, seen.sum(axis=0))
        self.kept = tape.final if self.stateful else None
        count = np.cumsum(seen, axis=0)                          # the output after so many steps
        h = np.where(count[..., None] > 0, tape.h[count - 1, np.arange(B)], np.float32(0))
        if self.zero_output_for_mask:
            h = h * seen[..., None]
        output = np.swapaxes(h, 0, 1) if self.return_sequences else tape.final.h
        return (output, *tape.final) if self.return_state else output


class TestCase:
    """Counts the golden arrays it has compared."""

    compared = 0

    def assertAllClose(self, got, want, atol=1e-6, rtol=1e-6, **others):
        self.compared += 1
        np.testing.assert_allclose(got, want, atol=atol, rtol=rtol)


def every_parameter(values):
    """What absl's parameterized.parameters does, in one call."""
    return lambda method: lambda self: [method(self, value) for value in values]


def golden_tests(kind, path):
    """The class in a test file of Keras with its golden methods alone."""
    [cls] = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
    cls.body = [node for node in cls.body if isinstance(node, ast.FunctionDef) and node.name in METHODS]
    layer = type(kind, (Layer,), {"kind": kind})
    names = {"np": np, "pytest": pytest, "layers": SimpleNamespace(**{kind: layer}),
             "initializers": SimpleNamespace(Constant=float), "parameterized": SimpleNamespace(parameters=every_parameter),
             "testing": SimpleNamespace(TestCase=TestCase, tensorflow_uses_gpu=lambda: False)}
    exec(compile(ast.Module([cls], []), str(path), "exec"), names)
    return names[cls.name], [node.name for node in cls.body]


spec = importlib.util.find_spec("keras")
if spec is None:
    pytest.skip("keras is not installed", allow_module_level=True)
FOLDER = Path(spec.submodule_search_locations[0]) / "src" / "layers" / "rnn"
SUITES = {kind: golden_tests(kind, FOLDER / file) for kind, file in FILES.items()}
CASES = [(kind, method) for kind, (_, methods) in SUITES.items() for method in methods]


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_golden_arrays(kind, method, record_property):
    test = SUITES[kind][0]()
    getattr(test, method)()
    record_property("cases", test.compared)
    assert test.compared > 0


def test_all_golden_methods_are_here():
    """Keras 3.15 has 4 of SimpleRNN, 6 of GRU and 4 of LSTM."""
    assert len(CASES) >= 14
