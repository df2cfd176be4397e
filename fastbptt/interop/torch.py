"""Parameters from and to the state dictionaries of PyTorch's recurrent modules, without importing PyTorch.

A module holds ``weight_ih_l0`` (G·H, I), ``weight_hh_l0`` (G·H, H) and, unless it was made with ``bias=False``, ``bias_ih_l0``
and ``bias_hh_l0`` (G·H,); the same for ``_l1``, ``_l2`` … of its other layers, and with the ending ``_reverse`` for the reverse
direction. They are U, W and the two summands of b; where the reset gate acts after the recurrent product, the last H of
``bias_hh_l0`` are inside the reset and stand alone, as b_hn (H,). PyTorch's gate order is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..arrays import Array
from ..bptt.stack import Stack
from ..cells import CELLS
from ..errors import as_array, check_array, check_computed_by, check_dtype, check_params, check_state, shape_text
from ..tree import first_array

WEIGHTS = ("weight_ih", "weight_hh")
BIASES = ("bias_ih", "bias_hh")
MODES = {"RNN_TANH": ("RNN", ("tanh",)), "RNN_RELU": ("RNN", ("relu",)), "GRU": ("GRU", ("after",)), "LSTM": ("LSTM", ())}
FIELDS = ("U", "W", "b", "b_hn")
OPTIONS = {"activation": ("relu",)}     # a module's, beside the defaults of the cells
HOME = "torch.nn.modules.rnn"


def from_module(module: Any) -> tuple[Any, Any]:
    """The cell or stack that computes what a ``torch.nn.RNN``, ``GRU`` or ``LSTM`` computes, and its parameters.

    One layer in one direction gives a cell, anything else a `Stack`, with the module's dropout. Data are (T, B, …) whatever
    ``batch_first`` says: see `batch_first`.

    Raises
    ------
    TypeError, ValueError
        If it is another module, a quantised one, one whose ``forward`` is its own, has a projection (``proj_size``), or
        parameters that are neither float32 nor float64.
    """
    mode = _mode(module)
    if module.proj_size > 0:
        raise ValueError(f"module: expected no projection, got proj_size={module.proj_size}; no cell here has one")
    name, options = MODES[mode]
    H = module.hidden_size
    inputs = [module.input_size] + [H * (2 if module.bidirectional else 1)] * (module.num_layers - 1)
    cells = [CELLS[name](size, H, *options) for size in inputs]
    plain = len(cells) == 1 and not module.bidirectional
    cell = cells[0] if plain else Stack(cells, module.bidirectional, module.dropout)
    return cell, from_state_dict(cell, module.state_dict())


def _mode(module: Any) -> str:
    """What a module of torch.nn calls its kind; TypeError if another class computes it."""
    kind, named = type(module), f"module: expected one of torch.nn's {', '.join(CELLS)}"
    mode = getattr(module, "mode", None)
    bases = [base for base in kind.__mro__ if base.__module__ == HOME and base.__name__ in CELLS]
    if mode not in MODES or not bases:
        other = f"{kind.__module__}.{kind.__name__}" if kind.__name__ in CELLS else kind.__name__
        raise TypeError(f"{named}, got {other}" + ("; pass the module it was quantised from" if "quantiz" in other else ""))
    if any("forward" in vars(own) for own in kind.__mro__[:kind.__mro__.index(bases[0])]):
        raise TypeError(f"{named}, got {kind.__name__} with a forward of its own; if that only prepares the input, "
                        "pass its state_dict() to from_state_dict")
    return str(mode)


def from_state_dict(cell: Any, mapping: Mapping[str, Any]) -> Any:
    """The parameters of `cell` from the entries of a PyTorch state dictionary.

    U = weight_ih, W = weight_hh, b = bias_ih + bias_hh; with b_hn, that sum leaves out the last H of bias_hh, which are b_hn.

    Parameters
    ----------
    cell : RNN, GRU, LSTM, or a Stack of them
        As many layers and directions as the module has.
    mapping : mapping of str to array or tensor
        As ``module.state_dict()`` returns it, or loaded from a file, all of one dtype. Missing biases are 0.

    Returns
    -------
    Params of the cell: new C-ordered arrays in the dtype of the weights.

    Raises
    ------
    TypeError
        If `mapping` is not a mapping, or the entries are not all float32 or all float64.
    ValueError
        If a weight is missing, an entry is unknown (another layer, another direction, a projection), a shape does not fit
        the cell, or no module computes the cell: peepholes, ``reset="before"``, a leak, a mask, signs, an activation other
        than tanh and relu. Of these two a state dictionary does not tell which; `from_module` knows.

    Examples
    --------
    >>> import numpy as np
    >>> import fastbptt as fb
    >>> from fastbptt.interop import torch
    >>> weights = {"weight_ih_l0": np.ones((3, 2)), "weight_hh_l0": np.eye(3)}
    >>> torch.from_state_dict(fb.RNN(2, 3), weights).b
    array([0., 0., 0.])
    """
    if not isinstance(mapping, Mapping):
        raise TypeError(f"mapping: expected a mapping of names to arrays, got {type(mapping).__name__}; pass module.state_dict()")
    parts = _parts(cell)
    shapes = {name + ending: shape for ending, part in parts for name, shape in _entries(part).items()}
    _check_names(mapping, [ending for ending, _ in parts])
    arrays = {name: _from_tensor(name, mapping[name], shapes[name], cell) for name in shapes if name in mapping}
    dtype = first_array(tuple(arrays.values())).dtype
    given = {name: check_array(name, value, shapes[name], dtype, str(cell)) for name, value in arrays.items()}
    params = [_params_of(part, {name: given.get(name + ending, np.zeros(shape, dtype)) for name, shape in _entries(part).items()})
              for ending, part in parts]
    return cell.per_layer(params)


def to_state_dict(cell: Any, params: Any) -> dict[str, Array]:
    """The entries of a PyTorch state dictionary that compute what `params` compute: b is written to bias_ih.

    bias_hh is 0 (its last H are b_hn where the cell has it), so that `from_state_dict` returns the same bits.

    Parameters
    ----------
    cell : RNN, GRU, LSTM, or a Stack of them
    params : Params of the cell

    Returns
    -------
    dict of str to array: copies, in the dtype of the parameters. For ``module.load_state_dict``, wrap each in
    ``torch.from_numpy``.

    Raises
    ------
    TypeError, ValueError
        If `params` are not those of the cell, by type, shape or dtype, or no module computes the cell, as in
        `from_state_dict`.

    Examples
    --------
    >>> import fastbptt as fb
    >>> from fastbptt.interop import torch
    >>> cell = fb.RNN(2, 3)
    >>> {name: value.shape for name, value in torch.to_state_dict(cell, cell.init(seed=0)).items()}
    {'weight_ih_l0': (3, 2), 'weight_hh_l0': (3, 3), 'bias_ih_l0': (3,), 'bias_hh_l0': (3,)}
    """
    parts = _parts(cell)
    for _, part in parts:
        _entries(part)
    params = check_params(cell, params)
    entries: dict[str, Array] = {}
    for (ending, part), own in zip(parts, flat_layers(cell, params), strict=True):
        bias_hh = np.zeros_like(own.b)
        if "b_hn" in own._fields:
            bias_hh[-part.hidden_size:] = own.b_hn
        arrays = [np.array(own.U), np.array(own.W), np.array(own.b), bias_hh]
        entries |= {name + ending: array for name, array in zip(WEIGHTS + BIASES, arrays, strict=True)}
    return entries


def from_hidden(cell: Any, hidden: Any) -> Any:
    """The State of `cell` from PyTorch's h_0 or h_n (layers · directions, B, H); from the pair (h, c) for the LSTM.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> from fastbptt.interop import torch
    >>> [state.h.shape for state in torch.from_hidden(fb.Stack([fb.RNN(3, 4), fb.RNN(4, 4)]), np.zeros((2, 5, 4)))]
    [(5, 4), (5, 4)]
    """
    parts = [part for _, part in _parts(cell)]
    states = parts[0].state_type._fields
    arrays = hidden if len(states) > 1 and isinstance(hidden, tuple | list) else (hidden,)
    if len(arrays) != len(states):
        raise ValueError(f"hidden: expected {', '.join(states)} for {cell}, got {len(arrays)} arrays")
    shape = (len(parts), "B", parts[0].hidden_size)
    read = [_from_tensor(f"hidden.{name}", array, shape, cell) for name, array in zip(states, arrays, strict=True)]
    checked = [check_array(f"hidden.{name}", a, shape, read[0].dtype, cell) for name, a in zip(states, read, strict=True)]
    rows = [part.state_type(*[array[i].copy() for array in checked]) for i, part in enumerate(parts)]
    return check_state(cell, cell.per_layer(rows), checked[0].shape[1], read[0].dtype)


def to_hidden(cell: Any, state: Any) -> Any:
    """PyTorch's h_0 or h_n (layers · directions, B, H) of a State of `cell`, such as `tape.final`; (h, c) for the LSTM."""
    arrays = tuple(np.stack(of_kind) for of_kind in zip(*flat_layers(cell, state), strict=True))
    return arrays if len(arrays) > 1 else arrays[0]


def batch_first(array: Any) -> Array:
    """Data of modules with ``batch_first=True``, (B, T, …), as (T, B, …), or back: a copy with the first two axes exchanged.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbptt.interop import torch
    >>> torch.batch_first(np.zeros((2, 7, 3))).shape
    (7, 2, 3)
    """
    given = as_array("array", array.detach().cpu().numpy() if hasattr(array, "detach") else array, "expected (B, T, …)")
    if given.ndim < 2:
        raise ValueError(f"array: expected (B, T, …), got {shape_text(given.shape)}")
    return np.array(np.swapaxes(given, 0, 1), order="C")


def flat_layers(cell: Any, values: Any) -> list[Any]:
    """What belongs to the layers and directions of a stack, in PyTorch's order; of a cell, the one thing."""
    return list(cell.flatten(values))


def _parts(cell: Any) -> list[tuple[str, Any]]:
    """For every layer and direction the ending of its names, and its cell."""
    first = cell.layers[0]
    if any(type(part) is not type(first) or replace(part, input_size=first.input_size) != first for part in cell.layers[1:]):
        raise ValueError(f"cell: expected layers of one kind and one hidden_size, as PyTorch's modules have, got {cell}")
    endings = ("", "_reverse") if cell.bidirectional else ("",)
    return [(f"_l{i}{ending}", part) for i, part in enumerate(cell.layers) for ending in endings]


def _params_of(cell: Any, entries: dict[str, Array]) -> Any:
    """The Params of one cell from its four entries."""
    bias_ih, bias_hh = np.array(entries["bias_ih"]), np.array(entries["bias_hh"])
    values = {"U": np.array(entries["weight_ih"]), "W": np.array(entries["weight_hh"])}
    if "b_hn" in cell.params_type._fields:
        values["b_hn"] = bias_hh[-cell.hidden_size:].copy()
        bias_hh[-cell.hidden_size:] = 0
    values["b"] = bias_ih + bias_hh
    return cell.params_type(**values)


def _entries(cell: Any) -> dict[str, tuple[int, ...]]:
    """Names (without endings) and shapes of the entries, for a cell that a module of PyTorch computes."""
    check_computed_by("PyTorch", "module", cell, FIELDS, OPTIONS)
    U, W, b = (cell.shapes[name] for name in ("U", "W", "b"))
    return dict(zip(WEIGHTS + BIASES, [U, W, b, b], strict=True))


def _check_names(mapping: Mapping[str, Any], endings: list[str]) -> None:
    """The weights of every layer and direction, and nothing else but their biases."""
    weights = [name + ending for ending in endings for name in WEIGHTS]
    known = [*weights, *(name + ending for ending in endings for name in BIASES)]
    if missing := [name for name in weights if name not in mapping]:
        raise ValueError(f"mapping: expected the entries {', '.join(weights)}, got none named {', '.join(missing)}; "
                         "strip the prefix of the module's own name, if there is one")
    if extra := sorted(str(name) for name in mapping if name not in known):
        count = "one layer, one direction" if len(endings) == 1 else f"the layers and directions {', '.join(endings)}"
        raise ValueError(f"mapping: expected {count} and no projection ({', '.join(known)}), "
                         f"got also {', '.join(extra)}; fastbptt.Stack holds several layers and directions")


def _from_tensor(name: str, value: Any, shape: tuple[Any, ...], cell: Any) -> Array:
    """An array in native byte order of what may be a tensor, on any device and under any gradient."""
    expected = f"expected {shape_text(shape)} for {cell}"
    if hasattr(value, "detach"):
        try:
            value = value.detach().cpu().numpy()
        except TypeError:  # a dtype that NumPy does not have
            raise TypeError(f"{name}: {expected}, got a tensor of {value.dtype}; convert it with .float() first") from None
        except RuntimeError as error:  # a tensor without memory, or with a bit that says how to read it
            raise TypeError(f"{name}: {expected}, got a tensor that NumPy cannot read: {error}") from None
    array = as_array(name, value, expected)
    return array.astype(check_dtype(f"{name}.dtype", array.dtype.newbyteorder("=")), copy=False)
