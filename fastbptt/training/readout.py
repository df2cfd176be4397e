"""The affine readout z = V h + c.

Its products are ours, not NumPy's: the threads of a BLAS spin for a while after a product, and the next scan
would have to share the cores with them.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arrays import Array
from ..engine import products


class ReadoutParams(NamedTuple):
    """V and c, and their gradients."""

    V: Array
    """(O, H)."""
    c: Array
    """(O,)."""


def readout_forward(params: ReadoutParams, h: Array) -> Array:
    """z = V h + c for rows h (…, H)."""
    z = products.times(h.reshape(-1, h.shape[-1]), params.V.T)
    return np.asarray((z + params.c).reshape(*h.shape[:-1], z.shape[1]))


def readout_backward(params: ReadoutParams, h: Array, dz: Array) -> tuple[ReadoutParams, Array]:
    """∂L/∂V = dzᵀ h, ∂L/∂c = Σ dz, and ∂L/∂h = dz V, for rows h (N, H)."""
    return ReadoutParams(products.over_rows(dz, h), dz.sum(axis=0)), products.times(dz, params.V)
