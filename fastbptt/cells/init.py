"""Initial values: orthogonal, identity, Glorot, uniform."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import check_choice, check_dtype, check_integer, check_number, check_weights_fit

RECURRENT = ("orthogonal", "identity", "glorot", "uniform")
INPUT = ("glorot", "uniform")


def orthogonal(rng: np.random.Generator, n: int) -> Array:
    """A random orthogonal matrix, uniform over the group: Q of the QR of a Gaussian matrix, R's diagonal positive."""
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


def gated_blocks(cell: Any, rng: np.random.Generator, dtype: Any, recurrent: str, input: str, gain: float) -> dict[str, Array]:
    """Every parameter of a cell: W and U gate by gate, all others 0."""
    dtype = check_dtype("dtype", dtype)
    check_weights_fit(cell, cell.shapes, dtype)
    gain = check_number("gain", gain)
    H, gates = cell.hidden_size, range(cell.gates)
    W = np.concatenate([gain * recurrent_block(rng, recurrent, H) for _ in gates])
    U = np.concatenate([input_block(rng, input, H, cell.input_size) for _ in gates])
    arrays = {name: np.zeros(shape, dtype) for name, shape in cell.shapes.items()}
    return {**arrays, "U": np.ascontiguousarray(U, dtype), "W": np.ascontiguousarray(W, dtype)}


def spectral_radius(W: Array) -> float:
    """The largest modulus of an eigenvalue."""
    return float(np.abs(np.linalg.eigvals(W.astype(np.float64))).max())


def with_radius(W: Array, radius: float) -> Array:
    """W, scaled to this spectral radius; unchanged if its own is nearly 0, as without cycles."""
    found = spectral_radius(W)
    return W * W.dtype.type(radius / found) if found > 1e-3 * radius else W


def memory_bias(rng: np.random.Generator, hidden: int, forget_bias: float, chrono: int | None) -> Array | float:
    """Bias of the gate that keeps the state: one number, or drawn for dependencies of up to `chrono` steps."""
    forget_bias = check_number("forget_bias", forget_bias)
    if chrono is None:
        return forget_bias
    chrono = check_integer("chrono", chrono, 2, "pass the longest dependency expected, in steps")
    return np.asarray(np.log(rng.uniform(1.0, max(1.0, chrono - 1.0), size=hidden)))
