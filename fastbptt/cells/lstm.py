"""Long short-term memory, gates in the order i f g o.

    a = U x_t + W h_{t−1} + b,    i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o),    g = tanh(a_g)
    c_t = f ⊙ c_{t−1} + i ⊙ g,    h_t = o ⊙ tanh(c_t)

With peephole connections P, rows i f o: a_i += P_i ⊙ c_{t−1}, a_f += P_f ⊙ c_{t−1}, a_o += P_o ⊙ c_t.

Backward, with e_h, e_c = ∂L/∂h_t, ∂L/∂c_t from step t+1 and dh_t:

    δ_o = e_h ⊙ tanh(c_t) ⊙ o(1−o),    e = e_c + e_h ⊙ o ⊙ (1 − tanh²(c_t)) [+ P_o ⊙ δ_o]
    δ_i = e ⊙ g ⊙ i(1−i),    δ_f = e ⊙ c_{t−1} ⊙ f(1−f),    δ_g = e ⊙ i ⊙ (1−g²)
    e_c ← e ⊙ f [+ P_i ⊙ δ_i + P_f ⊙ δ_f],    e_h ← Wᵀ δ

Saved per step and unit: h, c and the four gates; tanh(c_t) is recomputed.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..arrays import Array
from ..engine import simd
from ..engine.activations import sigmoid, sigmoid_grad, tanh, tanh_grad
from ..engine.jit import njit, overload
from ..errors import check_flag, check_size
from . import init
from .cell import Cell
from .form import FORMS, Form, Layout, never


class LSTMParams(NamedTuple):
    """Parameters of the LSTM, and their gradients; gates i f g o."""

    U: Array
    """(4H, I) input to gates."""
    W: Array
    """(4H, H) hidden to gates."""
    b: Array
    """(4H,) bias, added to U x."""


class LSTMPeepholeParams(NamedTuple):
    """Parameters of the LSTM with peephole connections."""

    U: Array
    W: Array
    b: Array
    P: Array
    """(3, H) from the cell state to the gates i, f and o."""


class LSTMState(NamedTuple):
    """State of the LSTM."""

    h: Array
    """(B, H)."""
    c: Array
    """(B, H)."""


class LSTMTape(NamedTuple):
    """What the forward scan of the LSTM saves."""

    h: Array
    """(T+1, B, H), row 0 the initial state."""
    c: Array
    """(T+1, B, H), row 0 the initial state."""
    gates: Array
    """(T, B, 4H): i, f, g, o."""


@dataclass(frozen=True)
class LSTM(Cell):
    """Long short-term memory: its configuration, no arrays.

        i, f, o = sigmoid(U x + W h_{t−1} + b),  g = tanh(U x + W h_{t−1} + b),  c_t = f c_{t−1} + i g,  h_t = o tanh(c_t)

    The tape holds per step, sequence and unit 24 bytes in float32, 48 in float64 (h, c and the four gates).

    Parameters
    ----------
    input_size, hidden_size : int
        I and H, at least 1.
    peephole : bool
        Connections P from the cell state: i and f see c_{t−1}, o sees c_t.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer or `peephole` not a bool.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.LSTM(input_size=3, hidden_size=4)
    >>> tape = fb.forward(cell, cell.init(seed=0), np.ones((5, 2, 3), np.float32))
    >>> tape.h.shape, tape.c.shape, tape.final.c.shape
    ((5, 2, 4), (5, 2, 4), (2, 4))

    References
    ----------
    S. Hochreiter and J. Schmidhuber, Neural Computation 9(8), 1997; F. A. Gers, J. Schmidhuber and F. Cummins, Neural
    Computation 12(10), 2000 (forget gate); F. A. Gers, N. Schraudolph and J. Schmidhuber, JMLR 3, 2002 (peepholes).
    """

    input_size: int
    hidden_size: int
    peephole: bool = False

    state_type: ClassVar[type] = LSTMState
    tape_type: ClassVar[type] = LSTMTape
    gates: ClassVar[int] = 4
    candidate: ClassVar[int] = 2
    memory_bias: ClassVar[str] = "the forget-gate bias of the LSTM"

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", check_size("input_size", self.input_size))
        object.__setattr__(self, "hidden_size", check_size("hidden_size", self.hidden_size))
        object.__setattr__(self, "peephole", check_flag("peephole", self.peephole))

    @cached_property
    def params_type(self) -> Any:
        """`LSTMParams` or `LSTMPeepholeParams`."""
        return LSTMPeepholeParams if self.peephole else LSTMParams

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter."""
        H = self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"U": (4 * H, self.input_size), "W": (4 * H, H), "b": (4 * H,)}
        return {**shapes, "P": (3, H)} if self.peephole else shapes

    def init(self, seed: int = 0, dtype: Any = np.float32, recurrent: str = "orthogonal", input: str = "glorot",
             gain: float = 1.0, forget_bias: float = 1.0, chrono: int | None = None) -> Any:
        """Initial parameters: each gate's block of W by `recurrent`, times `gain`, of U by `input`; b and P are 0 except b_f.

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
            b_f: a cell with a positive bias remembers from the start.
        chrono : int, optional
            Longest dependency expected, in steps, at least 2: b_f = log(u) with u uniform on 1 … chrono−1, and b_i = −b_f,
            instead of `forget_bias` (Tallec & Ollivier, "Can recurrent neural networks warp time?", 2018).
        """
        rng = np.random.default_rng(seed)
        arrays = init.gated_blocks(self, rng, dtype, recurrent, input, gain)
        H, b = self.hidden_size, arrays["b"]
        memory = init.memory_bias(rng, H, forget_bias, chrono)
        b[H:2 * H] = memory
        if chrono is not None:
            b[:H] = -memory
        return self.params_type(**arrays)


# ---------------------------------------------------------------------------------------------- one unit


def add_peephole(extra: Any, gate: Any, c: Any, a: Any) -> Any:
    """a + P_gate ⊙ c (gate 0 i, 1 f, 2 o); a where the cell has no peepholes."""
    raise NotImplementedError


@overload(add_peephole)
def _add_peephole(extra, gate, c, a):
    if len(extra):
        return lambda extra, gate, c, a: simd.fma(extra[gate], c, a)
    return lambda extra, gate, c, a: a


@njit(forceinline=True)
def point_forward(options, a, old, extra):
    """h_t and c_t; the gates are saved."""
    c = old[1]
    i, f, g = sigmoid(add_peephole(extra, 0, c, a[0])), sigmoid(add_peephole(extra, 1, c, a[1])), tanh(a[2])
    new = simd.fma(f, c, i * g)
    o = sigmoid(add_peephole(extra, 2, new, a[3]))
    return (o * tanh(new), new), (i, f, g, o)


@njit(forceinline=True)
def point_backward(options, saved, old, new, extra, dnew):
    """δ of the gates, and e_c of the step before."""
    i, f, g, o = saved
    e_h, y = dnew[0], tanh(new[1])
    d_o = e_h * y * sigmoid_grad(o)
    e = simd.fma(e_h * o, tanh_grad(y), add_peephole(extra, 2, d_o, dnew[1]))
    d_i, d_f = e * g * sigmoid_grad(i), e * old[1] * sigmoid_grad(f)
    e_c = add_peephole(extra, 0, d_i, add_peephole(extra, 1, d_f, e * f))
    return (d_i, d_f, e * i * tanh_grad(g), d_o), (simd.const(e, 0.0), e_c)


@njit(forceinline=True)
def peephole_gradients(da, old, new):
    """Rows i, f and o of ∂L/∂P."""
    return da[0] * old[1], da[1] * old[1], da[3] * new[1]


FORMS[LSTMParams] = Form(
    Layout(columns=4, input_columns=4, first_gate=0, recurrent_first=0, recurrent=4), states=2, saved=4,
    point_forward=point_forward, point_backward=point_backward, direct=never)
FORMS[LSTMPeepholeParams] = FORMS[LSTMParams]._replace(extra="P", extra_count=3, extra_backward=peephole_gradients)
