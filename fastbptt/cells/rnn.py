"""The vanilla recurrent network.

    a_t = U x_t + W h_{t−1} + b,    h_t = (1−α) h_{t−1} + α σ(a_t)                                    (α = 1 unless leaky)

Backward, with e_t = ∂L/∂h_t: δ_t = ∂L/∂a_t = α σ′(a_t) ⊙ e_t, e_{t−1} ← (1−α) e_t + Wᵀ δ_t. σ′ is computed from the
output, so one float is saved per step and unit: h_t (for a leaky cell two, h_t and σ(a_t)).
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..arrays import Array, Options
from ..engine import activations, simd
from ..engine.activations import activate_any, activate_grad_any
from ..engine.jit import njit
from ..errors import check_choice, check_leak, check_mask, check_signs, check_size
from . import init
from .cell import Cell
from .form import FORMS, Form, Layout


class RNNParams(NamedTuple):
    """Parameters of the vanilla RNN, and their gradients."""

    U: Array
    """(H, I) input to hidden."""
    W: Array
    """(H, H) hidden to hidden."""
    b: Array
    """(H,) bias, added to U x."""


class RNNState(NamedTuple):
    """State of the vanilla RNN."""

    h: Array
    """(B, H)."""


class RNNTape(NamedTuple):
    """What the forward scan of the vanilla RNN saves."""

    h: Array
    """(T+1, B, H), row 0 the initial state."""
    y: Array
    """(T, B, H) σ(a_t) of a leaky cell; else (0, 0, 0), as h_t is σ(a_t)."""


@dataclass(frozen=True, eq=False, repr=False)
class RNN(Cell):
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
        Dale's law: all weights from unit j, W[:, j], have the sign signs[j]; 0 leaves them free. `project` enforces it: `fit`
        always applies it, optimisers do if made with ``project=model.project``.

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

    params_type: ClassVar[Any] = RNNParams
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

        With a mask or signs, the entries of W take the signs, masked ones become 0, and W is scaled to the spectral radius
        it had before: `gain` for "orthogonal" and "identity". Otherwise excitation would outgrow inhibition (a radius of
        about √H/2 if 80 % of the units are excitatory), and a sparse network would fall silent.

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
        PLoS Computational Biology 12(2), 2016 (Dale's law, masks, scaling to a spectral radius).
        """
        rng = np.random.default_rng(seed)
        params = RNNParams(**init.gated_blocks(self, rng, dtype, recurrent, input, gain))
        if self.signs is None and self.mask is None:
            return params
        radius = init.spectral_radius(params.W)
        if self.signs is not None:
            W = np.where(self.signs == 0, params.W, np.abs(params.W) * self.signs)
            params = params._replace(W=W.astype(params.W.dtype))
        params = self.apply_mask(params)
        return params._replace(W=init.with_radius(params.W, radius))

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
        return self.apply_mask(params)

    @cached_property
    def options(self) -> Options:
        """What the scans are told about the configuration."""
        return Options(activations.NAMES.index(self.activation), self.leak)

    @property
    def _saves(self) -> bool:
        return self.leak != 1       # else h_t is σ(a_t)


# ---------------------------------------------------------------------------------------------- one unit


@njit(forceinline=True)
def point_forward(options, a, old, extra):
    """h_t; σ(a_t) is saved where the leak makes it differ from h_t."""
    y, h = activate_any(options.activation, a[0]), old[0]
    if options.leak == 1:
        return (y,), (y,)
    return (simd.fma(simd.const(h, options.leak), y - h, h),), (y,)


@njit(forceinline=True)
def point_backward(options, saved, old, new, extra, dnew):
    """δ_t, and (1−α) e_t."""
    e = dnew[0]
    if options.leak == 1:
        return (activate_grad_any(options.activation, new[0]) * e,), (simd.const(e, 0.0),)
    alpha = simd.const(e, options.leak)
    return (activate_grad_any(options.activation, saved[0]) * (alpha * e),), (simd.const(e, 1 - options.leak) * e,)


@njit
def direct(options):
    """Part of the error of h_t reaches h_{t−1} through the leak."""
    return options.leak != 1


FORMS[RNNParams] = Form(
    Layout(columns=1, input_columns=1, first_gate=0, recurrent_first=0, recurrent=1), states=1, saved=1,
    point_forward=point_forward, point_backward=point_backward, direct=direct)
