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
from ..errors import as_array, check_array, check_dtype, check_params, shape_text

WEIGHTS = ("weight_ih_l0", "weight_hh_l0")
BIASES = ("bias_ih_l0", "bias_hh_l0")
FIELDS = ("U", "W", "b", "b_hn")


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
        If `mapping` is not a mapping, or the entries are not all float32 or all float64.
    ValueError
        If a weight is missing, an entry is unknown (another layer, another direction, a projection), a shape does not fit
        the cell, or the cell has parameters that PyTorch does not know.

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
    shapes = _entries(cell)
    _check_names(mapping)
    arrays = {name: _from_tensor(name, mapping[name], shapes[name], cell) for name in shapes if name in mapping}
    dtype = arrays["weight_ih_l0"].dtype
    given = {name: check_array(name, value, shapes[name], dtype, str(cell)) for name, value in arrays.items()}
    bias_ih, bias_hh = (np.array(given.get(name, np.zeros(shapes[name], dtype))) for name in BIASES)
    values = {"U": np.array(given["weight_ih_l0"]), "W": np.array(given["weight_hh_l0"])}
    if "b_hn" in cell.params_type._fields:
        values["b_hn"] = bias_hh[-cell.hidden_size:].copy()
        bias_hh[-cell.hidden_size:] = 0
    values["b"] = bias_ih + bias_hh
    return cell.params_type(**values)


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
    >>> from fastbptt.interop import torch
    >>> cell = fb.RNN(2, 3)
    >>> {name: value.shape for name, value in torch.to_state_dict(cell, cell.init(seed=0)).items()}
    {'weight_ih_l0': (3, 2), 'weight_hh_l0': (3, 3), 'bias_ih_l0': (3,), 'bias_hh_l0': (3,)}
    """
    names = _entries(cell)
    params = check_params(cell, params)
    bias_hh = np.zeros_like(params.b)
    if "b_hn" in params._fields:
        bias_hh[-cell.hidden_size:] = params.b_hn
    return dict(zip(names, [np.array(params.U), np.array(params.W), np.array(params.b), bias_hh], strict=True))


def _entries(cell: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the entries, for a cell all of whose parameters PyTorch has a place for."""
    if unknown := [name for name in cell.params_type._fields if name not in FIELDS]:
        raise ValueError(f"cell: expected parameters among {', '.join(FIELDS)}, got {', '.join(unknown)} in {cell}; "
                         "PyTorch has no module with them")
    U, W, b = (cell.shapes[name] for name in ("U", "W", "b"))
    return dict(zip(WEIGHTS + BIASES, [U, W, b, b], strict=True))


def _check_names(mapping: Mapping[str, Any]) -> None:
    """Both weights, and nothing else but biases."""
    if missing := [name for name in WEIGHTS if name not in mapping]:
        raise ValueError(f"mapping: expected the entries {', '.join(WEIGHTS)}, got none named {', '.join(missing)}; "
                         "strip the prefix of the module's own name, if there is one")
    if extra := sorted(str(name) for name in mapping if name not in WEIGHTS + BIASES):
        raise ValueError(f"mapping: expected one layer, one direction and no projection ({', '.join(WEIGHTS + BIASES)}), "
                         f"got also {', '.join(extra)}; pass the entries of one layer under the names of layer 0")


def _from_tensor(name: str, value: Any, shape: tuple[int, ...], cell: Any) -> Array:
    """An array in native byte order of what may be a tensor, on any device and under any gradient."""
    expected = f"expected {shape_text(shape)} for {cell}"
    if hasattr(value, "detach"):
        try:
            value = value.detach().cpu().numpy()
        except TypeError:  # a dtype that NumPy does not have
            raise TypeError(f"{name}: {expected}, got a tensor of {value.dtype}; convert it with .float() first") from None
    array = as_array(name, value, expected)
    return array.astype(check_dtype(f"{name}.dtype", array.dtype.newbyteorder("=")), copy=False)
