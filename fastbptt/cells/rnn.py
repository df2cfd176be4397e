"""The vanilla recurrent network.

    a_t = U x_t + W h_{t−1} + b,    h_t = (1−α) h_{t−1} + α σ(a_t)                                    (α = 1 unless leaky)

Backward, with e_t = ∂L/∂h_t: δ_t = ∂L/∂a_t = α σ′(a_t) ⊙ e_t, e_{t−1} ← (1−α) e_t + Wᵀ δ_t. σ′ is taken from the output,
so nothing else is kept: saved per step and unit is one float, h_t (two, h_t and σ(a_t), for a leaky cell).
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from ..arrays import Array
from ..engine import simd
from ..engine.activations import activate_any, activate_grad_any
from ..engine.gemm import rows_times_panels
from ..engine.jit import njit, overload
from ..engine.panels import vectors_in
from . import protocol
from .recurrent import add_recurrent, backward_recurrent, forward_recurrent, recurrent_gradient


class RNNParams(NamedTuple):
    """Parameters of the vanilla RNN, and their gradients."""

    U: Array
    """(H, I) input to hidden."""
    W: Array
    """(H, H) hidden to hidden."""
    b: Array
    """(H,) what is added to U x."""


class RNNState(NamedTuple):
    """State of the vanilla RNN."""

    h: Array
    """(B, H)."""


class RNNTape(NamedTuple):
    """What the forward scan of the vanilla RNN keeps."""

    h: Array
    """(T+1, B, H), row 0 the initial state."""
    y: Array
    """(T, B, H) σ(a_t) of a leaky cell; else (0, 0, 0), as h_t says it."""


def _is_rnn(params: types.Type) -> bool:
    return isinstance(params, types.BaseNamedTuple) and params.instance_class is RNNParams


# ---------------------------------------------------------------------------------------------- one row's arithmetic


@njit
def point_forward(options, tape, work, first, n, dims):
    """n rows: h_t into the tape and the working state, from the pre-activations in `work.z`."""
    n_lanes = simd.lanes(work.z)
    h, saved = tape.h.reshape(-1), tape.y.reshape(-1)
    alpha = options.leak
    for i in range(n):
        place = work.places[first + i]
        z, to = (first + i) * dims.row, (place + dims.B) * dims.H
        for j in range(0, dims.Hp, n_lanes):
            y = activate_any(options.activation, simd.load(work.z, z + j))
            if alpha != 1:
                simd.store_part(saved, place * dims.H + j, y, dims.H - j)
                old = simd.load(work.state, i * dims.state_row + j)
                y = simd.fma(simd.splat(alpha, work.z), y - old, old)
            simd.store(work.state, i * dims.state_row + j, y)
            if j + n_lanes <= dims.H:
                simd.store(h, to + j, y)
            else:
                simd.store_part(h, to + j, y, dims.H - j)


@njit
def point_backward(options, tape, work, first, n, dims):
    """n rows: δ_t from the error carried, of which the part that does not pass through W stays in `work.carry`."""
    n_lanes = simd.lanes(work.delta)
    h, saved = tape.h.reshape(-1), tape.y.reshape(-1)
    alpha = options.leak
    for i in range(n):
        place = work.places[first + i]
        for j in range(0, dims.Hp, n_lanes):
            e = simd.load(work.carry, i * dims.state_row + j)
            if alpha != 1:
                y = simd.load_part(saved, place * dims.H + j, dims.H - j)
                simd.store(work.carry, i * dims.state_row + j, simd.splat(1 - alpha, work.delta) * e)
                e = simd.splat(alpha, work.delta) * e
            elif j + n_lanes <= dims.H:
                y = simd.load(h, (place + dims.B) * dims.H + j)
            else:
                y = simd.load_part(h, (place + dims.B) * dims.H + j, dims.H - j)
            simd.store(work.delta, (first + i) * dims.row + j, activate_grad_any(options.activation, y) * e)


# ---------------------------------------------------------------------------------------------- one step


@overload(protocol.step_forward)
def _step_forward(params, options, tape, work, dims, first, n):
    if not _is_rnn(params):
        return None

    def step(params, options, tape, work, dims, first, n):
        rows_times_panels(work.z, first * dims.row, dims.row, work.state, 0, dims.state_row, n, dims.H, work.weights, 0,
                          vectors_in(dims.Hp, work.z), True)
        point_forward(options, tape, work, first, n, dims)
    return step


@overload(protocol.step_backward)
def _step_backward(params, options, tape, initial, work, dims, first, n):
    if not _is_rnn(params):
        return None

    def step(params, options, tape, initial, work, dims, first, n):
        point_backward(options, tape, work, first, n, dims)
        rows_times_panels(work.carry, 0, dims.state_row, work.delta, first * dims.row, dims.row, n, dims.Hp, work.weights, 0,
                          vectors_in(dims.Hp, work.carry), options.leak != 1)
    return step


# ---------------------------------------------------------------------------------------------- what the scan asks for


@overload(protocol.layout)
def _layout(params):
    return (lambda params: protocol.Layout(1, 1, 0, 0, 1)) if _is_rnn(params) else None


@overload(protocol.pack_forward)
def _pack_forward(params, dims):
    return (lambda params, dims: forward_recurrent(params.W, 0, 1, dims)) if _is_rnn(params) else None


@overload(protocol.pack_backward)
def _pack_backward(params, dims):
    return (lambda params, dims: backward_recurrent(params.W, 0, 1, dims)) if _is_rnn(params) else None


@overload(protocol.start_rows)
def _start_rows(params, z, count, dims):
    return (lambda params, z, count, dims: None) if _is_rnn(params) else None


@overload(protocol.state_partial)
def _state_partial(params, dims):
    return (lambda params, dims: dims.Hp * dims.Hp) if _is_rnn(params) else None


@overload(protocol.state_gradients)
def _state_gradients(params, tape, initial, partial, work, count, dims):
    if not _is_rnn(params):
        return None
    return lambda params, tape, initial, partial, work, count, dims: recurrent_gradient(
        partial, tape, initial, work, 0, 1, count, dims)


@overload(protocol.add_state_partial)
def _add_state_partial(dparams, partial, dims):
    if not _is_rnn(dparams):
        return None
    return lambda dparams, partial, dims: add_recurrent(dparams.W, partial, 1, dims)
