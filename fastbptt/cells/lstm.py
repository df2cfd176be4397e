"""Long short-term memory, gates in the order i f g o.

    a = U x_t + W h_{t−1} + b,    i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o),    g = tanh(a_g)
    c_t = f ⊙ c_{t−1} + i ⊙ g,    h_t = o ⊙ tanh(c_t)

With peephole connections P, rows i f o: a_i += P_i ⊙ c_{t−1}, a_f += P_f ⊙ c_{t−1}, a_o += P_o ⊙ c_t.

Backward, with e_h, e_c = ∂L/∂h_t, ∂L/∂c_t as they come from step t+1 and from dh_t:

    δ_o = e_h ⊙ tanh(c_t) ⊙ o(1−o),    e = e_c + e_h ⊙ o ⊙ (1 − tanh²(c_t)) [+ P_o ⊙ δ_o]
    δ_i = e ⊙ g ⊙ i(1−i),    δ_f = e ⊙ c_{t−1} ⊙ f(1−f),    δ_g = e ⊙ i ⊙ (1−g²)
    e_c ← e ⊙ f [+ P_i ⊙ δ_i + P_f ⊙ δ_f],    e_h ← Wᵀ δ

Saved per step and unit are six floats: h, c and the four gates; tanh(c_t) is computed again.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..arrays import Array, Options
from ..engine import simd
from ..engine.activations import sigmoid, sigmoid_grad, tanh, tanh_grad
from ..engine.gemm import rows_times_panels
from ..engine.jit import njit, overload
from ..engine.panels import add_row, put, take, vectors_in
from ..errors import check_flag, check_size
from . import init, protocol
from .inputs import take_before
from .recurrent import is_of


class LSTMParams(NamedTuple):
    """Parameters of the LSTM, and their gradients; gates i f g o."""

    U: Array
    """(4H, I) input to gates."""
    W: Array
    """(4H, H) hidden to gates."""
    b: Array
    """(4H,) what is added to U x."""


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
    """What the forward scan of the LSTM keeps."""

    h: Array
    """(T+1, B, H), row 0 the initial state."""
    c: Array
    """(T+1, B, H), row 0 the initial state."""
    gates: Array
    """(T, B, 4H): i, f, g, o."""


@dataclass(frozen=True)
class LSTM:
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
    options: ClassVar[Options] = Options()
    mask: ClassVar[None] = None

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
        """Initial parameters: each gate's block of W by `recurrent`, times `gain`, of U by `input`; b and P are 0 but for b_f.

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
            b_f: above 0 the cell begins by remembering.
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

    def project(self, params: Any) -> Any:
        """The parameters themselves: nothing restricts them."""
        return params

    def empty_tape(self, T: int, B: int, dtype: Any) -> LSTMTape:
        """An uninitialised tape for the scans."""
        H = self.hidden_size
        return LSTMTape(np.empty((T + 1, B, H), dtype), np.empty((T + 1, B, H), dtype), np.empty((T, B, 4 * H), dtype))


# ---------------------------------------------------------------------------------------------- peepholes


def peep(params: Any, gate: Any, c: Any, a: Any, j: Any, dims: Any) -> Any:
    """a + P_gate ⊙ c of vector j (gate 0 i, 1 f, 2 o); a where the cell has no peepholes."""
    raise NotImplementedError


@overload(peep)
def _peep(params, gate, c, a, j, dims):
    if is_of(params, LSTMPeepholeParams):
        return lambda params, gate, c, a, j, dims: simd.fma(take(simd.flat(params.P), gate * dims.H + j, dims.H - j), c, a)
    return lambda params, gate, c, a, j, dims: a


# ---------------------------------------------------------------------------------------------- one row's arithmetic


@njit(forceinline=True)
def point_forward(params, tape, work, first, n, dims):
    """n rows: gates, c_t and h_t into the tape and the working state, from the pre-activations in `work.z`."""
    h, c, saved = simd.flat(tape.h), simd.flat(tape.c), simd.flat(tape.gates)
    H, Hp = dims.H, dims.Hp
    for row in range(n):
        place = work.places[first + row]
        z, s, gates, to = (first + row) * dims.row, row * dims.state_row, place * 4 * H, (place + dims.B) * H
        for j in range(0, Hp, simd.lanes(work.z)):
            old = simd.load(work.state, s + Hp + j)
            i = sigmoid(peep(params, 0, old, simd.load(work.z, z + j), j, dims))
            f = sigmoid(peep(params, 1, old, simd.load(work.z, z + Hp + j), j, dims))
            g = tanh(simd.load(work.z, z + 2 * Hp + j))
            new = simd.fma(f, old, i * g)
            o = sigmoid(peep(params, 2, new, simd.load(work.z, z + 3 * Hp + j), j, dims))
            y = o * tanh(new)
            simd.store(work.state, s + j, y)
            simd.store(work.state, s + Hp + j, new)
            put(saved, gates + j, i, H - j)
            put(saved, gates + H + j, f, H - j)
            put(saved, gates + 2 * H + j, g, H - j)
            put(saved, gates + 3 * H + j, o, H - j)
            put(h, to + j, y, H - j)
            put(c, to + j, new, H - j)


@njit(forceinline=True)
def point_backward(params, tape, initial, work, first, n, dims):
    """n rows: δ of the gates from the errors carried; e_c of the step before into `work.carry`."""
    c, first_c, saved = simd.flat(tape.c), simd.flat(initial.c), simd.flat(tape.gates)
    H, Hp = dims.H, dims.Hp
    for row in range(n):
        place, before = work.places[first + row], work.before[first + row]
        delta, s, gates = (first + row) * dims.row, row * dims.state_row, place * 4 * H
        for j in range(0, Hp, simd.lanes(work.delta)):
            left = H - j
            i, f = take(saved, gates + j, left), take(saved, gates + H + j, left)
            g, o = take(saved, gates + 2 * H + j, left), take(saved, gates + 3 * H + j, left)
            y = tanh(take(c, (place + dims.B) * H + j, left))
            e = simd.load(work.carry, s + j)
            d_o = e * y * sigmoid_grad(o)
            e = simd.fma(e * o, tanh_grad(y), peep(params, 2, d_o, simd.load(work.carry, s + Hp + j), j, dims))
            d_i = e * g * sigmoid_grad(i)
            d_f = e * take_before(c, first_c, before, j, dims) * sigmoid_grad(f)
            simd.store(work.delta, delta + j, d_i)
            simd.store(work.delta, delta + Hp + j, d_f)
            simd.store(work.delta, delta + 2 * Hp + j, e * i * tanh_grad(g))
            simd.store(work.delta, delta + 3 * Hp + j, d_o)
            simd.store(work.carry, s + Hp + j, peep(params, 0, d_i, peep(params, 1, d_f, e * f, j, dims), j, dims))


# ---------------------------------------------------------------------------------------------- one step


@overload(protocol.step_forward)
def _step_forward(params, options, tape, work, dims, first, n):
    if not is_of(params, LSTMParams, LSTMPeepholeParams):
        return None

    def step(params, options, tape, work, dims, first, n):
        rows_times_panels(work.z, first * dims.row, dims.row, work.state, 0, dims.state_row, n, dims.H, work.weights, 0,
                          vectors_in(4 * dims.Hp, work.z), True)
        point_forward(params, tape, work, first, n, dims)
    return step


@overload(protocol.step_backward)
def _step_backward(params, options, tape, initial, work, dims, first, n):
    if not is_of(params, LSTMParams, LSTMPeepholeParams):
        return None

    def step(params, options, tape, initial, work, dims, first, n):
        point_backward(params, tape, initial, work, first, n, dims)
        rows_times_panels(work.carry, 0, dims.state_row, work.delta, first * dims.row, dims.row, n, 4 * dims.Hp, work.weights, 0,
                          vectors_in(dims.Hp, work.carry), False)
    return step


@overload(protocol.layout)
def _layout(params):
    return (lambda params: protocol.Layout(4, 4, 0, 0, 4)) if is_of(params, LSTMParams, LSTMPeepholeParams) else None


# ---------------------------------------------------------------------------------------------- gradient of P


@overload(protocol.start_rows)
def _start_rows(params, z, count, dims):
    return (lambda params, z, count, dims: None) if is_of(params, LSTMPeepholeParams) else None


@overload(protocol.own_partial)
def _own_partial(params, dims):
    return (lambda params, dims: 3 * dims.Hp) if is_of(params, LSTMPeepholeParams) else None


@overload(protocol.own_gradients)
def _own_gradients(params, tape, initial, partial, at, work, count, dims):
    if not is_of(params, LSTMPeepholeParams):
        return None

    def gradients(params, tape, initial, partial, at, work, count, dims):
        c, first_c, Hp = simd.flat(tape.c), simd.flat(initial.c), dims.Hp
        for m in range(count):
            delta, after = m * dims.row, (work.places[m] + dims.B) * dims.H
            for j in range(0, Hp, simd.lanes(partial)):
                old = take_before(c, first_c, work.before[m], j, dims)
                new = take(c, after + j, dims.H - j)
                to = at + j
                simd.store(partial, to, simd.fma(simd.load(work.delta, delta + j), old, simd.load(partial, to)))
                to += Hp
                simd.store(partial, to, simd.fma(simd.load(work.delta, delta + Hp + j), old, simd.load(partial, to)))
                to += Hp
                simd.store(partial, to, simd.fma(simd.load(work.delta, delta + 3 * Hp + j), new, simd.load(partial, to)))
    return gradients


@overload(protocol.add_own_partial)
def _add_own_partial(dparams, partial, at, dims):
    if not is_of(dparams, LSTMPeepholeParams):
        return None

    def add(dparams, partial, at, dims):
        for k in range(3):
            add_row(simd.flat(dparams.P), k * dims.H, partial, at + k * dims.Hp, dims.H)
    return add
