"""Functions over NamedTuples of arrays, nested or not."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def leaves(tree: Any) -> Iterator[Array]:
    """The arrays of a tree, in order."""
    if isinstance(tree, tuple):
        for branch in tree:
            yield from leaves(branch)
    elif tree is not None:
        yield tree


def first_array(tree: Any) -> Any:
    """The first array of a tuple of arrays, nested or not."""
    while isinstance(tree, tuple):
        tree = tree[0]
    return tree


def tree_map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """The tree of function(leaf, …) over trees of the same structure."""
    if isinstance(tree, tuple):
        branches = [tree_map(function, *parts) for parts in zip(tree, *others, strict=True)]
        return type(tree)(*branches) if hasattr(tree, "_fields") else tuple(branches)
    return None if tree is None else function(tree, *others)


def global_norm(tree: Any) -> float:
    """The 2-norm of all numbers in the tree, in float64 and safe from overflow."""
    arrays = [np.asarray(a, np.float64).ravel() for a in leaves(tree)]
    largest = float(np.max([np.abs(a).max() for a in arrays if a.size], initial=0.0))      # NaN if any number is
    if largest == 0 or not np.isfinite(largest):
        return largest
    with np.errstate(under="ignore"):
        return largest * float(np.sqrt(sum(float(((a / largest) ** 2).sum()) for a in arrays)))
