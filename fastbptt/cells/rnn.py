"""The vanilla recurrent network.

    a_t = U x_t + W h_{t−1} + b,    h_t = (1−α) h_{t−1} + α σ(a_t)                                    (α = 1 unless leaky)

Backward, with e_t = ∂L/∂h_t: δ_t = ∂L/∂a_t = α σ′(a_t) ⊙ e_t, e_{t−1} ← (1−α) e_t + Wᵀ δ_t. σ′ is taken from the output,
so nothing else is kept: saved per step and unit is one float, h_t (two, h_t and σ(a_t), for a leaky cell).
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..arrays import NONE, Array, Options
from ..engine import activations, simd
from ..engine.activations import activate_any, activate_grad_any
from ..engine.gemm import rows_times_panels
from ..engine.jit import njit, overload
from ..engine.panels import put, take, vectors_in
from ..errors import check_choice, check_size
from . import init, protocol
from .recurrent import is_of


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


@dataclass(frozen=True)
class RNN:
    """The vanilla recurrent network h_t = σ(U x_t + W h_{t−1} + b): its configuration, no arrays.

    Parameters
    ----------
    input_size, hidden_size : int
        I and H, at least 1.
    activation : {"tanh", "sigmoid", "relu", "leaky_relu", "identity"}
        σ. relu′(0) = 0; leaky_relu has the slope 0.01 below 0.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer or the activation is unknown.

    Examples
    --------
    >>> import fastbptt as fb
    >>> cell = fb.RNN(input_size=3, hidden_size=4)
    >>> params = cell.init(seed=0)
    >>> params.U.shape, params.W.shape, params.b.shape
    ((4, 3), (4, 4), (4,))

    References
    ----------
    J. L. Elman, "Finding structure in time", Cognitive Science 14(2), 1990.
    """

    input_size: int
    hidden_size: int
    activation: str = "tanh"

    params_type: ClassVar[type] = RNNParams
    state_type: ClassVar[type] = RNNState
    tape_type: ClassVar[type] = RNNTape
    gates: ClassVar[int] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", check_size("input_size", self.input_size))
        object.__setattr__(self, "hidden_size", check_size("hidden_size", self.hidden_size))
        check_choice("activation", self.activation, activations.NAMES)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter."""
        H = self.hidden_size
        return {"U": (H, self.input_size), "W": (H, H), "b": (H,)}

    def init(self, seed: int = 0, dtype: Any = np.float32, recurrent: str = "orthogonal", input: str = "glorot",
             gain: float = 1.0) -> RNNParams:
        """Initial parameters: W by `recurrent`, times `gain`; U by `input`; b = 0.

        Parameters
        ----------
        seed : int
            Seed of NumPy's generator; the same seed gives the same parameters.
        dtype : float32 or float64
        recurrent : {"orthogonal", "identity", "glorot", "uniform"}
        input : {"glorot", "uniform"}
        gain : float
            Factor on W.
        """
        rng = np.random.default_rng(seed)
        return RNNParams(**init.gated_blocks(self, rng, dtype, recurrent, input, gain))

    @cached_property
    def options(self) -> Options:
        """What the scans know of the configuration."""
        return Options(activations.NAMES.index(self.activation), 1.0)

    def empty_tape(self, T: int, B: int, dtype: Any) -> RNNTape:
        """An uninitialised tape for the scans."""
        return RNNTape(np.empty((T + 1, B, self.hidden_size), dtype), NONE[np.dtype(dtype)])


# ---------------------------------------------------------------------------------------------- one row's arithmetic


@njit(forceinline=True)
def point_forward(options, tape, work, first, n, dims):
    """n rows: h_t into the tape and the working state, from the pre-activations in `work.z`."""
    n_lanes = simd.lanes(work.z)
    h, saved = simd.flat(tape.h), simd.flat(tape.y)
    alpha = options.leak
    for i in range(n):
        place = work.places[first + i]
        z, to = (first + i) * dims.row, (place + dims.B) * dims.H
        for j in range(0, dims.Hp, n_lanes):
            y = activate_any(options.activation, simd.load(work.z, z + j))
            if alpha != 1:
                put(saved, place * dims.H + j, y, dims.H - j)
                old = simd.load(work.state, i * dims.state_row + j)
                y = simd.fma(simd.splat(alpha, work.z), y - old, old)
            simd.store(work.state, i * dims.state_row + j, y)
            put(h, to + j, y, dims.H - j)


@njit(forceinline=True)
def point_backward(options, tape, work, first, n, dims):
    """n rows: δ_t from the error carried, of which the part that does not pass through W stays in `work.carry`."""
    n_lanes = simd.lanes(work.delta)
    h, saved = simd.flat(tape.h), simd.flat(tape.y)
    alpha = options.leak
    for i in range(n):
        place = work.places[first + i]
        for j in range(0, dims.Hp, n_lanes):
            e = simd.load(work.carry, i * dims.state_row + j)
            if alpha != 1:
                y = take(saved, place * dims.H + j, dims.H - j)
                simd.store(work.carry, i * dims.state_row + j, simd.splat(1 - alpha, work.delta) * e)
                e = simd.splat(alpha, work.delta) * e
            else:
                y = take(h, (place + dims.B) * dims.H + j, dims.H - j)
            simd.store(work.delta, (first + i) * dims.row + j, activate_grad_any(options.activation, y) * e)


# ---------------------------------------------------------------------------------------------- one step


@overload(protocol.step_forward)
def _step_forward(params, options, tape, work, dims, first, n):
    if not is_of(params, RNNParams):
        return None

    def step(params, options, tape, work, dims, first, n):
        rows_times_panels(work.z, first * dims.row, dims.row, work.state, 0, dims.state_row, n, dims.H, work.weights, 0,
                          vectors_in(dims.Hp, work.z), True)
        point_forward(options, tape, work, first, n, dims)
    return step


@overload(protocol.step_backward)
def _step_backward(params, options, tape, initial, work, dims, first, n):
    if not is_of(params, RNNParams):
        return None

    def step(params, options, tape, initial, work, dims, first, n):
        point_backward(options, tape, work, first, n, dims)
        rows_times_panels(work.carry, 0, dims.state_row, work.delta, first * dims.row, dims.row, n, dims.Hp, work.weights, 0,
                          vectors_in(dims.Hp, work.carry), options.leak != 1)
    return step


@overload(protocol.layout)
def _layout(params):
    return (lambda params: protocol.Layout(1, 1, 0, 0, 1)) if is_of(params, RNNParams) else None
