"""The same computation on a GPU, for arrays that are there: CuPy's, PyTorch's or Numba's.

`fastbptt.forward` and `fastbptt.backward` choose it by where x is. It needs an extra, `pip install "fastbptt[cuda13]"` or
`"fastbptt[cuda12]"`; nothing here is imported before it is used.
"""
from __future__ import annotations

from importlib import import_module
from typing import Any

from ..tree import tree_map


def is_available() -> bool:
    """Whether calls with arrays on a GPU can run here: the extra is installed, and there is a GPU new enough, with its driver.

    Examples
    --------
    >>> import fastbptt as fb
    >>> fb.cuda.is_available() in (True, False)
    True
    """
    try:
        return not _target().fault()
    except ImportError:
        return False


def to_device(tree: Any) -> Any:
    """The arrays of a tree (Params, State, an array …) copied to the current GPU, as Numba's arrays; their types are kept.

    PyTorch and CuPy take these without a copy: `torch.as_tensor(array, device="cuda")`, `cupy.asarray(array)`.

    Parameters
    ----------
    tree : array, or nested tuples of arrays

    Raises
    ------
    ImportError
        If the extra is not installed.
    RuntimeError
        If there is no GPU that can be used.

    Examples
    --------
    >>> import fastbptt as fb
    >>> params = fb.RNN(3, 4).init(seed=0)
    >>> if fb.cuda.is_available():
    ...     assert type(fb.cuda.to_device(params)) is type(params)
    """
    target = _target()
    if reason := target.fault():
        raise RuntimeError(reason)
    return tree_map(target.cuda.to_device, tree)


def _target() -> Any:
    return import_module("fastbptt.cuda.target")
