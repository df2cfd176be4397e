"""Parameters from and to the state dictionaries of PyTorch's recurrent modules, without importing PyTorch.

A module of one layer and one direction holds ``weight_ih_l0`` (G·H, I), ``weight_hh_l0`` (G·H, H) and, unless it was made
with ``bias=False``, ``bias_ih_l0`` and ``bias_hh_l0`` (G·H,). They are U, W and the two summands of b; where the reset gate
acts after the recurrent product, the last H of ``bias_hh_l0`` are inside the reset and stand alone, as b_hn (H,).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arrays import Array

WEIGHTS = ("weight_ih_l0", "weight_hh_l0")
BIASES = ("bias_ih_l0", "bias_hh_l0")
_SUPPORTED = ("U", "W", "b", "b_hn")


def from_state_dict(cell: Any, mapping: Mapping[str, Any]) -> Any:
    """The parameters of `cell` from the entries of a PyTorch state dictionary.

    U = weight_ih_l0, W = weight_hh_l0, b = bias_ih_l0 + bias_hh_l0; with b_hn, that sum leaves out the last H of
    bias_hh_l0, which are b_hn. PyTorch's gate order is ours.

    Parameters
    ----------
    cell : RNN, or any cell whose parameters are named U, W, b (b_hn)
    mapping : mapping of str to array or tensor
        As ``module.state_dict()`` returns it, or loaded from a file, all of one dtype. Missing biases are 0.

    Returns
    -------
    Params of the cell: new C-ordered arrays in the dtype of the weights.

    Raises
    ------
    TypeError
        If `mapping` is not a mapping, or an entry is neither float32 nor float64.
    ValueError
        If a weight is missing, an entry is unknown (another layer, another direction, a projection), a shape does not fit
        the cell, dtypes are mixed, or the cell has parameters that PyTorch does not know.

    Examples
    --------
    >>> import numpy as np
    >>> import fastbptt as fb
    >>> weights = {"weight_ih_l0": np.ones((3, 2)), "weight_hh_l0": np.eye(3)}
    >>> fb.interop.torch.from_state_dict(fb.RNN(2, 3), weights).b
    array([0., 0., 0.])
    """
    names = _fields(cell)
    if not isinstance(mapping, Mapping):
        raise TypeError(f"mapping: expected a mapping of names to arrays, got {type(mapping).__name__}; pass module.state_dict()")
    _check_names(mapping)
    hidden, rows = cell.hidden_size, _rows(cell)
    shapes = dict(zip(WEIGHTS + BIASES, [(rows, cell.input_size), (rows, hidden), (rows,), (rows,)], strict=True))
    given = {name: _array(name, mapping[name], shapes[name], cell) for name in shapes if name in mapping}
    _check_dtypes(given)
    dtype = given[WEIGHTS[0]].dtype
    bias_ih, bias_hh = (given.get(name, np.zeros(rows, dtype)) for name in BIASES)
    values = {"U": given[WEIGHTS[0]], "W": given[WEIGHTS[1]]}
    if "b_hn" in names:
        values["b_hn"] = bias_hh[-hidden:].copy()
        bias_hh = np.concatenate([bias_hh[:-hidden], np.zeros(hidden, dtype)])
    values["b"] = bias_ih + bias_hh
    return cell.params_type(**{name: values[name] for name in names})


def to_state_dict(cell: Any, params: Any) -> dict[str, Array]:
    """The entries of a PyTorch state dictionary that compute what `params` compute: b is written to bias_ih_l0.

    bias_hh_l0 is 0 (its last H are b_hn where the cell has it), so that `from_state_dict` returns the same bits.

    Parameters
    ----------
    cell : RNN, or any cell whose parameters are named U, W, b (b_hn)
    params : Params of the cell

    Returns
    -------
    dict of str to array: copies, in the dtype of the parameters. For ``module.load_state_dict``, wrap each in
    ``torch.from_numpy``.

    Raises
    ------
    TypeError, ValueError
        If `params` are not those of the cell, by type, shape or dtype, or PyTorch does not know the cell.

    Examples
    --------
    >>> import fastbptt as fb
    >>> cell = fb.RNN(2, 3)
    >>> {name: value.shape for name, value in fb.interop.torch.to_state_dict(cell, cell.init(seed=0)).items()}
    {'weight_ih_l0': (3, 2), 'weight_hh_l0': (3, 3), 'bias_ih_l0': (3,), 'bias_hh_l0': (3,)}
    """
    names = _fields(cell)
    if not isinstance(params, cell.params_type):
        raise TypeError(f"params: expected {cell.params_type.__name__} for {cell!r}, got {type(params).__name__}; use cell.init()")
    hidden, rows = cell.hidden_size, _rows(cell)
    shapes = {"U": (rows, cell.input_size), "W": (rows, hidden), "b": (rows,), "b_hn": (hidden,)}
    values = {name: _array(f"params.{name}", getattr(params, name), shapes[name], cell) for name in names}
    _check_dtypes({f"params.{name}": value for name, value in values.items()})
    bias_hh = np.zeros_like(values["b"])
    if "b_hn" in names:
        bias_hh[-hidden:] = values["b_hn"]
    return dict(zip(WEIGHTS + BIASES, [values["U"], values["W"], values["b"], bias_hh], strict=True))


def _fields(cell: Any) -> tuple[str, ...]:
    """The names of the cell's parameters, all of which PyTorch has a place for."""
    names: tuple[str, ...] = cell.params_type._fields
    if unknown := [name for name in names if name not in _SUPPORTED]:
        raise ValueError(f"cell: expected parameters among {', '.join(_SUPPORTED)}, got {', '.join(unknown)} in {cell!r}; "
                         "PyTorch has no module with them")
    if getattr(cell, "reset", "after") != "after":
        raise ValueError(f'cell: expected reset="after", got {cell!r}; PyTorch resets after the recurrent product')
    return names


def _rows(cell: Any) -> int:
    """G·H, from what the cell says of its parameters' shapes."""
    return int(cell.gates * cell.hidden_size)


def _check_names(mapping: Mapping[str, Any]) -> None:
    """Both weights, and nothing else but biases."""
    if missing := [name for name in WEIGHTS if name not in mapping]:
        raise ValueError(f"mapping: expected the entries {', '.join(WEIGHTS)}, got none named {', '.join(missing)}; "
                         "strip the prefix of the module's own name, if there is one")
    if extra := sorted(str(name) for name in mapping if name not in WEIGHTS + BIASES):
        raise ValueError(f"mapping: expected one layer, one direction and no projection ({', '.join(WEIGHTS + BIASES)}), "
                         f"got also {', '.join(extra)}; pass the entries of one layer under the names of layer 0")


def _array(name: str, value: Any, shape: tuple[int, ...], cell: Any) -> Array:
    """A copy of an array or tensor, in native byte order."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    array = np.asarray(value)
    if array.dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}; convert it first")
    if array.shape != shape:
        raise ValueError(f"{name}: expected {shape} for {cell!r}, got {array.shape}; give the cell the sizes of the module")
    return np.array(array, array.dtype.newbyteorder("="), order="C")


def _check_dtypes(arrays: Mapping[str, Array]) -> None:
    """One dtype for all."""
    if len({array.dtype for array in arrays.values()}) > 1:
        given = ", ".join(f"{name} {array.dtype}" for name, array in arrays.items())
        raise ValueError(f"dtype: expected one for all entries, got {given}; convert them first")
