"""Gated recurrent unit, gates in the order r z n, with the reset gate after the recurrent product or before it.

    r = sigmoid(U_r x_t + W_r h_{t−1} + b_r),    z = sigmoid(U_z x_t + W_z h_{t−1} + b_z)
    after:   n = tanh(U_n x_t + b_n + r ⊙ m),    m = W_n h_{t−1} + b_hn                      (cuDNN, PyTorch)
    before:  n = tanh(U_n x_t + b_n + W_n (r ⊙ h_{t−1}))                                     (Cho et al.; ONNX's default)
    h_t = (1−z) ⊙ n + z ⊙ h_{t−1}

Backward, with e = ∂L/∂h_t:

    δ_n = e ⊙ (1−z) ⊙ (1−n²),    δ_z = e ⊙ (h_{t−1} − n) ⊙ z(1−z)
    after:   δ_r = δ_n ⊙ m ⊙ r(1−r),                                  e ← e ⊙ z + W_rᵀ δ_r + W_zᵀ δ_z + W_nᵀ (r ⊙ δ_n)
    before:  q = W_nᵀ δ_n,    δ_r = q ⊙ h_{t−1} ⊙ r(1−r),             e ← e ⊙ z + W_rᵀ δ_r + W_zᵀ δ_z + r ⊙ q

Saved per step and unit: h, r, z, n and m (after), or h, r, z and n (before).
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..arrays import Array
from ..engine import simd
from ..engine.activations import sigmoid, sigmoid_grad, tanh, tanh_grad
from ..engine.jit import njit
from ..errors import check_choice, check_size
from . import init
from .cell import Cell
from .form import FORMS, Form, Layout, SecondProduct, always


class GRUParams(NamedTuple):
    """Parameters of the GRU with the reset gate after the recurrent product, and their gradients; gates r z n."""

    U: Array
    """(3H, I) input to gates."""
    W: Array
    """(3H, H) hidden to gates."""
    b: Array
    """(3H,) bias, added to U x."""
    b_hn: Array
    """(H,) bias, added to W_n h_{t−1} before the reset gate multiplies it."""


class GRUBeforeParams(NamedTuple):
    """Parameters of the GRU with the reset gate before the recurrent product."""

    U: Array
    W: Array
    b: Array


class GRUState(NamedTuple):
    """State of the GRU."""

    h: Array
    """(B, H)."""


class GRUTape(NamedTuple):
    """What the forward scan of the GRU saves."""

    h: Array
    """(T+1, B, H), row 0 the initial state."""
    gates: Array
    """(T, B, 4H): r, z, n, m; or (T, B, 3H): r, z, n."""


@dataclass(frozen=True)
class GRU(Cell):
    """Gated recurrent unit: its configuration, no arrays.

        r, z = sigmoid(U x + W h_{t−1} + b),    h_t = (1−z) n + z h_{t−1}
        n = tanh(U_n x + b_n + r (W_n h_{t−1} + b_hn))  with reset="after",   tanh(U_n x + b_n + W_n (r h_{t−1}))  with "before"

    The tape holds per step, sequence and unit 20 bytes in float32, 40 in float64 (h, r, z, n and the recurrent part of n);
    with reset="before" 16 and 32 (h, r, z, n).

    Parameters
    ----------
    input_size, hidden_size : int
        I and H, at least 1.
    reset : {"after", "before"}
        Where the reset gate acts: on the recurrent product (PyTorch, cuDNN) or on the state that enters it.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer or `reset` is unknown.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.GRU(input_size=3, hidden_size=4)
    >>> fb.forward(cell, cell.init(seed=0), np.ones((5, 2, 3), np.float32)).h.shape
    (5, 2, 4)

    References
    ----------
    K. Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014.
    """

    input_size: int
    hidden_size: int
    reset: str = "after"

    state_type: ClassVar[type] = GRUState
    tape_type: ClassVar[type] = GRUTape
    gates: ClassVar[int] = 3
    candidate: ClassVar[int] = 2
    memory_bias: ClassVar[str] = "b_z of the GRU"

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", check_size("input_size", self.input_size))
        object.__setattr__(self, "hidden_size", check_size("hidden_size", self.hidden_size))
        check_choice("reset", self.reset, ("after", "before"))

    @cached_property
    def params_type(self) -> Any:
        """`GRUParams` or `GRUBeforeParams`."""
        return GRUParams if self.reset == "after" else GRUBeforeParams

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter."""
        H = self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"U": (3 * H, self.input_size), "W": (3 * H, H), "b": (3 * H,)}
        return {**shapes, "b_hn": (H,)} if self.reset == "after" else shapes

    def init(self, seed: int = 0, dtype: Any = np.float32, recurrent: str = "orthogonal", input: str = "glorot",
             gain: float = 1.0, forget_bias: float = 1.0, chrono: int | None = None) -> Any:
        """Initial parameters: each gate's block of W by `recurrent`, times `gain`, of U by `input`; biases are 0 except b_z.

        Parameters
        ----------
        seed : int
            Seed of NumPy's generator; the same seed gives the same parameters.
        dtype : float32 or float64
        recurrent : {"orthogonal", "identity", "glorot", "uniform"}
        input : {"glorot", "uniform"}
        gain : float
            Factor on W.
        forget_bias : float
            b_z: z keeps the old state, so a cell with a positive bias remembers from the start.
        chrono : int, optional
            Longest dependency expected, in steps, at least 2: b_z = log(u) with u uniform on 1 … chrono−1, instead of
            `forget_bias` (Tallec & Ollivier, "Can recurrent neural networks warp time?", 2018).
        """
        rng = np.random.default_rng(seed)
        arrays = init.gated_blocks(self, rng, dtype, recurrent, input, gain)
        H = self.hidden_size
        arrays["b"][H:2 * H] = init.memory_bias(rng, H, forget_bias, chrono)
        return self.params_type(**arrays)


# ---------------------------------------------------------------------------------------------- one unit, reset after
# Columns: the input's part of n, then r, z, and m, to which W_n h_{t−1} is added.


@njit(forceinline=True)
def after_forward(options, a, old, extra):
    """h_t; r, z, n and m are saved."""
    h, r, z = old[0], sigmoid(a[1]), sigmoid(a[2])
    m = a[3] + extra[0]
    n = tanh(simd.fma(r, m, a[0]))
    return (simd.fma(z, h - n, n),), (r, z, n, m)


@njit(forceinline=True)
def after_backward(options, saved, old, new, extra, dnew):
    """δ_n, δ_r, δ_z and r ⊙ δ_n, and e ⊙ z."""
    r, z, n, m = saved
    e = dnew[0]
    kept = e * z
    d_n = (e - kept) * tanh_grad(n)
    return (d_n, d_n * m * sigmoid_grad(r), e * (old[0] - n) * sigmoid_grad(z), d_n * r), (kept,)


@njit(forceinline=True)
def after_gradients(da, old, new):
    """∂L/∂b_hn."""
    return (da[3],)


FORMS[GRUParams] = Form(
    Layout(columns=4, input_columns=3, first_gate=2, recurrent_first=1, recurrent=3), states=1, saved=4,
    point_forward=after_forward, point_backward=after_backward, direct=always, extra="b_hn", extra_count=1,
    extra_backward=after_gradients)


# ---------------------------------------------------------------------------------------------- one unit, reset before
# Columns: r, z, n, and r ⊙ h_{t−1}, which W_n multiplies.


@njit(forceinline=True)
def reset_forward(options, a, old):
    """r and r ⊙ h_{t−1}."""
    r = sigmoid(a[0])
    return r, r * old[0]


@njit(forceinline=True)
def reset_backward(saved, old, q):
    """δ_r and r ⊙ q, from q = W_nᵀ δ_n."""
    return q * old[0] * sigmoid_grad(saved[0]), q * saved[0]


@njit(forceinline=True)
def reset_value(saved, old):
    """r ⊙ h_{t−1}."""
    return saved[0] * old[0]


@njit(forceinline=True)
def before_forward(options, a, old, extra):
    """h_t; r, z and n are saved."""
    z, n = sigmoid(a[1]), tanh(a[2])
    return (simd.fma(z, old[0] - n, n),), (a[0], z, n)


@njit(forceinline=True)
def before_backward(options, saved, old, new, extra, dnew):
    """δ_z and δ_n, and e ⊙ z; r acts through the product alone."""
    z, n = saved[1], saved[2]
    e = dnew[0]
    kept, none = e * z, simd.const(e, 0.0)
    return (none, e * (old[0] - n) * sigmoid_grad(z), (e - kept) * tanh_grad(n), none), (kept,)


FORMS[GRUBeforeParams] = Form(
    Layout(columns=4, input_columns=3, first_gate=0, recurrent_first=0, recurrent=3), states=1, saved=3,
    point_forward=before_forward, point_backward=before_backward, direct=always,
    second_product=SecondProduct(reset_forward, reset_backward, reset_value))
