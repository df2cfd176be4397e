"""Arrays on a GPU: what is one, and what is refused there."""
from __future__ import annotations

from typing import Any

from ..tree import leaves
from .arrays import on_device, shape_text
from .cells import check_layers, is_stack

DEVICE_FLOATS = ("float32", "float64")


def all_on_device(x: Any, params: Any) -> bool:
    """Whether a call is for the GPU: its input and its parameters are there. Where only one is, the CPU's checks name it."""
    return on_device(x) and on_device(next(leaves(params), None))


def dtype_name(value: Any) -> str:
    """The name of the dtype of an array of any library."""
    return str(value.dtype).rpartition(".")[2]


def check_on_device(name: str, value: Any, shape: tuple[Any, ...], dtypes: tuple[str, ...], owner: Any = None) -> Any:
    """An array on the GPU of this shape, where a letter stands for any size of at least 1, and of one of these dtypes."""
    of = f" for {owner}" if owner is not None else ""
    expected = f"expected an array {shape_text(shape)} of {' or '.join(dtypes)} on the GPU like x{of}"
    if not on_device(value):
        raise TypeError(f"{name}: {expected}, got a {type(value).__name__} that is not there; "
                        f"copy it: fastbptt.cuda.to_device({name}), or as the library of x does")
    if getattr(value, "requires_grad", False) is True:
        raise TypeError(f"{name}: {expected}, got a tensor that requires grad; pass {name}.detach()")
    if dtype_name(value) not in dtypes:
        raise TypeError(f"{name}: {expected}, got {dtype_name(value)}; convert it to {dtypes[0]} first")
    found = tuple(value.shape)
    if len(found) != len(shape) or 0 in found or any(isinstance(n, int) and n != m for n, m in zip(shape, found, strict=True)):
        raise ValueError(f"{name}: {expected}, got {shape_text(found)}; pass one of that shape")
    return value


def check_device_params(cell: Any, params: Any, name: str = "params") -> Any:
    """Parameters on the GPU, all of the dtype of the first one."""
    if is_stack(cell):
        return check_layers(cell, name, params, check_device_params)
    kind = cell.params_type
    if type(params) is not kind:
        raise TypeError(f"{name}: expected {kind.__name__} as {type(cell).__name__}.init makes them, got "
                        f"{type(params).__name__}; copy those to the GPU by fastbptt.cuda.to_device, which keeps the types")
    dtypes: tuple[str, ...] = DEVICE_FLOATS
    for field, array in zip(kind._fields, params, strict=True):
        check_on_device(f"{name}.{field}", array, cell.shapes[field], dtypes, cell)
        dtypes = (dtype_name(array),)
    return params


def check_device_state(cell: Any, state: Any, B: int, dtype: str, name: str = "state") -> Any:
    """A State on the GPU for B sequences."""
    if is_stack(cell):
        return check_layers(cell, name, state, lambda part, entry, own: check_device_state(part, entry, B, dtype, own))
    kind = cell.state_type
    if type(state) is not kind:
        raise TypeError(f"{name}: expected {kind.__name__} or None, got {type(state).__name__}; "
                        f"wrap the arrays: {kind.__name__}(...)")
    for field, array in zip(kind._fields, state, strict=True):
        check_on_device(f"{name}.{field}", array, (B, cell.hidden_size), (dtype,), cell)
    return state


def refuse_on_device(option: str, what: str, remedy: str) -> NotImplementedError:
    """The error of an option that the GPU path does not have."""
    return NotImplementedError(f"{option}: {what} is not built for GPUs yet; {remedy}")
