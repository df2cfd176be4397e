"""RNN, GRU and LSTM nodes of ONNX: run one, or extract its weights. ONNX itself is not needed: a node is read by its fields.

ONNX stacks gates as z r h (GRU) and i o f c (LSTM), peepholes as i o f, and the input biases before the recurrent ones;
directions are the first axis. Nodes keep the batch in the second axis, with ``layout=1`` in the first.

Source: the operators RNN, GRU and LSTM of the ONNX specification, versions 1 to 22.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..bptt.api import forward
from ..bptt.directions import reverse_sequences
from ..bptt.stack import Directions, Stack
from ..cells import CELLS
from ..engine.activations import NAMES
from ..errors import as_array, check_array, check_dtype, check_lengths

SLOTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
SLOTS_OF = {"RNN": SLOTS[:6], "GRU": SLOTS[:6], "LSTM": SLOTS}
RESULTS_OF = {"RNN": ("Y", "Y_h"), "GRU": ("Y", "Y_h"), "LSTM": ("Y", "Y_h", "Y_c")}
GATES = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 2, 3, 1]}
PEEPHOLES = [0, 2, 1]
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
# The activations of the specification, with the alpha and beta at which they are those of a cell here: the defaults that it
# states. Its Affine is the identity at 1 and 0. Each is ours of the same name, if there is one.
SPECIFIED: dict[str, dict[str, float]] = {
    "Tanh": {}, "Sigmoid": {}, "Relu": {}, "LeakyRelu": {"alpha": 0.01}, "Affine": {"alpha": 1.0, "beta": 0.0},
    "Elu": {"alpha": 1.0}, "HardSigmoid": {"alpha": 0.2, "beta": 0.5}, "ThresholdedRelu": {"alpha": 1.0}, "Softplus": {},
    "Softsign": {}}
OURS = {name.replace("_", ""): name for name in NAMES}
ACTIVATIONS = {name: OURS["identity" if name == "Affine" else name.lower()] for name in SPECIFIED
               if name == "Affine" or name.lower() in OURS}
GATED = {"GRU": ("sigmoid", "tanh"), "LSTM": ("sigmoid", "tanh", "tanh")}
FIELD = {1: "f", 2: "i", 3: "s", 6: "floats", 7: "ints", 8: "strings"}       # of an AttributeProto, by its type
KNOWN = {"activations": 8, "activation_alpha": 6, "activation_beta": 6, "direction": 3, "hidden_size": 2, "layout": 2,
         "linear_before_reset": 2, "input_forget": 2}                        # attributes, and their types
KINDS: dict[int, tuple[str, Any]] = {
    1: ("a float", int | float), 2: ("an integer", int), 3: ("a string", str),
    6: ("a list of floats", list), 7: ("a list of integers", list), 8: ("a list of strings", list)}


class Node(NamedTuple):
    """The operator and attributes of a node, and its input arrays by name."""

    op: str
    attributes: dict[str, Any]
    directions: tuple[bool, ...]
    """For every direction whether it is the reverse one."""
    inputs: dict[str, Array]

    @property
    def batch_first(self) -> bool:
        """Whether X, the initial states and the outputs have the batch in the first axis."""
        return bool(self.attributes.get("layout", 0))


def run_node(node: Any, inputs: Sequence[Any]) -> tuple[Array | None, ...]:
    """The outputs of an RNN, GRU or LSTM node.

    Parameters
    ----------
    node : NodeProto
    inputs : arrays
        In the order of the node's non-empty input names: X (T, B, I), W (D, G·H, I), R (D, G·H, H), B (D, 2·G·H),
        sequence_lens (B,), initial_h and initial_c (D, B, H), P (D, 3·H), for D directions.

    Returns
    -------
    tuple
        Aligned with node.output, None where that name is empty: Y (T, D, B, H), 0 at padded steps, Y_h and Y_c (D, B, H).

    Raises
    ------
    ValueError, TypeError
        If the node has an attribute or an input that no cell here computes, or arrays that do not fit; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace as Node
    >>> from fastbptt.interop import onnx
    >>> node = Node(op_type="RNN", input=["x", "w", "r"], output=["", "last"], attribute=[])
    >>> Y, Y_h = onnx.run_node(node, [np.ones((5, 2, 3)), np.ones((1, 4, 3)), np.ones((1, 4, 4))])
    >>> Y is None, Y_h.shape
    (True, (1, 2, 4))
    """
    read = _read(node, inputs)
    X, given = read.inputs["X"], read.inputs
    lengths = given["sequence_lens"]
    valid = (np.arange(len(X))[:, None] < lengths)[..., None]
    outputs, finals = [], []
    for d, (reverse, (cell, params)) in enumerate(zip(read.directions, _cells(read), strict=True)):
        states = [given[name][d] if name in given else np.zeros((X.shape[1], cell.hidden_size), X.dtype)
                  for name in ("initial_h", "initial_c")[:len(cell.state_type._fields)]]
        tape = forward(cell, params, reverse_sequences(X, lengths) if reverse else X, cell.state_type(*states), lengths)
        outputs.append(np.where(valid, reverse_sequences(tape.h, lengths) if reverse else tape.h, X.dtype.type(0)))
        finals.append(tape.final)
    results = [np.stack(outputs, axis=1), *(np.stack(of_kind) for of_kind in zip(*finals, strict=True))]
    if read.batch_first:
        results = [np.ascontiguousarray(np.moveaxis(a, -2, 0)) for a in results]
    return tuple(result if name else None for name, result in zip(node.output, results, strict=False))


def from_node(node: Any, inputs: Sequence[Any]) -> tuple[Any, Any]:
    """The cell of an RNN, GRU or LSTM node and its parameters; of a bidirectional node a `Stack` of one layer.

    Parameters
    ----------
    node, inputs
        As for `run_node`.

    Returns
    -------
    cell, params
        A reverse node has the cell of a forward one: reverse its inputs and outputs yourself.

    Raises
    ------
    ValueError, TypeError
        As `run_node`, and if the directions of a node have different activations.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace as Node
    >>> from fastbptt.interop import onnx
    >>> node = Node(op_type="RNN", input=["x", "w", "r"], output=["", "last"], attribute=[])
    >>> onnx.from_node(node, [np.ones((5, 2, 3)), np.ones((1, 4, 3)), np.ones((1, 4, 4))])[0]
    RNN(input_size=3, hidden_size=4, activation='tanh')
    """
    cells = _cells(_read(node, inputs))
    if len(cells) == 1:
        return cells[0]
    (cell, ahead), (other, back) = cells
    if cell != other:
        raise ValueError(f"activations: expected the same for both directions of a Stack, got {cell} and {other}")
    return Stack([cell], bidirectional=True), (Directions(ahead, back),)


def _read(node: Any, inputs: Sequence[Any]) -> Node:
    """The node and its inputs, checked; X and the initial states with the steps or directions in the first axis."""
    op = node.op_type
    domain = getattr(node, "domain", "")
    if op not in CELLS or domain not in ("", "ai.onnx"):
        raise ValueError(f"node: expected one of {', '.join(CELLS)}, got {op}{domain and ' of the domain ' + domain}")
    attributes = _attributes(op, node.attribute)
    directions = DIRECTIONS[attributes.get("direction", "forward")]
    arrays = _named(node, inputs)
    first = as_array("X", arrays["X"], f"expected (T, B, I) for {op}")
    dtype = check_dtype("X", first.dtype.newbyteorder("="))
    if attributes.get("layout", 0):
        for name in ("X", "initial_h", "initial_c"):
            if name in arrays and (array := as_array(name, arrays[name], f"expected three axes for {op}")).ndim == 3:
                arrays[name] = np.swapaxes(array, 0, 1)
    lengths = as_array("sequence_lens", arrays.pop("sequence_lens"), "expected (B,)") if "sequence_lens" in arrays else None
    checked = _check_arrays(op, arrays, len(directions), attributes.get("hidden_size"), dtype)
    T, B = checked["X"].shape[:2]
    return Node(op, attributes, directions, {**checked, "sequence_lens": check_lengths(lengths, T, B, "sequence_lens")})


def _named(node: Any, inputs: Any) -> dict[str, Any]:
    """The inputs by the names of their slots, for a node whose inputs and outputs are those of its kind."""
    op, slots, results = node.op_type, SLOTS_OF[node.op_type], RESULTS_OF[node.op_type]
    for kind, names, known in (("inputs", node.input, slots), ("outputs", node.output, results)):
        if extra := [name for name in names[len(known):] if name]:
            raise ValueError(f"{kind}: expected at most {', '.join(known)} for a node {op}, got also {', '.join(extra)}; "
                             "no cell here computes it")
    if not isinstance(inputs, list | tuple):
        raise TypeError(f"inputs: expected a list of arrays, got {type(inputs).__name__}")
    names = [slot for slot, name in zip(slots, node.input, strict=False) if name]
    if len(names) != len(inputs) or names[:3] != ["X", "W", "R"]:
        raise ValueError(f"inputs: expected one array for each of {', '.join(names)}, the non-empty names of the {op} node, "
                         f"got {len(inputs)}")
    return dict(zip(names, inputs, strict=True))


def _check_arrays(op: str, arrays: dict[str, Any], D: int, hidden: Any, dtype: np.dtype[Any]) -> dict[str, Array]:
    """Every array but the lengths in canonical form."""
    X = check_array("X", arrays["X"], ("T", "B", "I"), dtype, op)
    G, B = len(GATES[op]), X.shape[1]
    H = check_array("R", arrays["R"], (D, f"{G}·H", "H"), dtype, op).shape[2] if hidden is None else hidden
    shapes = {"W": (D, G * H, X.shape[2]), "R": (D, G * H, H), "B": (D, 2 * G * H), "P": (D, 3 * H),
              "initial_h": (D, B, H), "initial_c": (D, B, H)}
    return {name: X if name == "X" else check_array(name, array, shapes[name], dtype, op) for name, array in arrays.items()}


def _value(attribute: Any) -> Any:
    """The value of an AttributeProto."""
    name = attribute.name
    if getattr(attribute, "ref_attr_name", ""):
        raise ValueError(f"{name}: expected a value, got a reference to {attribute.ref_attr_name!r}; inline the function")
    if attribute.type not in FIELD:
        raise ValueError(f"{name}: expected a number, a string or a list of them, got the type {attribute.type}")
    value = getattr(attribute, FIELD[attribute.type])
    if attribute.type in (3, 8):
        try:
            texts = [v.decode() if isinstance(v, bytes) else str(v) for v in ([value] if attribute.type == 3 else value)]
        except UnicodeDecodeError:
            raise ValueError(f"{name}: expected UTF-8, got {value!r}") from None
        return texts[0] if attribute.type == 3 else texts
    return value if attribute.type in (1, 2) else list(value)


def _attributes(op: str, given: Any) -> dict[str, Any]:
    """The attributes by name, each once, of the right type, and with values that a cell here computes."""
    neutral = {"linear_before_reset": (0, 1) if op == "GRU" else (0,), "input_forget": (0,), "layout": (0, 1),
               "direction": tuple(DIRECTIONS)}
    attributes: dict[str, Any] = {}
    for attribute in given:
        name, value = attribute.name, _value(attribute)
        if name not in KNOWN:
            raise ValueError(f"{name}: expected a node {op} without this attribute, got {value!r}; no cell here computes it")
        if name in attributes:
            raise ValueError(f"{name}: expected it once in a node {op}, got {attributes[name]!r} and {value!r}")
        kind, types = KINDS[KNOWN[name]]
        if attribute.type != KNOWN[name] or not isinstance(value, types):
            raise ValueError(f"{name}: expected {kind} for a node {op}, got {value!r}, {KINDS[attribute.type][0]}")
        if name in neutral and value not in neutral[name]:
            raise ValueError(f"{name}: expected {' or '.join(map(str, neutral[name]))} for a node {op}, got {value!r}")
        if name == "hidden_size" and value < 1:
            raise ValueError(f"{name}: expected an integer of at least 1 for a node {op}, got {value!r}")
        attributes[name] = value
    return attributes


def _activations(node: Node) -> list[tuple[str, ...]]:
    """The activations of every direction, by our names."""
    default = GATED.get(node.op, ("tanh",))
    names = node.attributes.get("activations", list(default) * len(node.directions))
    if len(names) != len(default) * len(node.directions):
        raise ValueError(f"activations: expected {len(default)} for each direction of {node.op}, got {names}")
    given = {number: list(node.attributes.get(f"activation_{number}", [])) for number in ("alpha", "beta")}
    ours = [_activation(name, names, given) for name in names]
    if any(given.values()):
        raise ValueError(f"activation_alpha, activation_beta: expected one for each activation that takes one, got more: {names}")
    directions = [tuple(ours[i:i + len(default)]) for i in range(0, len(ours), len(default))]
    if node.op in GATED and set(directions) != {default}:
        raise ValueError(f"activations: expected {', '.join(default)} for {node.op}, got {names}")
    return directions


def _activation(name: str, names: list[str], given: dict[str, list[float]]) -> str:
    """Our name of one activation; takes its alpha and beta, as float32, from what is left of those given."""
    known = {one.lower(): one for one in ACTIVATIONS}.get(name.lower())
    wanted = SPECIFIED[known] if known else {}
    found = {number: np.float32(given[number].pop(0)) for number in wanted if given[number]}
    if known is None or any(value != np.float32(wanted[number]) for number, value in found.items()):
        takes = {one: ", ".join(f"{number} {value:g}" for number, value in SPECIFIED[one].items()) for one in ACTIVATIONS}
        expected = ", ".join(f"{one} ({numbers})" if numbers else one for one, numbers in takes.items())
        raise ValueError(f"activations: expected {expected}, got {names}"
                         + "".join(f" with activation_{number} {value:g}" for number, value in found.items()))
    return ACTIVATIONS[known]


def _by_gate(array: Array, order: list[int]) -> Array:
    """The blocks of the first axis in another order."""
    return np.concatenate([np.split(array, len(order))[gate] for gate in order])


def _cells(node: Node) -> list[tuple[Any, Any]]:
    """The cell and the parameters of every direction."""
    given, order = node.inputs, GATES[node.op]
    I, H = given["X"].shape[2], given["R"].shape[2]  # noqa: E741
    zero = np.zeros(2 * len(order) * H, given["X"].dtype)
    cells = []
    for d, activations in enumerate(_activations(node)):
        bias = np.split(given["B"][d] if "B" in given else zero, 2)
        on_input, on_state = (_by_gate(part, order) for part in bias)
        cell = _cell(node, activations, I, H)
        values = {"U": _by_gate(given["W"][d], order), "W": _by_gate(given["R"][d], order)}
        if "b_hn" in cell.params_type._fields:
            values["b_hn"] = on_state[2 * H:].copy()
            on_state[2 * H:] = 0
        if "P" in cell.params_type._fields:
            values["P"] = _by_gate(given["P"][d].reshape(3, H), PEEPHOLES)
        cells.append((cell, cell.params_type(**values, b=on_input + on_state)))
    return cells


def _cell(node: Node, activations: tuple[str, ...], I: int, H: int) -> Any:  # noqa: E741
    """The cell of one direction."""
    if node.op == "RNN":
        return CELLS["RNN"](I, H, activations[0])
    if node.op == "GRU":
        return CELLS["GRU"](I, H, "after" if node.attributes.get("linear_before_reset", 0) else "before")
    return CELLS["LSTM"](I, H, "P" in node.inputs)
