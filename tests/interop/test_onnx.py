"""ONNX nodes: every option that the operators have, a clear word for what no cell computes. The onnx package is not needed."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.engine import activations
from fastbptt.interop.onnx import ACTIVATIONS, SPECIFIED, from_node, run_node

TYPES = {float: (1, "f"), int: (2, "i"), str: (3, "s")}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
T, B, I, H = 6, 3, 2, 4      # noqa: E741


def attribute(name, value):
    if isinstance(value, list):
        kind = type(value[0])
        number, field = {float: (6, "floats"), str: (8, "strings")}[kind]
        return SimpleNamespace(name=name, type=number, **{field: [v.encode() if kind is str else v for v in value]})
    number, field = TYPES[type(value)]
    return SimpleNamespace(name=name, type=number, **{field: value.encode() if isinstance(value, str) else value})


def make(op, directions=1, slots=("X", "W", "R", "B"), outputs=("Y", "Y_h"), seed=0, **attributes):
    """A node, its inputs by slot, and the list that a runtime would pass."""
    rng = np.random.default_rng(seed)
    G = GATES[op]
    shapes = {"X": (T, B, I), "W": (directions, G * H, I), "R": (directions, G * H, H), "B": (directions, 2 * G * H),
              "initial_h": (directions, B, H), "initial_c": (directions, B, H), "P": (directions, 3 * H)}
    order = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
    arrays = {name: rng.normal(size=shapes[name]) for name in order if name in slots and name in shapes}
    if "sequence_lens" in slots:
        arrays["sequence_lens"] = np.array([6, 2, 4], np.int32)
    last = max(order.index(name) for name in slots)
    node = SimpleNamespace(op_type=op, input=[name if name in slots else "" for name in order[:last + 1]], output=list(outputs),
                           attribute=[attribute(name, value) for name, value in attributes.items()])
    return node, arrays, [arrays[name] for name in order if name in arrays]


def test_a_reverse_node_reads_valid_steps_backwards_and_pads_with_zeros():
    slots = ("X", "W", "R", "B", "sequence_lens", "initial_h")
    node, arrays, inputs = make("RNN", slots=slots, direction="reverse")
    Y, Y_h = run_node(node, inputs)
    cell, params = from_node(node, inputs)
    for b, n in enumerate(arrays["sequence_lens"]):
        h = fb.forward(cell, params, arrays["X"][:n, b:b + 1][::-1], fb.RNNState(arrays["initial_h"][0, b:b + 1])).h
        np.testing.assert_allclose(Y[:n, 0, b], h[::-1, 0], rtol=1e-12)
        np.testing.assert_array_equal(Y[n:, 0, b], 0)
        np.testing.assert_allclose(Y_h[0, b], h[-1, 0], rtol=1e-12)


def test_two_directions_are_a_stack_of_one_layer():
    node, arrays, inputs = make("RNN", 2, ("X", "W", "R", "B", "initial_h"), direction="bidirectional", hidden_size=H)
    Y, Y_h = run_node(node, inputs)
    cell, params = from_node(node, inputs)
    assert cell == fb.Stack([fb.RNN(I, H)], bidirectional=True)
    state = (fb.Directions(*(fb.RNNState(h) for h in arrays["initial_h"])),)
    tape = fb.forward(cell, params, arrays["X"], state)
    np.testing.assert_allclose(np.concatenate([Y[:, 0], Y[:, 1]], axis=-1), tape.h, rtol=1e-12)
    np.testing.assert_allclose(Y_h[1], tape.final[0].reverse.h, rtol=1e-12)


def test_batch_in_the_first_axis():
    slots = ("X", "W", "R", "sequence_lens", "initial_h")
    node, arrays, inputs = make("RNN", slots=slots)
    turned, _, _ = make("RNN", slots=slots, layout=1)
    Y, Y_h = run_node(node, inputs)
    other = [a.swapaxes(0, 1) if a is arrays["X"] or a is arrays["initial_h"] else a for a in inputs]
    got = run_node(turned, other)
    np.testing.assert_array_equal(got[0], Y.transpose(2, 0, 1, 3))
    np.testing.assert_array_equal(got[1], Y_h.swapaxes(0, 1))


@pytest.mark.parametrize(("given", "ours"), [
    ({"activations": ["Relu"]}, "relu"), ({"activations": ["Sigmoid"]}, "sigmoid"), ({}, "tanh"),
    ({"activations": ["LeakyRelu"]}, "leaky_relu"), ({"activations": ["LeakyRelu"], "activation_alpha": [0.01]}, "leaky_relu"),
    ({"activations": ["Affine"], "activation_alpha": [1.0], "activation_beta": [0.0]}, "identity"),
])
def test_activations_of_the_rnn(given, ours):
    node, _, inputs = make("RNN", **given)
    assert from_node(node, inputs)[0] == fb.RNN(I, H, ours)


def test_directions_with_different_activations_run_but_are_no_stack():
    node, arrays, inputs = make("RNN", 2, direction="bidirectional", activations=["Tanh", "Relu"])
    Y, _ = run_node(node, inputs)
    assert Y[:, 1].min() == 0 > Y[:, 0].min()
    with pytest.raises(ValueError, match="^activations: expected the same for both"):
        from_node(node, inputs)


@pytest.mark.parametrize("before", [0, 1])
def test_gru_in_both_forms(before):
    """By the formulas of the specification."""
    node, a, inputs = make("GRU", linear_before_reset=before)
    sig = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    (Wz, Wr, Wh), (Rz, Rr, Rh) = np.split(a["W"][0], 3), np.split(a["R"][0], 3)
    wz, wr, wh, rz, rr, rh = np.split(a["B"][0], 6)
    h = np.zeros((B, H))
    for x in a["X"]:
        z, r = sig(x @ Wz.T + h @ Rz.T + wz + rz), sig(x @ Wr.T + h @ Rr.T + wr + rr)
        n = np.tanh(x @ Wh.T + (r * (h @ Rh.T + rh) if before else (r * h) @ Rh.T + rh) + wh)
        h = (1 - z) * n + z * h
    np.testing.assert_allclose(run_node(node, inputs)[1][0], h, rtol=1e-11)


def test_lstm_with_peepholes_and_both_states():
    node, a, inputs = make("LSTM", slots=("X", "W", "R", "B", "initial_h", "initial_c", "P"), outputs=("", "Y_h", "Y_c"))
    sig = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    h, c = a["initial_h"][0], a["initial_c"][0]
    pi, po, pf = np.split(a["P"][0], 3)
    for x in a["X"]:
        i, o, f, g = np.split(x @ a["W"][0].T + h @ a["R"][0].T + sum(np.split(a["B"][0], 2)), 4, axis=1)
        new = sig(f + pf * c) * c + sig(i + pi * c) * np.tanh(g)
        h, c = sig(o + po * new) * np.tanh(new), new
    Y, Y_h, Y_c = run_node(node, inputs)
    assert Y is None
    np.testing.assert_allclose(Y_h[0], h, rtol=1e-11)
    np.testing.assert_allclose(Y_c[0], c, rtol=1e-11)


@pytest.mark.parametrize(("op", "attributes", "message"), [
    ("RNN", {"clip": 3.0}, "^clip: expected a node RNN without this attribute, got 3.0"),
    ("LSTM", {"input_forget": 1}, "^input_forget: expected 0 for a node LSTM, got 1"),
    ("RNN", {"direction": "both"}, "^direction: expected forward or reverse or bidirectional"),
    ("RNN", {"layout": 2}, "^layout: expected 0 or 1"),
    ("RNN", {"linear_before_reset": 1}, "^linear_before_reset: expected 0 for a node RNN"),
    ("RNN", {"output_sequence": 1}, "^output_sequence: expected a node RNN without"),
    ("RNN", {"activations": ["Elu"]}, r"^activations: expected Tanh, .* got \['Elu'\]"),
    ("RNN", {"activations": ["LeakyRelu"], "activation_alpha": [0.2]}, "^activations: .*activation_alpha 0.2"),
    ("RNN", {"activations": ["Tanh"], "activation_alpha": [0.2]}, "^activation_alpha, activation_beta: "),
    ("RNN", {"activations": ["Tanh", "Tanh"]}, "^activations: expected 1 for each direction of RNN"),
    ("GRU", {"activations": ["Sigmoid", "Relu"]}, "^activations: expected sigmoid, tanh for GRU"),
    ("RNN", {"hidden_size": 5}, r"^W: expected \(1, 5, 2\) for RNN, got \(1, 4, 2\)"),
    ("RNN", {"hidden_size": 0}, "^hidden_size: expected an integer of at least 1 for a node RNN, got 0"),
    ("RNN", {"hidden_size": 4.0}, "^hidden_size: expected an integer for a node RNN, got 4.0, a float"),
    ("RNN", {"hidden_size": [4.0]}, r"^hidden_size: expected an integer for a node RNN, got \[4.0\], a list of floats"),
    ("RNN", {"layout": 1.0}, "^layout: expected an integer for a node RNN, got 1.0, a float"),
    ("RNN", {"direction": ["forward"]}, r"^direction: expected a string for a node RNN, got \['forward'\], a list of strings"),
    ("RNN", {"direction": 1}, "^direction: expected a string for a node RNN, got 1, an integer"),
    ("RNN", {"activations": "Tanh"}, "^activations: expected a list of strings for a node RNN, got 'Tanh', a string"),
    ("RNN", {"activations": [1.0]}, r"^activations: expected a list of strings for a node RNN, got \[1.0\], a list of floats"),
    ("RNN", {"activations": ["Affine"], "activation_alpha": 1.0}, "^activation_alpha: expected a list of .* got 1.0, a float"),
    ("GRU", {"linear_before_reset": "1"}, "^linear_before_reset: expected an integer for a node GRU, got '1', a string"),
    ("RNN", {"activations": ["Affine"], "activation_beta": [0.5]}, "^activations: .*activation_beta 0.5"),
    ("RNN", {"activations": ["LeakyRelu"], "activation_alpha": [0.0100001]}, "^activations: .*activation_alpha"),
    ("RNN", {"activations": ["ScaledTanh"], "activation_alpha": [1.0]}, r"^activations: .* got \['ScaledTanh'\]"),
    ("RNN", {"activations": ["leaky_relu"]}, r"^activations: .* got \['leaky_relu'\]"),
    ("RNN", {"activations": ["Identity"]}, r"^activations: .* got \['Identity'\]"),
])
def test_refused(op, attributes, message):
    node, _, inputs = make(op, **attributes)
    with pytest.raises(ValueError, match=message):
        run_node(node, inputs)


def test_refused_inputs():
    node, arrays, inputs = make("RNN")
    with pytest.raises(ValueError, match="^inputs: expected one array for each of X, W, R, B, .* got 3"):
        run_node(node, inputs[:3])
    with pytest.raises(ValueError, match=r"^B: expected \(1, 8\)"):
        run_node(node, [*inputs[:3], arrays["B"][:, :4]])
    with pytest.raises(ValueError, match=r"^X: expected \(T, B, I\) for RNN"):
        run_node(make("RNN", layout=1)[0], [inputs[0][0], *inputs[1:]])
    with pytest.raises(TypeError, match="^R: expected float64"):
        run_node(node, [*inputs[:2], arrays["R"].astype(np.float32), inputs[3]])
    with pytest.raises(ValueError, match="^node: expected one of RNN.*, got Gemm"):
        run_node(SimpleNamespace(op_type="Gemm"), [])


@pytest.mark.parametrize(("op", "extra", "known"), [("GRU", ("initial_c",), "X, W, R, B, sequence_lens, initial_h"),
                                                    ("RNN", ("initial_c",), "X, W, R, B, sequence_lens, initial_h"),
                                                    ("GRU", ("P",), "X, W, R, B, sequence_lens, initial_h")])
def test_inputs_that_its_kind_does_not_have(op, extra, known):
    node, _, inputs = make(op, slots=("X", "W", "R", *extra))
    for read in (run_node, from_node):
        with pytest.raises(ValueError, match=f"^inputs: expected at most {known} for a node {op}, got also {extra[0]}"):
            read(node, inputs)


def test_a_ninth_input_and_a_third_output_are_refused():
    node, _, inputs = make("LSTM", slots=("X", "W", "R", "P"))
    node.input.append("more")
    with pytest.raises(ValueError, match="^inputs: expected at most X, .*, P for a node LSTM, got also more"):
        run_node(node, [*inputs, inputs[0]])
    node, _, inputs = make("GRU", outputs=("Y", "Y_h", "Y_c"))
    with pytest.raises(ValueError, match="^outputs: expected at most Y, Y_h for a node GRU, got also Y_c"):
        run_node(node, inputs)
    node.input += ["", ""]              # empty names at the end say nothing
    node.output[2] = ""
    assert len(run_node(node, inputs)) == 2


@pytest.mark.parametrize("slot", ["X", "W", "R", "B", "sequence_lens", "initial_h"])
@pytest.mark.parametrize("layout", [0, 1])
def test_scalars_are_named(slot, layout):
    slots = ("X", "W", "R", "B", "sequence_lens", "initial_h")
    node, arrays, _ = make("RNN", slots=slots, layout=layout)
    if layout:
        arrays |= {name: arrays[name].swapaxes(0, 1) for name in ("X", "initial_h")}
    for wrong in (3.0, np.float64(3), [], "four", None):
        with pytest.raises((TypeError, ValueError), match=rf"^{slot}: expected "):
            run_node(node, [wrong if name == slot else arrays[name] for name in slots])


def test_sequence_lens_are_checked_by_their_name_in_both_readers():
    node, arrays, _ = make("RNN", slots=("X", "W", "R", "sequence_lens"))
    for wrong in ([7, 1, 1], [0, 1, 1], [1, 1], [1.0, 1.0, 1.0]):
        for read in (run_node, from_node):
            with pytest.raises((TypeError, ValueError), match="^sequence_lens: expected "):
                read(node, [*list(arrays.values())[:3], np.array(wrong)])


@pytest.mark.parametrize(("change", "message"), [
    ({"domain": "com.microsoft"}, "^node: expected one of RNN.*, got RNN of the domain com.microsoft"),
    ({"attribute": [attribute("layout", 0), attribute("layout", 1)]}, "^layout: expected it once"),
    ({"attribute": [SimpleNamespace(name="layout", type=2, i=0, ref_attr_name="l")]}, "^layout: .* got a reference to 'l'"),
    ({"attribute": [SimpleNamespace(name="direction", type=3, s=b"\xff")]}, "^direction: expected UTF-8"),
    ({"attribute": [SimpleNamespace(name="hidden_size", type=2, i=4.5)]}, "^hidden_size: expected an integer"),
    ({"attribute": [SimpleNamespace(name="then", type=5)]}, "^then: expected a number"),
])
def test_nodes_that_say_something_else(change, message):
    node, _, inputs = make("RNN")
    with pytest.raises(ValueError, match=message):
        run_node(SimpleNamespace(**{**vars(node), **change}), inputs)


def test_inputs_are_a_list_and_the_domain_may_be_named():
    node, _, inputs = make("RNN")
    with pytest.raises(TypeError, match="^inputs: expected a list of arrays, got dict"):
        run_node(node, dict(enumerate(inputs)))
    node.domain = "ai.onnx"
    assert run_node(node, inputs)[0] is not None


FORMULAS = {
    "Tanh": np.tanh, "Sigmoid": lambda x: 1 / (1 + np.exp(-x)), "Relu": lambda x: np.maximum(x, 0), "Affine": lambda x: x,
    "LeakyRelu": lambda x: np.where(x < 0, 0.01 * x, x), "Elu": lambda x: np.where(x < 0, np.expm1(x), x),
    "HardSigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1), "ThresholdedRelu": lambda x: np.where(x > 1, x, 0),
    "Softplus": lambda x: np.log1p(np.exp(x)), "Softsign": lambda x: x / (1 + np.abs(x))}


@pytest.mark.parametrize("name", FORMULAS)
def test_what_is_taken_computes_the_formula_of_the_specification(name):
    """Names are compared with those of `activations.NAMES`: an activation added there under a name of ONNX must be ONNX's."""
    x = np.linspace(-3, 3, 61)
    if name not in ACTIVATIONS:
        with pytest.raises(ValueError, match="^activations"):
            run_node(*make("RNN", activations=[name])[::2])
        return
    code = activations.NAMES.index(ACTIVATIONS[name])
    np.testing.assert_allclose([activations.activate(code, v) for v in x], FORMULAS[name](x), rtol=1e-12, atol=1e-15)


def test_every_activation_that_both_have_is_taken():
    both = {name.replace("_", "") for name in activations.NAMES} & {name.lower() for name in SPECIFIED}
    assert set(FORMULAS) == set(SPECIFIED) and {"Affine"} | {n for n in SPECIFIED if n.lower() in both} == set(ACTIVATIONS)
    node, _, inputs = make("RNN", activations=["leakyRELU"])
    assert from_node(node, inputs)[0].activation == "leaky_relu"
