"""The readout z = V h + c."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arrays import Array


class ReadoutParams(NamedTuple):
    """Parameters of the readout, and their gradients."""

    V: Array
    """(O, H) hidden to output."""
    c: Array
    """(O,)."""


def readout_forward(params: ReadoutParams, h: Array) -> Array:
    """z = V h + c for rows h (N, H)."""
    return np.asarray(h @ params.V.T + params.c)


def readout_backward(params: ReadoutParams, h: Array, dz: Array) -> tuple[ReadoutParams, Array]:
    """∂L/∂V = dzᵀ h, ∂L/∂c = Σ dz, and ∂L/∂h = dz V."""
    return ReadoutParams(dz.T @ h, dz.sum(axis=0)), np.asarray(dz @ params.V)
