"""Working states and errors: loaded from the arrays of a call, clipped, passed on at resets and at the first step."""
from __future__ import annotations

import numpy as np

from ..engine import simd
from ..engine.jit import njit
from ..engine.panels import add_row, gather_row
from ..engine.primitives import maximum, minimum


@njit(forceinline=True)
def steps_here(batch, b, T):
    """How many of the T steps of these arrays are valid in sequence b."""
    return minimum(maximum(batch.lengths[b] - batch.start, 0), T)


@njit
def load_state(state, i, source, b, dims):
    """Row i of the working states becomes row b of `source`, arrays (rows, H)."""
    for k in range(len(source)):
        gather_row(state, i * dims.state_row + k * dims.Hp, dims.Hp, simd.flat(source[k]), b * dims.H, dims.H)


@njit
def clip_errors(carry, n, largest, d):
    """Scale each of n errors, ∂L/∂state as a whole, to a norm of at most `largest`."""
    for i in range(n):
        first, stop = i * d.state_row, (i + 1) * d.state_row
        top, total = 0.0, 0.0
        for j in range(first, stop):
            size = abs(float(carry[j]))
            top = size if size > top else top
        if top > 0:
            for j in range(first, stop):
                part = carry[j] / top
                total += part * part
        norm = top * np.sqrt(total)
        if norm > largest:
            for j in range(first, stop):
                carry[j] *= largest / norm


@njit
def leave_at_reset(b, i, carry, dinitial, d):
    """Move the error of row i to the gradient of the initial state: none of it crosses the reset."""
    for k in range(d.state_row // d.Hp):
        at = i * d.state_row + k * d.Hp
        add_row(dinitial, (k * d.B + b) * d.H, carry, at, d.H)
        for j in range(d.Hp):
            carry[at + j] = 0


@njit
def leave_at_start(b, i, carry, outgoing, d):
    """Add the error of row i, which leaves the first step, to `outgoing`."""
    for k in range(len(outgoing)):
        add_row(simd.flat(outgoing[k]), b * d.H, carry, i * d.state_row + k * d.Hp, d.H)


@njit
def pass_through(incoming, outgoing, batch, d):
    """A sequence without a valid step here holds its state: the incoming error passes through unchanged."""
    for k in range(len(incoming)):
        for b in range(d.B):
            if steps_here(batch, b, d.T) == 0:
                add_row(simd.flat(outgoing[k]), b * d.H, simd.flat(incoming[k]), b * d.H, d.H)
