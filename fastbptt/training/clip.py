"""Gradient clipping by value and by global norm."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import check_positive
from ..tree import global_norm, tree_map
from .quiet import quiet


@quiet
def clip_by_value(tree: Any, limit: float) -> Any:
    """Every number cut to −limit … limit: g > θ → θ, g < −θ → −θ. NaN stays NaN.

    Parameters
    ----------
    tree : NamedTuple of arrays, nested or not
    limit : float
        θ > 0.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> fb.clip_by_value((np.array([-3.0, 0.05]),), 0.1)
    (array([-0.1 ,  0.05]),)

    References
    ----------
    T. Mikolov, "Statistical language models based on neural networks", PhD thesis, 2012.
    """
    limit = check_positive("limit", limit)
    return tree_map(lambda a: np.clip(a, *np.array([-limit, limit], a.dtype)), tree)


@quiet
def clip_by_norm(tree: Any, limit: float) -> tuple[Any, float]:
    """The tree scaled so that its global norm is at most `limit`, and the norm it had: ‖g‖ > θ → θ g / ‖g‖.

    Parameters
    ----------
    tree : NamedTuple of arrays, nested or not
    limit : float
        θ > 0.

    Returns
    -------
    tree, norm
        The direction is unchanged; a tree within the limit comes back as it is.

    Raises
    ------
    ValueError
        If the norm is NaN or infinite: scaling would spread it to every parameter.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> fb.clip_by_norm((np.array([3.0, 4.0]),), 1.0)
    ((array([0.6, 0.8]),), 5.0)

    References
    ----------
    R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.
    """
    limit = check_positive("limit", limit)
    norm = global_norm(tree)
    if not np.isfinite(norm):
        raise ValueError(f"gradients: expected a finite norm, got {norm}; lower the learning rate, or skip this batch")
    return (tree, norm) if norm <= limit else (scaled_down(tree, norm, limit), norm)


@quiet
def scaled_down(tree: Any, norm: float, limit: float) -> Any:
    """A tree of this norm, brought to that of `limit`."""
    # Divided first, in float64: the factor limit / norm itself may be below all numbers that float32 holds.
    return tree_map(lambda a: (np.asarray(a, np.float64) / norm * limit).astype(a.dtype), tree)
