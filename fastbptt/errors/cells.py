"""Cells and stacks: their options, parameters and states."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..tree import first_array, leaves
from .arrays import check_array, is_array, read_array, shape_text
from .values import FLOATS, check_integer, check_number

LARGEST = 2**40      # bytes of one array; more is a mistake, refused before anything is allocated


def is_stack(cell: Any) -> bool:
    """Whether it consists of cells."""
    return hasattr(cell, "cells")


def check_cells(cells: Any, bidirectional: bool) -> tuple[Any, ...]:
    """Cells that fit on top of each other."""
    if not isinstance(cells, tuple | list) or not cells:
        raise TypeError(f"cells: expected a list of one or more cells, first layer first, got {cells!r}")
    for i, cell in enumerate(cells):
        if is_stack(cell) or not hasattr(cell, "params_type"):
            raise TypeError(f"cells[{i}]: expected a cell such as fastbptt.RNN(input_size, hidden_size), got {cell!r}")
    for i in range(1, len(cells)):
        below = cells[i - 1].hidden_size * (2 if bidirectional else 1)
        if cells[i].input_size != below:
            raise ValueError(f"cells[{i}]: expected input_size={below}, the outputs of the layer below"
                             f"{' in two directions' if bidirectional else ''}, got {cells[i]}")
    return tuple(cells)


def check_weights_fit(cell: Any, shapes: dict[str, tuple[int, ...]], dtype: np.dtype[Any]) -> None:
    """Refuse parameters that no memory holds, before anything is allocated."""
    for name, shape in shapes.items():
        size = dtype.itemsize
        for n in shape:
            size *= n
        if size > LARGEST:
            raise ValueError(f"{name}: {shape_text(shape)} for {cell} needs {size:,} bytes; "
                             f"expected at most {LARGEST:,}: choose smaller sizes")


def check_mask(mask: Any, hidden: int) -> np.ndarray[Any, Any] | None:
    """(H, H) of 0 and 1 or truth values, as read-only truth values; None: none."""
    if mask is None:
        return None
    array = np.array(read_array("mask", mask, f"expected ({hidden}, {hidden}) of 0 and 1"))
    if array.dtype.kind not in "biuf" or array.shape != (hidden, hidden) or not np.isin(array, (0, 1)).all():
        raise ValueError(f"mask: expected ({hidden}, {hidden}) of 0 and 1, got {shape_text(array.shape)} of {array.dtype}; "
                         "1 where unit j (column) may act on unit i (row)")
    array = array.astype(bool)
    array.setflags(write=False)
    return array


def check_signs(signs: Any, hidden: int) -> np.ndarray[Any, Any] | None:
    """(H,) of −1, 0 and 1, as read-only int8; None: none."""
    if signs is None:
        return None
    array = np.array(read_array("signs", signs, f"expected ({hidden},) of -1, 0 and 1"))
    if array.dtype.kind not in "iuf" or array.shape != (hidden,) or not np.isin(array, (-1, 0, 1)).all():
        raise ValueError(f"signs: expected ({hidden},) of -1, 0 and 1, got {shape_text(array.shape)} of {array.dtype}; "
                         "1 for an excitatory unit, -1 for an inhibitory one, 0 for one that is free")
    array = array.astype(np.int8)
    array.setflags(write=False)
    return array


def check_leak(leak: Any) -> float:
    """0 < α ≤ 1."""
    number = check_number("leak", leak)
    if not 0 < number <= 1:
        raise ValueError(f"leak: expected a number above 0 and at most 1, got {leak}; 1 is a network without leak")
    return number


def check_layers(stack: Any, name: str, values: Any, check: Callable[[Any, Any, str], Any]) -> Any:
    """One entry for every layer, with two directions a pair of them: the tuple of check(cell, entry, name of the entry)."""
    n, pair = len(stack.cells), stack.direction_type
    wanted = f"a tuple of {n} layers" + (f", each {pair.__name__}({', '.join(pair._fields)})," if stack.bidirectional else "")
    if not isinstance(values, tuple) or len(values) != n:
        given = f"a tuple of {len(values)}" if isinstance(values, tuple) else type(values).__name__
        raise TypeError(f"{name}: expected {wanted} for {stack}, got {given}")
    layers = []
    for i, (cell, entry) in enumerate(zip(stack.cells, values, strict=True)):
        if not stack.bidirectional:
            layers.append(check(cell, entry, f"{name}[{i}]"))
            continue
        if type(entry) is not pair:
            raise TypeError(f"{name}[{i}]: expected {pair.__name__}({', '.join(pair._fields)}), got {type(entry).__name__}")
        layers.append(pair(*[check(cell, e, f"{name}[{i}].{way}") for way, e in zip(pair._fields, entry, strict=True)]))
    return tuple(layers)


def check_params(cell: Any, params: Any, name: str = "params") -> Any:
    """Parameters of this cell, all of one float dtype, in canonical form."""
    if is_stack(cell):
        layers = check_layers(cell, name, params, check_params)
        first = first_array(layers).dtype
        for i, layer in enumerate(layers):
            for part in layer if cell.bidirectional else (layer,):
                if part[0].dtype != first:
                    raise TypeError(f"{name}[{i}]: expected {first} like the first layer, got {part[0].dtype}")
        return layers
    kind = cell.params_type
    if type(params) is not kind:
        raise TypeError(f"{name}: expected {kind.__name__} as {type(cell).__name__}.init makes them, got {type(params).__name__}")
    first, shapes = params[0], cell.shapes
    dtype = first.dtype if isinstance(first, np.ndarray) else None
    if dtype is FLOATS[0] or dtype is FLOATS[1]:
        for array, shape in zip(params, shapes.values(), strict=True):
            if not (type(array) is np.ndarray and array.dtype is dtype and array.shape == shape and array.flags.carray):
                break
        else:
            return params
    if dtype is None and is_array(first):
        dtype = read_array(f"{name}.{kind._fields[0]}", first, "expected a float32 or float64 array").dtype
    if dtype is None or dtype.newbyteorder("=") not in FLOATS:
        raise TypeError(f"{name}.{kind._fields[0]}: expected a float32 or float64 array, got {dtype or type(first).__name__}")
    dtype = FLOATS[0] if dtype.itemsize == 4 else FLOATS[1]
    return kind(*[check_array(f"{name}.{f}", a, shapes[f], dtype, cell) for f, a in zip(kind._fields, params, strict=True)])


def check_state(cell: Any, state: Any, B: int, dtype: np.dtype[Any], name: str = "state") -> Any:
    """A State of this cell for B sequences; None: zeros."""
    if is_stack(cell):
        given = cell.per_layer(None) if state is None else state
        return check_layers(cell, name, given, lambda part, entry, entry_name: check_state(part, entry, B, dtype, entry_name))
    kind, shape = cell.state_type, (B, cell.hidden_size)
    if state is None:
        return kind(*[np.zeros(shape, dtype) for _ in kind._fields])
    if type(state) is not kind:
        raise TypeError(f"{name}: expected {kind.__name__} or None, got {type(state).__name__}; "
                        f"wrap the arrays: {kind.__name__}(...)")
    return kind(*[check_array(f"{name}.{f}", a, shape, dtype, cell) for f, a in zip(kind._fields, state, strict=True)])


def check_starts(cell: Any, states: Any, dtype: np.dtype[Any]) -> Any:
    """A State of this cell for any number of sequences, given, of finite numbers."""
    if states is None:
        raise TypeError("states: expected a State of (B, H) arrays to start from, got None; pass states that the network visits")
    first = first_array(states)
    rows = len(first) if getattr(first, "ndim", 1 if isinstance(first, list) else 0) else 1
    found = check_state(cell, states, rows, dtype, "states")
    for array in leaves(found):
        if not np.isfinite(array).all():
            raise ValueError("states: expected finite numbers, got NaN or Inf; leave these rows out")
    return found


def check_seed(cell: Any, seed: Any) -> int | None:
    """An integer from which a stack draws its dropout; None: nothing is dropped."""
    if seed is None:
        return None
    if not is_stack(cell):
        raise ValueError(f"seed: expected None for {cell}, which draws nothing, got {seed!r}; dropout is an option of Stack")
    return check_integer("seed", seed, 0, "pass the seed of the dropout")


def check_one_direction(cell: Any, what: str) -> None:
    """Refuse two directions, where the past does not determine the state."""
    if getattr(cell, "bidirectional", False):
        raise ValueError(f"cell: expected one direction for {what}, got {cell}; its states depend on all steps, later ones too")


def check_computed_by(library: str, kind: str, cell: Any, fields: Sequence[str], options: dict[str, tuple[Any, ...]]) -> None:
    """Refuse a cell that no layer of another library computes: by its parameters, or by its options.

    An option has its default value, or is one of those in `options`; one that this check does not know is refused as well.
    """
    if unknown := [name for name in cell.params_type._fields if name not in fields]:
        raise ValueError(f"cell: expected parameters among {', '.join(fields)}, got {', '.join(unknown)} in {cell}; "
                         f"{library} has no {kind} with them")
    for name, field in getattr(cell, "__dataclass_fields__", {}).items():
        value, allowed = getattr(cell, name), (field.default, *options.get(name, ()))
        computed = value is field.default or (isinstance(value, str | int | float) and value in allowed)
        if name not in ("input_size", "hidden_size") and not computed:
            raise ValueError(f"cell: expected {name}={' or '.join(map(repr, allowed))}, got {cell}; "
                             f"{library} has no {kind} that computes it")
