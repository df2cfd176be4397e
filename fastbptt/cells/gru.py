"""Gated recurrent unit, gates in the order r z n, with the reset gate after the recurrent product or before it.

    r = sigmoid(U_r x_t + W_r h_{t−1} + b_r),    z = sigmoid(U_z x_t + W_z h_{t−1} + b_z)
    after:   n = tanh(U_n x_t + b_n + r ⊙ m),    m = W_n h_{t−1} + b_hn                      (cuDNN, PyTorch)
    before:  n = tanh(U_n x_t + b_n + W_n (r ⊙ h_{t−1}))                                     (Cho et al.; ONNX's default)
    h_t = (1−z) ⊙ n + z ⊙ h_{t−1}

Backward, with e = ∂L/∂h_t:

    δ_n = e ⊙ (1−z) ⊙ (1−n²),    δ_z = e ⊙ (h_{t−1} − n) ⊙ z(1−z)
    after:   δ_r = δ_n ⊙ m ⊙ r(1−r),                                  e ← e ⊙ z + W_rᵀ δ_r + W_zᵀ δ_z + W_nᵀ (r ⊙ δ_n)
    before:  q = W_nᵀ δ_n,    δ_r = q ⊙ h_{t−1} ⊙ r(1−r),             e ← e ⊙ z + W_rᵀ δ_r + W_zᵀ δ_z + r ⊙ q

Saved per step and unit are five floats (after): h, r, z, n and m; or four (before): h, r, z and n.
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
from ..engine.panels import add_row, gather_row, put, take, vectors_in
from ..errors import check_choice, check_size
from . import init, protocol
from .inputs import take_before
from .recurrent import is_of


class GRUParams(NamedTuple):
    """Parameters of the GRU with the reset gate after the recurrent product, and their gradients; gates r z n."""

    U: Array
    """(3H, I) input to gates."""
    W: Array
    """(3H, H) hidden to gates."""
    b: Array
    """(3H,) what is added to U x."""
    b_hn: Array
    """(H,) what is added to W_n h_{t−1}, under the reset gate."""


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
    """What the forward scan of the GRU keeps."""

    h: Array
    """(T+1, B, H), row 0 the initial state."""
    gates: Array
    """(T, B, 4H): r, z, n, m; or (T, B, 3H): r, z, n."""


@dataclass(frozen=True)
class GRU:
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
    options: ClassVar[Options] = Options()
    mask: ClassVar[None] = None

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
        """Initial parameters: each gate's block of W by `recurrent`, times `gain`, of U by `input`; biases are 0 but for b_z.

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
            b_z: z keeps the old state here, so above 0 the cell begins by remembering.
        chrono : int, optional
            Longest dependency expected, in steps, at least 2: b_z = log(u) with u uniform on 1 … chrono−1, instead of
            `forget_bias` (Tallec & Ollivier, "Can recurrent neural networks warp time?", 2018).
        """
        rng = np.random.default_rng(seed)
        arrays = init.gated_blocks(self, rng, dtype, recurrent, input, gain)
        H = self.hidden_size
        arrays["b"][H:2 * H] = init.memory_bias(rng, H, forget_bias, chrono)
        return self.params_type(**arrays)

    def project(self, params: Any) -> Any:
        """The parameters themselves: nothing restricts them."""
        return params

    def empty_tape(self, T: int, B: int, dtype: Any) -> GRUTape:
        """An uninitialised tape for the scans."""
        H, saved = self.hidden_size, 4 if self.reset == "after" else 3
        return GRUTape(np.empty((T + 1, B, H), dtype), np.empty((T, B, saved * H), dtype))


# ============================================================================================== reset after
# Working row: what the input gives to n, then r, z, and m, which W_n h_{t−1} is added to.


@overload(protocol.layout)
def _layout_after(params):
    return (lambda params: protocol.Layout(4, 3, 2, 1, 3)) if is_of(params, GRUParams) else None


@overload(protocol.start_rows)
def _start_rows(params, z, count, dims):
    if not is_of(params, GRUParams):
        return None

    def start(params, z, count, dims):
        for m in range(count):
            gather_row(z, m * dims.row + 3 * dims.Hp, dims.Hp, params.b_hn, 0, dims.H)
    return start


@njit(forceinline=True)
def point_forward_after(tape, work, first, n, dims):
    """n rows: gates and h_t into the tape and the working state, from the pre-activations in `work.z`."""
    h, saved = simd.flat(tape.h), simd.flat(tape.gates)
    H, Hp = dims.H, dims.Hp
    for i in range(n):
        place = work.places[first + i]
        a, s, gates, to = (first + i) * dims.row, i * dims.state_row, place * 4 * H, (place + dims.B) * H
        for j in range(0, Hp, simd.lanes(work.z)):
            r = sigmoid(simd.load(work.z, a + Hp + j))
            z = sigmoid(simd.load(work.z, a + 2 * Hp + j))
            m = simd.load(work.z, a + 3 * Hp + j)
            new = tanh(simd.fma(r, m, simd.load(work.z, a + j)))
            y = simd.fma(z, simd.load(work.state, s + j) - new, new)
            simd.store(work.state, s + j, y)
            put(saved, gates + j, r, H - j)
            put(saved, gates + H + j, z, H - j)
            put(saved, gates + 2 * H + j, new, H - j)
            put(saved, gates + 3 * H + j, m, H - j)
            put(h, to + j, y, H - j)


@njit(forceinline=True)
def point_backward_after(tape, initial, work, first, n, dims):
    """n rows: δ_n, δ_r, δ_z and r ⊙ δ_n from the error carried, of which e ⊙ z stays in `work.carry`."""
    h, first_h, saved = simd.flat(tape.h), simd.flat(initial.h), simd.flat(tape.gates)
    H, Hp = dims.H, dims.Hp
    for i in range(n):
        place, before = work.places[first + i], work.before[first + i]
        delta, s, gates = (first + i) * dims.row, i * dims.state_row, place * 4 * H
        for j in range(0, Hp, simd.lanes(work.delta)):
            left = H - j
            r, z = take(saved, gates + j, left), take(saved, gates + H + j, left)
            new, m = take(saved, gates + 2 * H + j, left), take(saved, gates + 3 * H + j, left)
            e = simd.load(work.carry, s + j)
            kept = e * z
            d_n = (e - kept) * tanh_grad(new)
            simd.store(work.delta, delta + j, d_n)
            simd.store(work.delta, delta + Hp + j, d_n * m * sigmoid_grad(r))
            simd.store(work.delta, delta + 2 * Hp + j, e * (take_before(h, first_h, before, j, dims) - new) * sigmoid_grad(z))
            simd.store(work.delta, delta + 3 * Hp + j, d_n * r)
            simd.store(work.carry, s + j, kept)


@overload(protocol.step_forward)
def _step_forward_after(params, options, tape, work, dims, first, n):
    if not is_of(params, GRUParams):
        return None

    def step(params, options, tape, work, dims, first, n):
        rows_times_panels(work.z, first * dims.row + dims.Hp, dims.row, work.state, 0, dims.state_row, n, dims.H, work.weights, 0,
                          vectors_in(3 * dims.Hp, work.z), True)
        point_forward_after(tape, work, first, n, dims)
    return step


@overload(protocol.step_backward)
def _step_backward_after(params, options, tape, initial, work, dims, first, n):
    if not is_of(params, GRUParams):
        return None

    def step(params, options, tape, initial, work, dims, first, n):
        point_backward_after(tape, initial, work, first, n, dims)
        rows_times_panels(work.carry, 0, dims.state_row, work.delta, first * dims.row + dims.Hp, dims.row, n, 3 * dims.Hp,
                          work.weights, 0, vectors_in(dims.Hp, work.carry), True)
    return step


@overload(protocol.own_partial)
def _own_partial(params, dims):
    return (lambda params, dims: dims.Hp) if is_of(params, GRUParams) else None


@overload(protocol.own_gradients)
def _own_gradients(params, tape, initial, partial, at, work, count, dims):
    if not is_of(params, GRUParams):
        return None

    def gradients(params, tape, initial, partial, at, work, count, dims):
        for m in range(count):
            add_row(partial, at, work.delta, m * dims.row + 3 * dims.Hp, dims.Hp)
    return gradients


@overload(protocol.add_own_partial)
def _add_own_partial(dparams, partial, at, dims):
    if not is_of(dparams, GRUParams):
        return None
    return lambda dparams, partial, at, dims: add_row(dparams.b_hn, 0, partial, at, dims.H)
