"""The letters used for shapes, the tuples that carry arrays, and the form in which kernels take arrays.

T steps, B sequences, I inputs, H hidden units, O outputs, G gates, S state size (H; 2H for the LSTM). All arrays are
time-major: x (T, B, I), h (T, B, H). A step is numbered 1 … T; state 0 is the initial one.
"""
from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Grads(NamedTuple):
    """What `backward` returns: gradients shaped like the parameters, the input (None for ids) and the initial state."""

    params: Any
    x: Any
    state: Any


class Batch(NamedTuple):
    """What a scan reads besides the parameters. An array of size 0 stands for "none"."""

    x: Array
    """(T, B, I) real vectors, or (T, B) int64 ids that stand for one-hot vectors."""
    lengths: Array
    """(B,) int64: steps of each sequence, 0 … T."""
    order: Array
    """(B,) int64: the sequences, longest first (`longest_first`), so that those still running are the first n."""
    resets: Array
    """(T, B) boolean: where true, the state returns to `initial` before step t+1; or (0, 0)."""
    noise: Array
    """(T, B, H) added to the pre-activations; or (0, 0, 0)."""
    start: int = 0
    """Steps before the first one of these arrays, above 0 in later segments of a call; `lengths` counts them too."""


class Options(NamedTuple):
    """What a scan is told about its cell besides the type of the parameters."""

    activation: int = 0
    """Index into `fastbptt.engine.activations.NAMES`."""
    leak: float = 1.0
    """α of the leaky update h ← (1−α) h + α σ(a)."""
    clip: float = 0.0
    """Largest norm of the error that a backward pass carries from step to step; 0: no limit."""


class Errors(NamedTuple):
    """The errors that enter and leave a backward scan."""

    h: Array
    """(T, B, H) ∂L/∂h_t injected at every step; not read at padded steps."""
    incoming: Any
    """State: ∂L/∂(state after the last step), from later steps."""
    outgoing: Any
    """State, added to: ∂L/∂(state before the first step)."""


class Passes(NamedTuple):
    """The backward passes of one scan, sorted by work unit, in each the longest first (see `fastbptt.bptt.passes`).

    A pass takes the errors of steps previous+1 … end of one sequence back through steps end … stop+1.
    """

    sequence: Array
    """(n,) int64: b."""
    end: Array
    """(n,) int64: e."""
    previous: Array
    """(n,) int64: the end before it, p."""
    stop: Array
    """(n,) int64: max(0, e − horizon)."""
    bounds: Array
    """(units + 1,) int64: work unit u, which runs independently, has passes bounds[u] … bounds[u+1]−1."""
    shards: int
    """Work unit u belongs to shard u % shards."""
    full: bool
    """Every pass goes back to step 1; all are then at the same step, not at the same distance from their ends."""
    overlap: bool
    """Some steps belong to several passes; a work unit then has successive passes of one sequence, last end first."""


NONE: dict[Any, Array] = {np.dtype(t): np.empty((0, 0, 0), t) for t in (np.float32, np.float64)}
"""The three-dimensional array of a dtype that stands for "none"."""
NO_RESETS: Array = np.empty((0, 0), np.bool_)


@lru_cache(maxsize=16)
def _longest_first(lengths: bytes) -> Array:
    return np.argsort(-np.frombuffer(lengths, np.int64), kind="stable")


def read_only(array: Array) -> Array:
    """A view that cannot be written through."""
    view: Array = array.view()
    view.flags.writeable = False
    return view


def longest_first(lengths: Array) -> Array:
    """The sequences by descending length, ties in their order; cached for the next call with these lengths."""
    return _longest_first(lengths.tobytes())


class _Writable:
    """Presents read-only memory as writable, so that kernels need one specialisation; they never write their inputs."""

    def __init__(self, array: Array):
        self._array = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def canonical(array: Array, dtype: np.dtype[Any]) -> Array:
    """The array as kernels take it: C order, aligned, native byte order, `dtype`; itself if it already is."""
    if type(array) is not np.ndarray or array.dtype is not dtype or not array.flags.carray:
        array = np.require(np.asarray(array), dtype, ["C", "A"])
        if not array.flags.writeable:
            array = np.asarray(_Writable(array))
    return array
