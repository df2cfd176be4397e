"""Streams: endless sequences, read window by window, with the state carried on."""
from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..errors import as_array, check_integer, check_shard, is_array
from .sequences import Vocabulary
from .text import TextFile


class Window(NamedTuple):
    """The next steps of a stream."""

    x: Array
    """(n, batch) ids or (n, batch, I); n = window, except at the end of the source."""
    y: Array
    """The targets: the id after each, or those given for the same steps."""
    fresh: bool
    """Whether the source begins here, and with it the state."""


class Position(NamedTuple):
    """How far a stream has been read: integers, to be stored in a checkpoint."""

    epoch: int
    """Passes over the source that are finished."""
    step: int
    """Steps of this pass that are done, in every lane."""


def stream(source: Any, batch: int, window: int, *, vocabulary: Vocabulary | None = None, epochs: int | None = 1,
           position: tuple[int, int] = (0, 0), shard: tuple[int, int] | None = None) -> Stream:
    """Cut a source into `batch` contiguous lanes that are read in parallel, `window` steps at a time.

    Lane b has the steps b·n … (b+1)·n−1 of the source, n = ⌊steps / batch⌋, and is read from start to end, so that the state
    after one window is the state before the next; `fit` and `evaluate` carry it on. (Windows from random positions would
    begin with a state that the model never meets in use.) Only the window is in memory.

    Parameters
    ----------
    source : array, pair of arrays, path, TextFile, or iterator
        Integer ids (N,), in memory or memory-mapped: the target of a step is the id after it. A pair (x, y) of arrays with N
        steps each, x (N, I) or ids (N,): the targets are given. A path: a UTF-8 text file. An iterator, for endless data:
        of ids (n, batch) or of pairs (x, y) of (n, batch, …), the next n steps of all lanes, with any n ≥ 1.
    batch : int
        B. The remainder of N / batch, fewer than `batch` steps at the end, is left out.
    window : int
        T of every batch: gradients reach back over at most this many steps, and the parameters change after as many.
    vocabulary : Vocabulary, optional
        Of the text file; by default the file's own, available as `stream.vocabulary`.
    epochs : int or None, default 1
        Passes over the source, each with a new state; None: endless. An iterator is read once.
    position : Position, optional
        `stream.position` of an earlier stream over the same source, to continue there. An iterator is read up to it.
    shard : (rank, size), optional
        Of one of `size` workers that train together: the source is cut into batch · size lanes, and this worker reads the
        `batch` of them that begin with lane rank · batch. All lanes are of one length, so every worker has as many windows,
        and together these are the windows of one stream with a batch of batch · size.

    Returns
    -------
    Stream
        An iterator of Window(x, y, fresh), with `.position`.

    Raises
    ------
    TypeError, ValueError
        If the source is none of these, or has less than two steps for every lane of every worker (one, of a pair).

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> for x, y, fresh in fb.stream(np.arange(10), batch=2, window=3):
    ...     print(x.tolist(), y.tolist(), fresh)
    [[0, 4], [1, 5], [2, 6]] [[1, 5], [2, 6], [3, 7]] True
    [[3, 7]] [[4, 8]] False
    >>> for x, y, fresh in fb.stream(np.arange(10), batch=1, window=3, shard=(1, 2)):
    ...     print(x.tolist(), y.tolist(), fresh)
    [[4], [5], [6]] [[5], [6], [7]] True
    [[7]] [[8]] False
    """
    batch = check_integer("batch", batch, 1, "pass the number of lanes")
    window = check_integer("window", window, 1, "pass the number of steps")
    epochs = None if epochs is None else check_integer("epochs", epochs, 1, "pass the number of passes, or None")
    rank, size = (0, 1) if shard is None else check_shard(shard)
    remedy = "pass the position of an earlier stream"
    at = Position(*[check_integer(f"position[{i}]", n, 0, remedy) for i, n in enumerate(position)])
    if isinstance(source, str | os.PathLike):
        source = TextFile(source, vocabulary)
    elif vocabulary is not None:
        raise ValueError("vocabulary: expected None but for the path of a text file; encode other texts before")
    if hasattr(source, "__iter__") and not hasattr(source, "__len__"):
        if epochs != 1 or at.epoch:
            raise ValueError("epochs: expected 1 for an iterator, which can be read once; begin again inside it")
        if shard is not None:
            raise ValueError("shard: expected None for an iterator; give every worker an iterator of the lanes that it reads")
        return Stream(_Fed(iter(source), batch), window, 1, at, None)
    lanes = _Lanes(source, batch, rank, size)
    return Stream(lanes, window, epochs, at, getattr(source, "vocabulary", None), None if shard is None else (rank, size))


class Stream:
    """An iterator of `Window`; see `fastbptt.stream`, which makes it."""

    def __init__(self, source: Any, window: int, epochs: int | None, position: Position, vocabulary: Vocabulary | None,
                 shard: tuple[int, int] | None = None):
        self.position = position
        """Of the next window."""
        self.vocabulary = vocabulary
        """Of the text file; None for other sources."""
        self.shard = shard
        """(rank, size) where the lanes are those of one of several workers; else None."""
        self._source, self._window, self._epochs = source, window, epochs
        source.skip(position.step)

    @property
    def endless(self) -> bool:
        """Whether it starts again after every pass, without end."""
        return self._epochs is None

    def __getstate__(self) -> dict[str, Any]:
        if self._source.steps is None:
            raise TypeError("stream: expected a source that can be read again, got an iterator; "
                            "make the copy from an iterator of its own")
        return self.__dict__

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Window:
        epoch, step = self.position
        if self._epochs is not None and epoch >= self._epochs:
            raise StopIteration
        pair = self._source.read(step, self._window)
        if pair is None:                        # only an iterator, whose end is not known before
            raise StopIteration
        n = len(pair[0])
        ended = self._source.steps is not None and step + n >= self._source.steps
        self.position = Position(epoch + 1, 0) if ended else Position(epoch, step + n)
        return Window(pair[0], pair[1], step == 0)

    def __len__(self) -> int:
        """Windows of one pass; TypeError for an iterator."""
        if self._source.steps is None:
            raise TypeError("stream: an iterator has no known length")
        return int(-(-self._source.steps // self._window))


class _Lanes:
    """Lanes of something with a length and slices: `batch` of batch · size, those of one worker."""

    def __init__(self, source: Any, batch: int, rank: int, size: int):
        self._paired = isinstance(source, tuple)
        arrays = source if self._paired else (source,)
        if self._paired and len(arrays) != 2:
            raise TypeError(f"source: expected a pair (x, y), got a tuple of {len(arrays)}")
        names = ("source x", "source y") if self._paired else ("source",)
        self._arrays = [_sliceable(name, a) for name, a in zip(names, arrays, strict=True)]
        sizes = [len(a) for a in self._arrays]
        if sizes[0] != sizes[-1]:
            raise ValueError(f"source: expected x and y of as many steps, got {sizes[0]} and {sizes[1]}")
        if not self._paired and not isinstance(source, TextFile) and (self._arrays[0].ndim, self._arrays[0].dtype.kind) not in (
                (1, "i"), (1, "u")):
            raise TypeError(f"source: expected integer ids (N,), got {self._arrays[0].ndim} dimensions of "
                            f"{self._arrays[0].dtype}; pass a pair (x, y) for other inputs")
        lanes = batch * size
        self.steps = (sizes[0] if self._paired else sizes[0] - 1) // lanes
        if self.steps < 1:
            workers = f" on each of {size} workers" if size > 1 else ""
            raise ValueError(f"source: expected at least {lanes + (not self._paired)} steps for batch={batch}{workers}, "
                             f"got {sizes[0]}; choose a smaller batch")
        self._starts = range(rank * batch * self.steps, (rank + 1) * batch * self.steps, self.steps)

    def skip(self, step: int) -> None:
        """Refuse a position beyond the end of the lanes."""
        if step >= self.steps:
            raise ValueError(f"position: expected a step below {self.steps}, the length of a lane, got {step}; "
                             "pass the position of a stream with the same source and batch")

    def read(self, step: int, window: int) -> tuple[Array, Array]:
        """x and y of the steps after `step`."""
        stop = min(step + window, self.steps)
        if self._paired:
            x, y = (_side_by_side([a[s + step:s + stop] for s in self._starts]) for a in self._arrays)
            return x, y
        ids = _side_by_side([self._arrays[0][s + step:s + stop + 1] for s in self._starts])
        return ids[:-1], ids[1:]


class _Fed:
    """Lanes of an iterator that yields their next steps."""

    steps = None

    def __init__(self, chunks: Iterator[Any], batch: int):
        self._chunks, self.batch = chunks, batch
        self._left: tuple[Array, ...] = ()
        self._ended = False

    def skip(self, step: int) -> None:
        """Read the first steps and discard them."""
        while step > 0 and (pair := self.read(0, min(step, 4096))) is not None:
            step -= len(pair[0])

    def read(self, step: int, window: int) -> tuple[Array, Array] | None:
        """The next steps; None at the end."""
        while not self._ended and (not self._left or len(self._left[0]) < window + (len(self._left) == 1)):
            chunk = next(self._chunks, None)
            if chunk is None:
                self._ended = True
                break
            parts = self._parts(chunk)
            self._left = tuple(np.concatenate(pair) for pair in zip(self._left, parts, strict=True)) if self._left else parts
        ahead = len(self._left) == 1            # ids: the last of them is only a target
        n = min(window, len(self._left[0]) - ahead) if self._left else 0
        if n < 1:
            return None
        given, self._left = self._left, tuple(a[n:].copy() for a in self._left)
        return (given[0][:n], given[0][1:n + 1]) if ahead else (given[0][:n], given[1][:n])

    def _parts(self, chunk: Any) -> tuple[Array, ...]:
        """The arrays of a chunk, as many and as long as they should be."""
        pair = isinstance(chunk, tuple) or (isinstance(chunk, list) and all(is_array(part) for part in chunk))
        parts = tuple(self._checked(part) for part in (chunk if pair else (chunk,)))
        expected = len(self._left) or min(max(len(parts), 1), 2)
        if len(parts) != expected or len({len(part) for part in parts}) > 1:
            raise ValueError(f"source: expected chunks of {'ids' if expected == 1 else 'as many steps of x as of y'}, "
                             f"got arrays {', '.join(str(part.shape) for part in parts) or 'none'}")
        return parts

    def _checked(self, part: Any) -> Array:
        expected = f"expected chunks (n, {self.batch}, …), the next steps of all lanes"
        array = as_array("source", part, expected)
        if array.ndim < 2 or array.shape[1] != self.batch:
            raise ValueError(f"source: {expected}, got one of {array.shape}")
        return array.astype(np.int64) if array.dtype.kind in "iu" else array


def _sliceable(name: str, source: Any) -> Any:
    return source if isinstance(source, TextFile) else as_array(name, source, "expected ids (N,), or a pair (x, y) of arrays")


def _side_by_side(lanes: list[Array]) -> Array:
    """(n, batch, …) from arrays (n, …); integers become int64."""
    together = np.stack([np.asarray(a) for a in lanes], axis=1)
    return together.astype(np.int64) if together.dtype.kind in "iu" else together
