"""Initial values: orthogonal, identity, Glorot, uniform."""
from __future__ import annotations

import numpy as np

from ..arrays import Array
from ..errors import check_choice

RECURRENT = ("orthogonal", "identity", "glorot", "uniform")
INPUT = ("glorot", "uniform")


def orthogonal(rng: np.random.Generator, n: int) -> Array:
    """A random orthogonal matrix, uniform over the group: QR of a normal matrix with the signs of R's diagonal taken out."""
    q, r = np.linalg.qr(rng.normal(size=(n, n)))
    return np.asarray(q * np.where(np.diag(r) < 0, -1.0, 1.0))


def glorot(rng: np.random.Generator, rows: int, cols: int) -> Array:
    """Uniform on ±√(6 / (rows + cols)) (Glorot & Bengio, 2010)."""
    limit = (6.0 / (rows + cols)) ** 0.5
    return rng.uniform(-limit, limit, size=(rows, cols))


def uniform(rng: np.random.Generator, rows: int, cols: int, hidden: int) -> Array:
    """Uniform on ±1/√H, the default of most frameworks."""
    limit = hidden ** -0.5
    return rng.uniform(-limit, limit, size=(rows, cols))


def recurrent_block(rng: np.random.Generator, method: str, hidden: int) -> Array:
    """One gate's (H, H) block of W."""
    check_choice("recurrent", method, RECURRENT)
    if method == "orthogonal":
        return orthogonal(rng, hidden)
    if method == "identity":
        return np.eye(hidden)
    return glorot(rng, hidden, hidden) if method == "glorot" else uniform(rng, hidden, hidden, hidden)


def input_block(rng: np.random.Generator, method: str, hidden: int, inputs: int) -> Array:
    """One gate's (H, I) block of U."""
    check_choice("input", method, INPUT)
    return glorot(rng, hidden, inputs) if method == "glorot" else uniform(rng, hidden, inputs, hidden)
