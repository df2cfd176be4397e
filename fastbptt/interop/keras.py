"""Parameters from and to the weight lists of Keras' SimpleRNN, GRU and LSTM layers, without importing Keras.

A layer holds its kernel (I, G·H), its recurrent kernel (H, G·H) and, unless it was made with ``use_bias=False``, its bias
(G·H,): the transposes of U and W, and b. Gates are stacked z r h (GRU) and i f c o (LSTM). A GRU with ``reset_after=True``,
Keras' default, has a bias (2, 3·H) for the input and for the state; the last H of the second are b_hn. Weights do not say how
their layer was made: ``activation`` of a SimpleRNN is that of the cell ("linear" is our identity), and that of the others the
default. Keras has no leak, no masks, no signs, no peepholes, and a leaky_relu of another slope: such cells are refused.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import as_array, check_array, check_computed_by, check_dtype, check_params

GATES = {1: [0], 3: [1, 0, 2], 4: [0, 1, 2, 3]}     # our gates in Keras' order, by their number; every order is its own inverse
FIELDS = ("U", "W", "b", "b_hn")
OPTIONS = {"activation": ("sigmoid", "relu", "identity"), "reset": ("before",)}     # a layer's, beside the defaults of the cells


def from_weights(cell: Any, weights: Sequence[Any]) -> Any:
    """The parameters of `cell` from what ``layer.get_weights()`` returns.

    Parameters
    ----------
    cell : RNN, GRU, LSTM, or a Stack of them
        ``GRU(…, reset="after")`` for ``reset_after=True``. A Stack takes the weights of its layers one after the other, of the
        forward before the reverse direction, as ``Bidirectional`` and a model of such layers return them.
    weights : list of arrays
        Kernel, recurrent kernel and bias, or without biases the kernels alone; all of one dtype.

    Returns
    -------
    Params of the cell: new C-ordered arrays in the dtype of the weights.

    Raises
    ------
    TypeError, ValueError
        If number, shape or dtype of the weights do not fit the cell, or Keras has no layer with its parameters.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> from fastbptt.interop import keras
    >>> keras.from_weights(fb.RNN(2, 3), [np.ones((2, 3)), np.eye(3), np.zeros(3)]).U.shape
    (3, 2)
    """
    parts = _parts(cell)
    if not isinstance(weights, Sequence) or len(weights) not in (2 * len(parts), 3 * len(parts)):
        count = len(weights) if isinstance(weights, Sequence) else type(weights).__name__
        raise ValueError(f"weights: expected {2 * len(parts)} kernels, or {3 * len(parts)} arrays with the biases, for {cell}, "
                         f"got {count}; pass layer.get_weights()")
    first = as_array("weights[0]", weights[0], f"expected the kernel of {cell}")
    dtype = check_dtype("weights[0]", first.dtype.newbyteorder("="))
    each = len(weights) // len(parts)
    params = [_from_layer(part, list(weights[each * i:each * (i + 1)]), each * i, dtype) for i, (_, part) in enumerate(parts)]
    return cell.per_layer(params)


def to_weights(cell: Any, params: Any) -> list[Array]:
    """What ``layer.set_weights`` of a Keras layer takes, so that it computes what `params` compute.

    Parameters
    ----------
    cell : RNN, GRU, LSTM, or a Stack of them
    params : Params of the cell

    Returns
    -------
    list of arrays: kernel, recurrent kernel and bias of every layer and direction; `from_weights` returns the same bits.

    Raises
    ------
    TypeError, ValueError
        If `params` are not those of the cell, or Keras has no layer with its parameters.

    Examples
    --------
    >>> import fastbptt as fb
    >>> from fastbptt.interop import keras
    >>> cell = fb.RNN(2, 3)
    >>> [array.shape for array in keras.to_weights(cell, cell.init(seed=0))]
    [(2, 3), (3, 3), (3,)]
    """
    parts = _parts(cell)
    params = check_params(cell, params)
    entries = cell.flatten(params)
    weights: list[Array] = []
    for (gates, part), own in zip(parts, entries, strict=True):
        bias = _by_gate(own.b, gates)
        if "b_hn" in own._fields:
            bias = np.stack([bias, np.concatenate([np.zeros(2 * part.hidden_size, bias.dtype), own.b_hn])])
        weights += [np.ascontiguousarray(_by_gate(own.U, gates).T), np.ascontiguousarray(_by_gate(own.W, gates).T), bias]
    return weights


def _parts(cell: Any) -> list[tuple[list[int], Any]]:
    """Every layer and direction: the order of its gates, and its cell."""
    for part in cell.scans:
        check_computed_by("Keras", "layer", part, FIELDS, OPTIONS)
    return [(GATES[part.gates], part) for part in cell.scans]


def _from_layer(cell: Any, weights: list[Any], first: int, dtype: np.dtype[Any]) -> Any:
    """The Params of one layer, whose weights begin at index `first` of the whole list."""
    I, H, gates = cell.input_size, cell.hidden_size, GATES[cell.gates]  # noqa: E741
    width = cell.gates * H
    after = "b_hn" in cell.params_type._fields
    shapes = [(I, width), (H, width), (2, width) if after else (width,)]
    given = [check_array(f"weights[{first + k}]", array, shape, dtype, str(cell))
             for k, (array, shape) in enumerate(zip(weights, shapes, strict=False))]
    bias = given[2] if len(given) > 2 else np.zeros(shapes[2], dtype)
    values = {"U": _by_gate(given[0].T, gates), "W": _by_gate(given[1].T, gates)}
    if after:
        on_input, on_state = _by_gate(bias[0], gates), _by_gate(bias[1], gates)
        values["b_hn"] = on_state[2 * H:].copy()
        on_state[2 * H:] = 0
        return cell.params_type(**values, b=on_input + on_state)
    return cell.params_type(**values, b=_by_gate(bias, gates))


def _by_gate(array: Array, order: list[int]) -> Array:
    """The blocks of the first axis in another order, in C order."""
    blocks = np.split(array, len(order))
    return np.ascontiguousarray(np.concatenate([blocks[gate] for gate in order]))
