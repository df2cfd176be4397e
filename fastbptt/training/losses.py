"""Losses from logits, and their gradients: stable for every finite z. Steps that do not count are not read.

A loss is the value that its dtype can hold, or inf: nothing overflows on the way to a value that it can hold.
"""
from __future__ import annotations

import numpy as np

from ..arrays import Array

NAMES = ("squared_error", "sigmoid_cross_entropy", "softmax_cross_entropy")


def sigmoid(z: Array) -> Array:
    """1 / (1 + e^−z) without overflow."""
    t = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1, t) / (1 + t))


def log_softmax(z: Array) -> Array:
    """log softmax over the last axis, shifted by its largest entry."""
    shifted = z - z.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def predictions(loss: str, z: Array) -> Array:
    """ŷ = O(z): identity, sigmoid or softmax."""
    if loss == "squared_error":
        return z
    return sigmoid(z) if loss == "sigmoid_cross_entropy" else np.asarray(np.exp(log_softmax(z)))


def curvature_product(loss: str, z: Array, dz: Array) -> Array:
    """The Hessian of the loss of every row of z (N, O), times dz; it does not depend on the targets."""
    if loss == "squared_error":
        return dz
    y = predictions(loss, z)
    if loss == "sigmoid_cross_entropy":
        return np.asarray(y * (1 - y) * dz)
    return np.asarray(y * (dz - (y * dz).sum(axis=-1, keepdims=True)))


def point_losses(loss: str, z: Array, y: Array) -> tuple[Array, Array]:
    """Loss of every row of z (N, O) against y, (N, O) or ids (N,), and ∂loss/∂z = ŷ − y for all three."""
    if loss == "squared_error":
        dz = z - y
        return (0.5 * dz * dz).sum(axis=-1), dz
    if loss == "sigmoid_cross_entropy":      # −y log ŷ − (1−y) log(1−ŷ) = z ([z > 0] − y) + log(1 + e^−|z|)
        return (z * ((z > 0) - y) + np.log1p(np.exp(-np.abs(z)))).sum(axis=-1), sigmoid(z) - y
    logs = log_softmax(z)
    rows = np.arange(len(z))
    dz = np.exp(logs)
    dz[rows, y] -= 1
    return -logs[rows, y], dz
