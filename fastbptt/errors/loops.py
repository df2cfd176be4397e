"""Training loops: batches, schedules, updates."""
from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import shape_text
from .values import check_number


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
