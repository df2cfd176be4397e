"""Checks that many functions share: every one names the argument, what was expected, what came, and a remedy."""
from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
LARGEST = 2**40      # bytes of one array; more is a slip of the pen, refused before anything is allocated
READABLE_KINDS = "fiu"


def shape_text(shape: Sequence[Any]) -> str:
    """A shape as it is written in messages."""
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def check_integer(name: str, value: Any, least: int, remedy: str) -> int:
    """`value` as an int ≥ least; a bool is not an integer."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected an integer, got {value!r}; {remedy}")
    if value < least:
        raise ValueError(f"{name}: expected an integer of at least {least}, got {value}; {remedy}")
    return int(value)


def check_size(name: str, value: Any) -> int:
    """A number of units, at least 1."""
    return check_integer(name, value, 1, "pass a number of units")


def check_truncation(horizon: Any, stride: Any) -> tuple[int, int]:
    """Integers with horizon ≥ stride ≥ 1."""
    horizon = check_integer("horizon", horizon, 1, "pass the number of steps that a pass goes back")
    stride = check_integer("stride", stride, 1, "pass the number of steps between passes")
    if stride > horizon:
        raise ValueError(f"stride: expected at most the horizon {horizon}, got {stride}; every error must be covered by a pass")
    return horizon, stride


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """One of the names in `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def check_number(name: str, value: Any) -> float:
    """A finite real number."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: expected a real number, got {value!r}")
    if not np.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value}")
    return float(value)


def check_dtype(name: str, value: Any) -> np.dtype[Any]:
    """float32 or float64, in native byte order."""
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except TypeError:
        raise TypeError(f"{name}: expected float32 or float64, got {value!r}") from None
    if value is None or dtype not in FLOATS:
        raise ValueError(f"{name}: expected float32 or float64, got {value!r}")
    return dtype


def check_weights_fit(cell: Any, shapes: dict[str, tuple[int, ...]], dtype: np.dtype[Any]) -> None:
    """Refuse parameters that no memory holds, before anything is allocated."""
    for name, shape in shapes.items():
        size = dtype.itemsize
        for n in shape:
            size *= n
        if size > LARGEST:
            raise ValueError(f"{name}: {shape_text(shape)} for {cell} needs {size:,} bytes; "
                             f"expected at most {LARGEST:,}: choose smaller sizes")


def _expected(shape: Sequence[Any], owner: Any) -> str:
    return f"expected {shape_text(shape)}{f' for {owner}' if owner is not None else ''}"


def as_array(name: str, value: Any, expected: str) -> np.ndarray[Any, Any]:
    """`value` as an array of numbers, or a clear error: no None, objects, strings, dates, booleans, complex or masked arrays."""
    if value is None:
        raise TypeError(f"{name}: {expected}, got None; pass an array of numbers")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: {expected}, got a masked array; pass plain numbers, and lengths or weights for what is missing")
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name}: {expected}, got nested lists of unequal lengths; pad them (see fastbptt.pad)") from None
    if array.dtype.kind not in READABLE_KINDS:
        raise TypeError(f"{name}: {expected}, got an array of {array.dtype}; convert it to float32 or float64 first")
    if array.dtype.kind == "f" and array.dtype.newbyteorder("=") not in FLOATS:
        raise TypeError(f"{name}: {expected}, got {array.dtype}; convert it to float32 or float64 first")
    return array


class _Writable:
    """Presents read-only memory as writable, so that kernels need one specialisation; they never write their inputs."""

    def __init__(self, array: np.ndarray[Any, Any]):
        self._array = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def canonical(array: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The array as kernels take it: C order, aligned, native, `dtype`; itself where it is so already."""
    if type(array) is not np.ndarray or array.dtype is not dtype or not array.flags.carray:
        array = np.require(np.asarray(array), dtype, ["C", "A"])
        if not array.flags.writeable:
            array = np.asarray(_Writable(array))
    return array


def check_array(name: str, value: Any, shape: tuple[Any, ...], dtype: np.dtype[Any], owner: Any = None) -> np.ndarray[Any, Any]:
    """A real array of this shape and dtype in canonical form; nested lists are converted, arrays of other types refused.

    A letter in `shape` stands for any size of at least 1; `owner` is what the shape follows from, for the message.
    """
    if type(value) is np.ndarray and value.dtype is dtype and value.shape == shape and value.size and value.flags.carray:
        return value
    if type(value) is not np.ndarray or value.dtype is not dtype:
        is_array = isinstance(value, np.ndarray)
        value = as_array(name, value, _expected(shape, owner))
        if value.dtype.kind != "f" and is_array:
            raise TypeError(f"{name}: expected {dtype}, got an array of {value.dtype}; use {name}.astype('{dtype}')")
        if is_array and value.dtype.newbyteorder("=") != dtype:
            raise TypeError(f"{name}: expected {dtype} like the parameters, got {value.dtype}; use {name}.astype('{dtype}')")
    if len(value.shape) != len(shape) or any(isinstance(n, int) and n != m for n, m in zip(shape, value.shape, strict=True)):
        raise ValueError(f"{name}: {_expected(shape, owner)}, got {shape_text(value.shape)}")
    if value.size == 0:
        raise ValueError(f"{name}: {_expected(shape, owner)} with at least one step and one sequence, "
                         f"got {shape_text(value.shape)}")
    return canonical(value, dtype)


def is_stack(cell: Any) -> bool:
    """Whether it consists of cells."""
    return hasattr(cell, "cells")


def first_array(tree: Any) -> Any:
    """The first array of a tuple of arrays, nested or not."""
    while isinstance(tree, tuple):
        tree = tree[0]
    return tree


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
    dtype = getattr(params[0], "dtype", None)
    shapes = cell.shapes
    if dtype is FLOATS[0] or dtype is FLOATS[1]:
        for array, shape in zip(params, shapes.values(), strict=True):
            if not (type(array) is np.ndarray and array.dtype is dtype and array.shape == shape and array.flags.carray):
                break
        else:
            return params
    if dtype is None or dtype.newbyteorder("=") not in FLOATS:
        raise TypeError(f"{name}.{kind._fields[0]}: expected a float32 or float64 array, got {dtype or type(params[0]).__name__}")
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


def check_flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


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
        raise ValueError(f"cell: expected one direction for {what}, got {cell}; its states hang on all steps, later ones too")


INT64 = np.dtype(np.int64)


@lru_cache(maxsize=16)
def _all_steps(T: int, B: int) -> np.ndarray[Any, Any]:
    """(B,) lengths T; kept, because making them takes as long as a step of a scan."""
    return np.full(B, T, INT64)


def check_lengths(lengths: Any, T: int, B: int) -> np.ndarray[Any, Any]:
    """(B,) int64 of integers in 1 … T; None: all of them T."""
    if lengths is None:
        steps: np.ndarray[Any, Any] = _all_steps(T, B).copy()      # a tape shows it: what its owner writes there stays there
        return steps
    array = as_array("lengths", lengths, f"expected {B} integers in 1 … {T}")
    if array.dtype.kind not in "iu":
        raise TypeError(f"lengths: expected integers, got {array.dtype}; use lengths.astype(int)")
    if array.shape != (B,):
        raise ValueError(f"lengths: expected ({B},), one for each sequence, got {shape_text(array.shape)}")
    if array.min() < 1 or array.max() > T:
        raise ValueError(f"lengths: expected integers in 1 … {T}, got values from {array.min()} to {array.max()}")
    return canonical(array, INT64)


def check_input(cell: Any, x: Any, dtype: np.dtype[Any], lengths: Any, name: str = "x",
                letters: tuple[str, ...] = ("T", "B")) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """x in canonical form, (T, B, I) real or (T, B) int64 ids, and the lengths; with letters ("B",) one step."""
    n = len(letters)
    well_formed = type(x) is np.ndarray and x.dtype is dtype and x.ndim == n + 1 == 3 and x.shape[2] == cell.input_size
    if well_formed and x.size and x.flags.carray:
        return x, check_lengths(lengths, x.shape[0], x.shape[1])
    expected = f"expected {shape_text((*letters, cell.input_size))} for {cell} or integer ids {shape_text(letters)}"
    given = x
    if type(x) is not np.ndarray or x.dtype is not dtype:
        x = as_array(name, x, expected)
    ids = x.dtype.kind in "iu" and x.ndim == n
    if not ids:
        x = check_array(name, given if isinstance(given, np.ndarray) else x.tolist(), (*letters, cell.input_size), dtype, cell)
    elif x.size == 0:
        raise ValueError(f"{name}: {expected} with at least one step and one sequence, got {shape_text(x.shape)}")
    T, B = (x.shape[0], x.shape[1]) if n == 2 else (1, x.shape[0])
    steps = check_lengths(lengths, T, B)
    if ids:
        valid = x if lengths is None else x[np.arange(T)[:, None] < steps]
        if valid.min() < 0 or valid.max() >= cell.input_size:
            raise ValueError(f"{name}: expected ids in 0 … {cell.input_size - 1} for {cell}, "
                             f"got values from {valid.min()} to {valid.max()}")
        x = canonical(x, INT64)
    return x, steps


UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def check_budget(budget: Any) -> int:
    """Bytes, from an integer or such as "64 MiB"."""
    if isinstance(budget, str):
        number, _, unit = budget.strip().partition(" ")
        if unit in UNITS and number.isdigit() and int(number) > 0:
            return int(number) * UNITS[unit]
        raise ValueError(f"memory_budget: expected bytes, or \"N KiB\", \"N MiB\" or \"N GiB\", got {budget!r}")
    return check_integer("memory_budget", budget, 1, 'pass bytes, or such as "64 MiB"')


def refuse_budget(budget: int, least: int) -> ValueError:
    """The error of a budget that no schedule fits."""
    return ValueError(f"memory_budget: expected at least {least} bytes ({-(-least // 2**10)} KiB) for these shapes, got {budget}")


def check_budget_possible(cell: Any, truncation: Any) -> None:
    """Checkpoints serve full BPTT in one direction."""
    if is_stack(cell) and cell.bidirectional:
        raise ValueError(f"memory_budget: expected None for {cell}, whose reverse direction begins at the end; call without")
    if truncation is not None:
        raise ValueError("truncation: expected None for a tape of checkpoints, which full BPTT goes back over; "
                         "call forward without memory_budget, truncated BPTT of a stream needs no more memory than its window")


BOOL = np.dtype(np.bool_)


def check_resets(resets: Any, T: int, B: int) -> np.ndarray[Any, Any] | None:
    """(T, B) truth values; None: none."""
    if resets is None:
        return None
    array = np.asarray(resets)
    if array.dtype != BOOL or isinstance(resets, np.ma.MaskedArray):
        raise TypeError(f"resets: expected booleans ({T}, {B}), got {array.dtype}; use resets.astype(bool)")
    if array.shape != (T, B):
        raise ValueError(f"resets: expected ({T}, {B}), one for each step and sequence, got {shape_text(array.shape)}")
    return canonical(array, BOOL)


def check_noise(cell: Any, noise: Any, T: int, B: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any] | None:
    """(T, B, H) real, for a cell that has a single pre-activation; None: none."""
    if noise is None:
        return None
    if is_stack(cell) or cell.gates != 1:
        raise ValueError(f"noise: expected None for {cell}; only RNN adds noise to its pre-activations")
    return check_array("noise", noise, (T, B, cell.hidden_size), dtype, cell)


def check_mask(mask: Any, hidden: int) -> np.ndarray[Any, Any] | None:
    """(H, H) of 0 and 1 or truth values, as read-only truth values; None: none."""
    if mask is None:
        return None
    array = np.array(mask)
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
    array = np.array(signs)
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


def check_has_cell_state(cell: Any, arrays: Any) -> Any:
    """The arrays of a tape that has c."""
    if not hasattr(arrays, "c"):
        raise AttributeError(f"tape.c: expected the tape of an LSTM, got one of {cell}; its states are in tape.h")
    return arrays


def check_tape(cell: Any, tape: Any, kind: Any, dtype: np.dtype[Any]) -> None:
    """A tape of this cell's forward with parameters of this dtype."""
    if not isinstance(tape, kind):
        raise TypeError(f"tape: expected the Tape that forward returned, got {type(tape).__name__}")
    if tape.cell is not cell and tape.cell != cell:
        raise ValueError(f"tape: expected a tape of {cell}, got one of {tape.cell}; run forward with this cell")
    kept = first_array(tape.initial).dtype
    if kept != dtype:
        raise TypeError(f"params: expected {kept} like the tape, got {dtype}; "
                        "use the parameters that forward was given")


# ---- gradient flow


def check_span(start: Any, stop: Any, T: int) -> tuple[int, int]:
    """States with 0 ≤ start ≤ stop ≤ T."""
    start = check_integer("start", start, 0, "states are numbered 0 (initial) to T")
    stop = check_integer("stop", stop, 0, "states are numbered 0 (initial) to T")
    if not start <= stop <= T:
        raise ValueError(f"start, stop: expected 0 ≤ start ≤ stop ≤ T = {T}, got {start}, {stop}; "
                         "states are numbered 0 (initial) to T")
    return start, stop


def check_up_to(name: str, value: Any, most: int, what: str) -> int:
    """An integer in 1 … most."""
    number = check_integer(name, value, 1, f"pass {what}")
    if number > most:
        raise ValueError(f"{name}: expected an integer in 1 … {most}, got {value}; pass {what}")
    return number


def check_lags(lags: Any, T: int, name: str = "max_lag") -> int:
    """A number of lags in 1 … T."""
    return check_up_to(name, lags, T, "a number of lags, at most the steps of the tape")


def check_transient(transient: Any, T: int) -> int:
    """Steps that are not counted, fewer than there are."""
    number = check_integer("transient", transient, 0, "pass a number of steps")
    if number >= T:
        raise ValueError(f"transient: expected fewer steps than the T = {T} of x, got {number}; pass a longer x")
    return number


def check_kept_steps(tape: Any, checkpoints: Any) -> None:
    """A tape of all steps."""
    if isinstance(tape, checkpoints):
        raise ValueError("tape: expected a tape of all steps, got one of checkpoints; call forward without memory_budget")


def check_confidence(value: Any) -> float:
    """A probability between 0 and 1."""
    value = check_number("confidence", value)
    if not 0 < value < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, got {value}; pass such as 0.9")
    return float(value)


def check_pairs(name: str, pairs: Any, expected: str) -> Iterator[tuple[Any, Any]]:
    """The entries of an iterable of pairs, of which there is one at least."""
    if not hasattr(pairs, "__iter__"):
        raise TypeError(f"{name}: expected an iterable of {expected}, got {type(pairs).__name__}")
    count = 0
    for count, pair in enumerate(pairs, start=1):
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"{name}[{count - 1}]: expected {expected}, got {type(pair).__name__}; pass tuples of two")
        yield pair
    if count == 0:
        raise ValueError(f"{name}: expected at least one {expected}, got none; an iterator is read once")


def check_finite_gradient(norms: Sequence[float]) -> None:
    """Norms of a gradient that can be compared."""
    if not np.isfinite(norms).all():
        raise ValueError(f"dh: expected errors whose gradient is finite, got norms {', '.join(f'{n:.3g}' for n in norms)}; "
                         "scale dh down, or use float64")


def check_finite_states(h: np.ndarray[Any, Any], name: str = "tape") -> None:
    """States (T+1, B, H) without NaN and Inf: no Jacobian is defined there."""
    finite = np.isfinite(h).all(axis=2)
    if not finite.all():
        t, b = (int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(f"{name}: expected finite states, got NaN or Inf at state {t} of sequence {b}; "
                         "look at x and at the weights, or cut the sequence before that step")


# ---- training


def check_positive(name: str, value: Any) -> float:
    """A finite number above 0."""
    number = check_number(name, value)
    if number <= 0:
        raise ValueError(f"{name}: expected a number above 0, got {value}")
    return number


def check_fraction(name: str, value: Any) -> float:
    """A number in 0 ≤ value < 1."""
    number = check_number(name, value)
    if not 0 <= number < 1:
        raise ValueError(f"{name}: expected 0 ≤ {name} < 1, got {value}")
    return number


def check_output_params(model: Any, params: Any) -> None:
    """Parameters of this model: a cell's and a readout's of one dtype."""
    if not hasattr(params, "readout") or not hasattr(params, "cell"):
        raise TypeError(f"params: expected ModelParams(cell, readout) as SequenceModel.init makes them, "
                        f"got {type(params).__name__}")
    dtype = first_array(check_params(model.cell, params.cell, "params.cell")).dtype
    O, H = model.output_size, model.cell.hidden_size  # noqa: E741
    check_array("params.readout.V", params.readout.V, (O, H), dtype)
    check_array("params.readout.c", params.readout.c, (O,), dtype)


def check_carried(model: Any) -> None:
    """A model whose state can be carried from window to window."""
    check_one_direction(model.cell, "a stream")
    if model.mode != "many_to_many":
        raise ValueError(f"model: expected mode='many_to_many' for a stream, got {model.mode!r}; pass batches instead")


def check_weights(weights: Any, T: int, B: int, valid: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """(T, B) finite loss weights in `dtype`, 0 where a step does not count anyway."""
    array = as_array("weights", weights, f"expected ({T}, {B})")
    if array.shape != (T, B):
        raise ValueError(f"weights: expected ({T}, {B}), one for each step and sequence, got {shape_text(array.shape)}")
    counted: np.ndarray[Any, Any] = np.where(valid, array, 0).astype(dtype)
    if not np.isfinite(counted).all():
        raise ValueError("weights: expected finite numbers at valid steps, got NaN or Inf; 0 switches a step off")
    return counted


def check_targets(y: Any, leading: tuple[int, ...], place: tuple[Any, ...], outputs: int, dtype: np.dtype[Any],
                  ids: bool) -> np.ndarray[Any, Any]:
    """The targets of the counted steps: ids in 0 … O−1, or real rows of O numbers."""
    shape = leading if ids else (*leading, outputs)
    array = as_array("y", y, f"expected {shape_text(shape)}")
    if array.shape != shape:
        raise ValueError(f"y: expected {shape_text(shape)}, got {shape_text(array.shape)}")
    if not ids:
        return np.asarray(array[place], dtype)
    if array.dtype.kind not in "iu":
        raise TypeError(f"y: expected integer ids in 0 … {outputs - 1}, got {array.dtype}")
    counted = np.asarray(array[place], np.int64)
    if counted.size and (counted.min() < 0 or counted.max() >= outputs):
        raise ValueError(f"y: expected ids in 0 … {outputs - 1}, got values from {counted.min()} to {counted.max()}")
    return counted


class FileError(ValueError):
    """A file that is not what it should be."""


# ---- training loops and files


def check_finite_logits(z: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Logits that a distribution can be made of."""
    if not np.isfinite(z).all():
        raise ValueError("params: expected parameters with finite logits, got NaN or Inf; what diverged cannot be used")
    return z


def check_factor(value: Any, number: int) -> float:
    """What a schedule returned for an update: a finite number from 0."""
    factor = check_number(f"schedule({number})", value)
    if factor < 0:
        raise ValueError(f"schedule({number}): expected a factor of at least 0, got {value}; 0 is an update that moves nothing")
    return factor


def check_held(trees: Any, dtype: Any, grads: Any) -> None:
    """Parameters and moments after an update that their dtype can hold."""
    if not all(np.isfinite(a).all() for a in trees):
        largest = max(float(np.abs(g).max()) for g in grads if g.size)
        raise ValueError(f"grads: expected gradients of which {dtype} holds the moments and the update, got numbers up to "
                         f"{largest:.3g}; clip them first (fastbptt.clip_by_norm), lower the rate, or use float64")


BATCH_KEYS = ("x", "y", "lengths", "state", "weights", "reduction", "memory_budget", "seed")


def check_batch_keys(batch: dict[str, Any], number: int) -> dict[str, Any]:
    """A batch as a mapping: x and y, and options that exist."""
    if not {"x", "y"} <= set(batch) or not set(batch) <= set(BATCH_KEYS):
        raise TypeError(f"batch {number}: expected a mapping with x, y and optionally {', '.join(BATCH_KEYS[2:])}, "
                        f"got the keys {', '.join(map(str, batch)) or 'of none'}")
    return batch


def refuse_batch(batch: Any, number: int) -> TypeError:
    """The error of what is no batch."""
    given = f"a {type(batch).__name__} of {len(batch)}" if isinstance(batch, tuple | list) else type(batch).__name__
    return TypeError(f"batch {number}: expected a window of fastbptt.stream, (x, y), (x, y, lengths) or a mapping, "
                     f"got {given}; pass a single batch as a list of one: [(x, y)]")


def check_time_axis(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An array with axes for sequences and steps."""
    if array.ndim < 2:
        raise ValueError(f"{name}: expected (B, T, …) with batch_first=True, got {shape_text(array.shape)}")
    return array


def check_window(window: Any, kind: Any) -> Any:
    """A window of a stream."""
    if not isinstance(window, kind):
        raise TypeError(f"stream: expected one of fastbptt.stream, got {type(window).__name__} in it; "
                        "use SequenceModel.loss for a batch")
    return window


def check_used(count: int, name: str) -> int:
    """At least one batch or window was read."""
    if count == 0:
        what = "window" if name == "stream" else "batch"
        raise ValueError(f"{name}: expected at least one {what}, got none; a stream is read once: make another")
    return count


def check_not_batch_first(batch_first: bool) -> None:
    """A stream says itself how its windows lie."""
    if batch_first:
        raise ValueError("batch_first: expected False for a stream, whose windows are (T, B, …), got True")


def refuse_gradient(number: int, norm: float, why: str) -> ValueError:
    """The error of a gradient that is not applied."""
    return ValueError(f"batch {number}: expected a finite gradient, got one of norm {norm}: {why}")


def printable(text: str, most: int = 200) -> str:
    """A text for the terminal, of `most` characters: what does not print, such as escape sequences, is written as its code."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:most])
    return shown + " …" if len(text) > most else shown


def check_regular(path: Any) -> None:
    """Refuse pipes and devices: some never end, none can be read twice or replaced. What is not there is left to `open`."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        kind = "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        raise FileError(f"{os.fspath(path)}: expected a file on a disk, got a {kind}; write it to a file first")


def check_text(name: str, value: Any) -> str:
    """A str."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a str, got {type(value).__name__}")
    return value


def check_file_numbers(name: str, array: np.ndarray[Any, Any], dtype: np.dtype[Any], ids: int) -> np.ndarray[Any, Any]:
    """Data of a file: finite numbers that `dtype` holds, in that dtype; or integers 0 … ids − 1."""
    if array.dtype.kind not in READABLE_KINDS:
        raise FileError(f"{name}: expected real numbers or ids, got {shape_text(array.shape)} of {array.dtype}")
    if array.dtype.kind == "f":
        bad = ~(np.abs(array) <= np.finfo(dtype).max)
        expected, converted = f"finite numbers that {dtype} holds", dtype
    else:
        bad = (array < 0) | (array >= ids)
        expected, converted = f"ids from 0 to {ids - 1:,}", array.dtype
    if bad.any():
        at = np.argwhere(bad)[0]
        raise FileError(f"expected {expected}, got {array[tuple(at)]} in {name}, first at {at.tolist()}")
    return array.astype(converted, copy=False)
