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
from ..errors import check_choice, check_leak, check_mask, check_signs, check_size
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


@dataclass(frozen=True, eq=False, repr=False)
class RNN:
    """The vanilla recurrent network h_t = (1−α) h_{t−1} + α σ(U x_t + W h_{t−1} + b): its configuration.

    The tape holds 4 bytes per step, sequence and unit in float32, 8 in float64: h. A leaky cell holds as many again.

    Parameters
    ----------
    input_size, hidden_size : int
        I and H, at least 1.
    activation : {"tanh", "sigmoid", "relu", "leaky_relu", "identity"}
        σ. relu′(0) = 0; leaky_relu has the slope 0.01 below 0.
    leak : float
        α in 0 < α ≤ 1, the share of the state that a step renews (Δt/τ of a rate network); 1: no leak.
    mask : (H, H) of 0 and 1, optional
        Which connections exist: W[i, j], from unit j to unit i, counts as 0 where mask[i, j] is 0, and so does its gradient.
        Copied, and kept read-only.
    signs : (H,) of −1, 0 and 1, optional
        Dale's law: all weights from unit j, W[:, j], have the sign signs[j], 0 leaves it free. `project` keeps it: the
        optimisers apply it when they are made with ``project=model.project``, `fit` always.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer, the activation unknown, or another option out of its range.

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
    leak: float = 1.0
    mask: Any = None
    signs: Any = None

    params_type: ClassVar[type] = RNNParams
    state_type: ClassVar[type] = RNNState
    tape_type: ClassVar[type] = RNNTape
    gates: ClassVar[int] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", check_size("input_size", self.input_size))
        object.__setattr__(self, "hidden_size", check_size("hidden_size", self.hidden_size))
        check_choice("activation", self.activation, activations.NAMES)
        object.__setattr__(self, "leak", check_leak(self.leak))
        object.__setattr__(self, "mask", check_mask(self.mask, self.hidden_size))
        object.__setattr__(self, "signs", check_signs(self.signs, self.hidden_size))

    @cached_property
    def _identity(self) -> tuple[Any, ...]:
        arrays = [None if a is None else a.tobytes() for a in (self.mask, self.signs)]
        return self.input_size, self.hidden_size, self.activation, self.leak, *arrays

    def __repr__(self) -> str:
        options = [f"leak={self.leak}"] if self.leak != 1 else []
        options += [f"{name}=…" for name in ("mask", "signs") if getattr(self, name) is not None]
        sizes = f"input_size={self.input_size}, hidden_size={self.hidden_size}, activation={self.activation!r}"
        return f"RNN({', '.join([sizes, *options])})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RNN) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter."""
        H = self.hidden_size
        return {"U": (H, self.input_size), "W": (H, H), "b": (H,)}

    def init(self, seed: int = 0, dtype: Any = np.float32, recurrent: str = "orthogonal", input: str = "glorot",
             gain: float = 1.0) -> RNNParams:
        """Initial parameters: W by `recurrent`, times `gain`; U by `input`; b = 0.

        Under a mask or signs, W keeps its absolute values, takes the signs, loses what is masked, and is then scaled to the
        spectral radius it had before: `gain` for "orthogonal" and "identity". Otherwise excitation would outgrow inhibition
        (eight units in ten excitatory: a radius of about √H/2), and a sparse network would fall silent.

        Parameters
        ----------
        seed : int
            Seed of NumPy's generator; the same seed gives the same parameters.
        dtype : float32 or float64
        recurrent : {"orthogonal", "identity", "glorot", "uniform"}
        input : {"glorot", "uniform"}
        gain : float
            Factor on W.

        Examples
        --------
        >>> import numpy as np, fastbptt as fb
        >>> cell = fb.RNN(2, 100, mask=~np.eye(100, dtype=bool), signs=np.where(np.arange(100) < 80, 1, -1))
        >>> W = cell.init(seed=0, gain=0.9, dtype=np.float64).W
        >>> round(float(abs(np.linalg.eigvals(W)).max()), 6), bool((W[:, :80] >= 0).all()), bool((W[:, 80:] <= 0).all())
        (0.9, True, True)

        References
        ----------
        H. F. Song, G. R. Yang and X.-J. Wang, "Training excitatory-inhibitory recurrent neural networks for cognitive tasks",
        PLoS Computational Biology 12(2), 2016 (Dale's law, masks, and the spectral radius of what they leave).
        """
        rng = np.random.default_rng(seed)
        params = RNNParams(**init.gated_blocks(self, rng, dtype, recurrent, input, gain))
        if self.signs is None and self.mask is None:
            return params
        radius = init.spectral_radius(params.W)
        if self.signs is not None:
            W = np.where(self.signs == 0, params.W, np.abs(params.W) * self.signs)
            params = params._replace(W=W.astype(params.W.dtype))
        params = self.masked(params)
        return params._replace(W=init.with_radius(params.W, radius))

    def masked(self, params: RNNParams) -> RNNParams:
        """The parameters with 0 for connections that do not exist."""
        return params if self.mask is None else params._replace(W=np.where(self.mask, params.W, params.W.dtype.type(0)))

    def project(self, params: RNNParams) -> RNNParams:
        """The nearest parameters that `mask` and `signs` allow: 0 for connections that do not exist or have the wrong sign.

        Examples
        --------
        >>> import numpy as np, fastbptt as fb
        >>> cell = fb.RNN(1, 2, signs=[1, -1])
        >>> cell.project(cell.init()._replace(W=np.array([[0.5, 0.5], [-0.5, -0.5]]))).W
        array([[ 0.5,  0. ],
               [ 0. , -0.5]])
        """
        if self.signs is not None:
            params = params._replace(W=np.where(params.W * self.signs < 0, params.W.dtype.type(0), params.W))
        return self.masked(params)

    @cached_property
    def options(self) -> Options:
        """What the scans know of the configuration."""
        return Options(activations.NAMES.index(self.activation), self.leak)

    def empty_tape(self, T: int, B: int, dtype: Any) -> RNNTape:
        """An uninitialised tape for the scans."""
        h = np.empty((T + 1, B, self.hidden_size), dtype)
        return RNNTape(h, NONE[np.dtype(dtype)] if self.leak == 1 else np.empty((T, B, self.hidden_size), dtype))


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
