"""`forward` and `backward` for arrays on a GPU: check the arguments, plan, execute."""
from __future__ import annotations

from typing import Any

from ..arrays import Batch, Grads, longest_first
from ..bptt.plan import FORWARD, Action
from ..bptt.truncation import FULL
from ..errors import (
    check_device_params,
    check_device_state,
    check_lengths,
    check_noise_possible,
    check_on_device,
    dtype_name,
    refuse_on_device,
)
from ..tree import first_array
from .execute import DeviceExecution, groups_of
from .libraries import Library, library_of
from .scans import DeviceScan
from .shape import LARGEST
from .tape import DeviceTape

IDS = ("int64", "int32")
FLAGS = ("bool", "uint8")


def forward(cell: Any, params: Any, x: Any, state: Any, lengths: Any, resets: Any, noise: Any, seed: Any,
            memory_budget: Any) -> DeviceTape:
    """`fastbptt.forward` for x on a GPU."""
    library = library_of(x)
    _check_built(cell, seed, memory_budget)
    params = check_device_params(cell, params)
    dtype = dtype_name(first_array(params))
    with library.active():
        x = library.load(_check_input(cell, x, dtype))
        T, B = (int(n) for n in x.shape[:2])
        steps = check_lengths(lengths, T, B)
        if noise is not None:
            check_noise_possible(cell)
            noise = library.load(check_on_device("noise", noise, (T, B, cell.hidden_size), (dtype,), cell))
        if resets is not None:
            resets = library.load(check_on_device("resets", resets, (T, B), FLAGS))
        initial = _states(cell, library, state, B, dtype, "state")
        scans = [DeviceScan(library, own, cell.bidirectional and k % 2 == 1, part, first, dtype) for k, (own, part, first)
                 in enumerate(zip(cell.scans, cell.flatten(params), initial, strict=True))]
        batch: Any = Batch(x, steps, longest_first(steps), resets, noise)
        DeviceExecution(cell, scans, batch, library).run([Action(FORWARD, 0, T)])
    return DeviceTape(cell, library, scans, batch)


def backward(cell: Any, params: Any, tape: Any, dh: Any, truncation: Any, dfinal: Any, clip_state: Any) -> Grads:
    """`fastbptt.backward` for the tape of x on a GPU. The parameters are those that `forward` was given."""
    if tape.cell is not cell and tape.cell != cell:
        raise ValueError(f"tape: expected a tape of {cell}, got one of {tape.cell}; run forward with this cell")
    if clip_state is not None:
        raise refuse_on_device("clip_state", "clipping inside the recurrence", "call without it, or pass NumPy arrays")
    library, dtype = tape.library, tape.scans[0].dtype
    check_device_params(cell, params)
    T, B = (int(n) for n in tape.batch.x.shape[:2])
    with library.active():
        dh = library.load(check_on_device("dh", dh, (T, B, cell.hidden_size), (dtype,), cell))
        incoming = _states(cell, library, dfinal, B, dtype, "dfinal")
        stacked = [library.xp.concatenate([library.load(a).reshape(1, B, -1) for a in part], axis=0) for part in incoming]
        execution = DeviceExecution(cell, tape.scans, tape.batch, library)
        return execution.back(dh, stacked, groups_of(cell, tape.batch.lengths, FULL if truncation is None else truncation))


def _check_built(cell: Any, seed: Any, memory_budget: Any) -> None:
    """What this path does not have yet."""
    if seed is not None and cell.dropout > 0:
        raise refuse_on_device("seed", "dropout", "call without a seed, or pass NumPy arrays")
    if memory_budget is not None:
        raise refuse_on_device("memory_budget", "a tape of checkpoints", "call without it, or pass NumPy arrays")
    for own in cell.scans:
        if own.hidden_size > LARGEST:
            raise refuse_on_device("hidden_size", f"a layer of more than {LARGEST} units",
                                   f"got {own}: use at most {LARGEST}, or pass NumPy arrays")


def _check_input(cell: Any, x: Any, dtype: str) -> Any:
    """(T, B, I) real, or (T, B) ids. These are not looked at, which would wait for the GPU."""
    if dtype_name(x) in IDS and len(x.shape) == 2:
        return check_on_device("x", x, ("T", "B"), IDS, cell)
    return check_on_device("x", x, ("T", "B", cell.input_size), (dtype,), cell)


def _states(cell: Any, library: Library, state: Any, B: int, dtype: str, name: str) -> list[Any]:
    """The state of every scan; zeros for None."""
    if state is not None:
        return list(cell.flatten(check_device_state(cell, state, B, dtype, name)))
    return [own.state_type(*[library.give(library.xp.zeros((B, own.hidden_size), dtype)) for _ in own.state_type._fields])
            for own in cell.scans]
