"""The oracle of the tests: every definition of the library once more, as plain NumPy loops in float64.

Written to be read beside the equations, not to be fast: one sequence at a time, one step at a time, one end at a time, and
nothing saved but the states (each backward step replays its forward lines). Imports nothing of the package, so that no mistake
can be shared with it. Kinds of cells: "rnn", "gru_after", "gru_before", "lstm", "lstm_peephole".

Dimensions: T steps (numbered 1..T; states 0..T), B sequences, I inputs, H hidden units, O outputs, G gates,
S numbers of state (H, or 2H where the state is the pair (h, c); for a stack the sum over its layers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Params = dict[str, Array]

NAMES = {
    "rnn": ("U", "W", "b"),
    "gru_after": ("U", "W", "b", "b_hn"),
    "gru_before": ("U", "W", "b"),
    "lstm": ("U", "W", "b"),
    "lstm_peephole": ("U", "W", "b", "P"),
}


# --- activations ---


def sigmoid(a: Array) -> Array:
    """1 / (1 + e^-a), with the exponential taken of -|a| only, so that it never overflows."""
    e = np.exp(-np.abs(a))
    return np.asarray(np.where(a >= 0, 1.0, e) / (1.0 + e))


def activation(name: str, a: Array) -> Array:
    """y = σ(a)."""
    if name == "tanh":
        return np.tanh(a)
    if name == "sigmoid":
        return sigmoid(a)
    if name == "relu":
        return np.where(a <= 0, 0.0, a)  # NaN is not <= 0 and passes through
    if name == "leaky_relu":
        return np.where(a <= 0, 0.01 * a, a)
    if name == "identity":
        return np.array(a, dtype=np.float64)
    raise ValueError(f"activation: unknown name {name!r}")


def derivative(name: str, y: Array) -> Array:
    """σ′(a), computed from the output y = σ(a); the rectifiers take the left derivative at 0."""
    if name == "tanh":
        return 1.0 - y * y
    if name == "sigmoid":
        return y * (1.0 - y)
    if name == "relu":
        return np.where(y > 0, 1.0, 0.0)
    if name == "leaky_relu":
        return np.where(y > 0, 1.0, 0.01)
    if name == "identity":
        return np.ones_like(y)
    raise ValueError(f"activation: unknown name {name!r}")


STEEPEST = {"tanh": 1.0, "sigmoid": 0.25, "relu": 1.0, "leaky_relu": 1.0, "identity": 1.0}  # γ = max σ′


# --- one layer: its configuration, and one step of each kind ---


class Layer(NamedTuple):
    """One cell with its parameters: U (G·H, I), W (G·H, H), b (G·H,), and b_hn (H,) or P (3, H) where the kind has them.

    Only "rnn" reads the rest: leak α, noise (T, B, H) added to a_t, and a mask (H, H) of zeros and ones on W.
    """

    kind: str
    params: Any  # a mapping, or anything with the arrays as attributes
    activation: str = "tanh"
    leak: float = 1.0
    noise: Any = None
    mask: Any = None


class Cell(NamedTuple):
    """A Layer with float64 copies of its arrays, the mask already applied to W."""

    kind: str
    p: Params
    activation: str
    leak: float
    noise: Array | None
    mask: Array | None
    H: int
    S: int


def as_cell(layer: Layer) -> Cell:
    """The Layer in float64."""
    get = layer.params.__getitem__ if isinstance(layer.params, Mapping) else lambda name: getattr(layer.params, name)
    p = {name: np.array(get(name), dtype=np.float64) for name in NAMES[layer.kind]}
    mask = None if layer.mask is None else np.array(layer.mask, dtype=np.float64)
    if mask is not None:
        p["W"] = p["W"] * mask
    noise = None if layer.noise is None else np.array(layer.noise, dtype=np.float64)
    H = p["W"].shape[1]
    return Cell(layer.kind, p, layer.activation, layer.leak, noise, mask, H, 2 * H if layer.kind.startswith("lstm") else H)


class Step(NamedTuple):
    """What one step of one sequence makes: the new state (S,), and the values inside it by name."""

    state: Array
    values: dict[str, Array]


# h_t = (1 − α) h_{t−1} + α σ(a_t),  a_t = U x_t + W h_{t−1} + b + noise_t


def rnn_forward(cell: Cell, x: Array, h: Array, noise: Array | float) -> Step:
    """x (I,), h (H,) -> new h (H,)."""
    y = activation(cell.activation, cell.p["U"] @ x + cell.p["W"] @ h + cell.p["b"] + noise)
    return Step((1.0 - cell.leak) * h + cell.leak * y, {"y": y})


def rnn_backward(cell: Cell, x: Array, h: Array, noise: Array | float, dnew: Array, grads: Params) -> tuple[Array, Array]:
    """The error of the new state -> errors of x and of the old state; adds to grads."""
    y = rnn_forward(cell, x, h, noise).values["y"]
    da = cell.leak * dnew * derivative(cell.activation, y)
    grads["U"] += np.outer(da, x)
    grads["W"] += np.outer(da, h) if cell.mask is None else np.outer(da, h) * cell.mask
    grads["b"] += da
    return cell.p["U"].T @ da, (1.0 - cell.leak) * dnew + cell.p["W"].T @ da


def rnn_jacobian(cell: Cell, x: Array, h: Array, noise: Array | float) -> Array:
    """(1 − α) 1 + α diag(σ′(a)) W."""
    y = rnn_forward(cell, x, h, noise).values["y"]
    return (1.0 - cell.leak) * np.eye(cell.H) + cell.leak * np.diag(derivative(cell.activation, y)) @ cell.p["W"]


# Both GRUs: r = σ(U_r x + W_r h + b_r),  z = σ(U_z x + W_z h + b_z),  h_t = (1 − z) n + z h_{t−1}
# reset after the product:  n = tanh(U_n x + b_n + r (W_n h + b_hn));  before it:  n = tanh(U_n x + b_n + W_n (r h))


def gru_forward(cell: Cell, x: Array, h: Array, noise: Array | float) -> Step:
    """x (I,), h (H,) -> new h (H,); gates stacked r, z, n."""
    u_r, u_z, u_n = np.split(cell.p["U"] @ x + cell.p["b"], 3)
    W_r, W_z, W_n = np.split(cell.p["W"], 3)
    r, z = sigmoid(u_r + W_r @ h), sigmoid(u_z + W_z @ h)
    if cell.kind == "gru_after":
        m = W_n @ h + cell.p["b_hn"]
        n = np.tanh(u_n + r * m)
    else:
        m = W_n @ (r * h)
        n = np.tanh(u_n + m)
    return Step((1.0 - z) * n + z * h, {"r": r, "z": z, "n": n, "m": m})


def gru_backward(cell: Cell, x: Array, h: Array, noise: Array | float, dnew: Array, grads: Params) -> tuple[Array, Array]:
    """The error of the new state -> errors of x and of the old state; adds to grads."""
    v = gru_forward(cell, x, h, noise).values
    r, z, n, m = v["r"], v["z"], v["n"], v["m"]
    W_r, W_z, W_n = np.split(cell.p["W"], 3)
    H = cell.H
    da_z = dnew * (h - n) * z * (1.0 - z)
    da_n = dnew * (1.0 - z) * (1.0 - n * n)
    if cell.kind == "gru_after":
        dr, dm = da_n * m, da_n * r
        grads["b_hn"] += dm
        grads["W"][2 * H :] += np.outer(dm, h)
        dh_n = W_n.T @ dm
    else:
        drh = W_n.T @ da_n
        dr = drh * h
        grads["W"][2 * H :] += np.outer(da_n, r * h)
        dh_n = drh * r
    da_r = dr * r * (1.0 - r)
    grads["W"][:H] += np.outer(da_r, h)
    grads["W"][H : 2 * H] += np.outer(da_z, h)
    da = np.concatenate([da_r, da_z, da_n])
    grads["U"] += np.outer(da, x)
    grads["b"] += da
    return cell.p["U"].T @ da, dnew * z + W_r.T @ da_r + W_z.T @ da_z + dh_n


def gru_jacobian(cell: Cell, x: Array, h: Array, noise: Array | float) -> Array:
    """diag(z) + diag((h − n) z(1−z)) W_z + diag((1−z)(1−n²)) ∂(argument of tanh)/∂h."""
    v = gru_forward(cell, x, h, noise).values
    r, z, n, m = v["r"], v["z"], v["n"], v["m"]
    W_r, W_z, W_n = np.split(cell.p["W"], 3)
    dr = np.diag(r * (1.0 - r)) @ W_r
    dz = np.diag(z * (1.0 - z)) @ W_z
    if cell.kind == "gru_after":
        inner = np.diag(r) @ W_n + np.diag(m) @ dr
    else:
        inner = W_n @ (np.diag(r) + np.diag(h) @ dr)
    return np.diag(z) + np.diag(h - n) @ dz + np.diag((1.0 - z) * (1.0 - n * n)) @ inner


# i, f, o = σ(…), g = tanh(…) of U x + W h + b, stacked i, f, g, o;  c_t = f c_{t−1} + i g,  h_t = o tanh(c_t)
# peepholes add P_i c_{t−1}, P_f c_{t−1} and P_o c_t to the arguments of i, f and o


def lstm_forward(cell: Cell, x: Array, state: Array, noise: Array | float) -> Step:
    """x (I,), state (h, c) in one vector (2H,) -> new (h, c)."""
    h, c = np.split(state, 2)
    P = cell.p.get("P", np.zeros((3, cell.H)))
    a_i, a_f, a_g, a_o = np.split(cell.p["U"] @ x + cell.p["W"] @ h + cell.p["b"], 4)
    i, f, g = sigmoid(a_i + P[0] * c), sigmoid(a_f + P[1] * c), np.tanh(a_g)
    c_new = f * c + i * g
    o, k = sigmoid(a_o + P[2] * c_new), np.tanh(c_new)
    return Step(np.concatenate([o * k, c_new]), {"i": i, "f": f, "g": g, "o": o, "k": k, "c_new": c_new})


def lstm_backward(cell: Cell, x: Array, state: Array, noise: Array | float, dnew: Array, grads: Params) -> tuple[Array, Array]:
    """The error of the new (h, c) -> errors of x and of the old (h, c); adds to grads."""
    v = lstm_forward(cell, x, state, noise).values
    i, f, g, o, k, c_new = v["i"], v["f"], v["g"], v["o"], v["k"], v["c_new"]
    h, c = np.split(state, 2)
    P = cell.p.get("P", np.zeros((3, cell.H)))
    dh, dc = np.split(dnew, 2)
    da_o = dh * k * o * (1.0 - o)
    dc = dc + dh * o * (1.0 - k * k) + da_o * P[2]
    da_i = dc * g * i * (1.0 - i)
    da_f = dc * c * f * (1.0 - f)
    da_g = dc * i * (1.0 - g * g)
    da = np.concatenate([da_i, da_f, da_g, da_o])
    grads["U"] += np.outer(da, x)
    grads["W"] += np.outer(da, h)
    grads["b"] += da
    if "P" in grads:
        grads["P"] += np.stack([da_i * c, da_f * c, da_o * c_new])
    return cell.p["U"].T @ da, np.concatenate([cell.p["W"].T @ da, dc * f + da_i * P[0] + da_f * P[1]])


def lstm_jacobian(cell: Cell, x: Array, state: Array, noise: Array | float) -> Array:
    """The four blocks of ∂(h, c)_t / ∂(h, c)_{t−1}."""
    v = lstm_forward(cell, x, state, noise).values
    i, f, g, o, k = v["i"], v["f"], v["g"], v["o"], v["k"]
    c = state[cell.H :]
    P = cell.p.get("P", np.zeros((3, cell.H)))
    W_i, W_f, W_g, W_o = np.split(cell.p["W"], 4)
    by_i, by_f = g * i * (1.0 - i), c * f * (1.0 - f)  # ∂c_t by the arguments of i and f
    c_h = np.diag(by_i) @ W_i + np.diag(by_f) @ W_f + np.diag(i * (1.0 - g * g)) @ W_g
    c_c = np.diag(f + by_i * P[0] + by_f * P[1])
    by_o = k * o * (1.0 - o)
    h_by_c = np.diag(o * (1.0 - k * k) + by_o * P[2])  # ∂h_t/∂c_t
    return np.block([[h_by_c @ c_h + np.diag(by_o) @ W_o, h_by_c @ c_c], [c_h, c_c]])


GRU = (gru_forward, gru_backward, gru_jacobian)
LSTM = (lstm_forward, lstm_backward, lstm_jacobian)
KINDS = {
    "rnn": (rnn_forward, rnn_backward, rnn_jacobian),
    "gru_after": GRU,
    "gru_before": GRU,
    "lstm": LSTM,
    "lstm_peephole": LSTM,
}


# --- through time: a stack is one cell whose state is the joint state of its layers ---


class Tape(NamedTuple):
    """What a forward pass leaves: the joint states (T+1, B, S), row 0 the initial one, and what was given."""

    cells: tuple[Cell, ...]
    x: NDArray[Any]
    states: Array
    lengths: NDArray[np.intp]
    resets: NDArray[np.bool_]
    dropout: tuple[Array, ...]  # between layer l and l + 1: factors (T, B, H_l)

    @property
    def layers(self) -> tuple[tuple[Array, ...], ...]:
        """Per layer (h,) or (h, c), each (T+1, B, H)."""
        return split_state(self.cells, self.states)

    @property
    def h(self) -> Array:
        """h of the last layer, (T+1, B, H)."""
        return self.layers[-1][0]

    @property
    def c(self) -> Array:
        """c of the last layer, (T+1, B, H); only where it is an LSTM."""
        return self.layers[-1][1]

    @property
    def final(self) -> tuple[tuple[Array, ...], ...]:
        """Per layer the state after the last valid step; row T, because padded steps hold it."""
        return split_state(self.cells, self.states[-1])


class Grads(NamedTuple):
    """Gradients: params by name, x (T, B, I) or None for ids, state (h,) or (h, c); for a stack params and state per layer."""

    params: Any
    x: Array | None
    state: Any


def split_state(cells: Sequence[Cell], joint: Array) -> tuple[tuple[Array, ...], ...]:
    """(..., S) -> per layer (h,) or (h, c)."""
    parts = np.split(joint, np.cumsum([cell.S for cell in cells])[:-1], axis=-1)
    return tuple(tuple(np.split(part, cell.S // cell.H, axis=-1)) for cell, part in zip(cells, parts, strict=True))


def input_vector(cells: Sequence[Cell], x: NDArray[Any], t: int, b: int) -> Array:
    """x_t of sequence b, (I,); an integer id stands for a one-hot vector."""
    if x.ndim == 3:
        return np.array(x[t - 1, b], dtype=np.float64)
    one_hot = np.zeros(cells[0].p["U"].shape[1])
    one_hot[x[t - 1, b]] = 1.0
    return one_hot


def noise_at(cell: Cell, t: int, b: int) -> Array | float:
    """The noise of step t and sequence b."""
    return 0.0 if cell.noise is None else cell.noise[t - 1, b]


def entering(tape: Tape, t: int, b: int) -> Array:
    """The joint state that step t starts from: state t − 1, or the initial one at a reset."""
    state: Array = tape.states[0, b] if tape.resets[t - 1, b] else tape.states[t - 1, b]
    return state


def layer_inputs(tape: Tape, t: int, b: int) -> tuple[list[Array], list[Array], Array]:
    """Step t of sequence b, layer after layer: the inputs and the old states of the layers, and the new joint state."""
    x = input_vector(tape.cells, tape.x, t, b)
    olds = np.split(entering(tape, t, b), np.cumsum([cell.S for cell in tape.cells])[:-1])
    inputs: list[Array] = []
    news: list[Array] = []
    for depth, (cell, old) in enumerate(zip(tape.cells, olds, strict=True)):
        if depth > 0:
            x = news[-1][: tape.cells[depth - 1].H]
            x = x * tape.dropout[depth - 1][t - 1, b] if tape.dropout else x
        inputs.append(x)
        news.append(KINDS[cell.kind][0](cell, x, old, noise_at(cell, t, b)).state)
    return inputs, olds, np.concatenate(news)


def layers_backward(
    tape: Tape, t: int, b: int, dnew: Array, grads: Sequence[Params], clip_state: float | None = None
) -> tuple[Array, Array]:
    """Step t of sequence b, last layer first: the error of the new joint state -> errors of x_t and of the old joint state.

    With clip_state, what each layer hands to step t − 1, taken over all of its state, is scaled down to that norm.
    """
    inputs, olds, _ = layer_inputs(tape, t, b)
    dnews = np.split(dnew, np.cumsum([cell.S for cell in tape.cells])[:-1])
    dolds: list[Array] = []
    dx = np.zeros(0)
    for depth in reversed(range(len(tape.cells))):
        cell, error = tape.cells[depth], dnews[depth].copy()
        if depth + 1 < len(tape.cells):
            error[: cell.H] += dx * tape.dropout[depth][t - 1, b] if tape.dropout else dx
        dx, dold = KINDS[cell.kind][1](cell, inputs[depth], olds[depth], noise_at(cell, t, b), error, grads[depth])
        norm = np.linalg.norm(dold)
        if clip_state is not None and norm > clip_state:
            dold = dold * (clip_state / norm)
        dolds.insert(0, dold)
    return dx, np.concatenate(dolds)


def stack_forward(
    layers: Iterable[Layer],
    x: Any,
    states: Any = None,
    lengths: Any = None,
    resets: Any = None,
    dropout: Sequence[Any] = (),
) -> Tape:
    """All steps of a stack of layers, the state held at padded steps and returned to the initial one before a reset.

    x (T, B, I) or ids (T, B); states: per layer (h,) or (h, c), each (B, H), None for zeros; lengths (B,); resets (T, B);
    dropout: for each layer but the last, the factors (T, B, H) of its outputs on their way to the next.
    """
    cells = tuple(as_cell(layer) for layer in layers)
    x = np.asarray(x)
    T, B = x.shape[:2]
    joint = np.zeros((T + 1, B, sum(cell.S for cell in cells)))
    if states is not None:
        joint[0] = np.concatenate([np.asarray(array, dtype=np.float64) for state in states for array in state], axis=-1)
    n = np.full(B, T) if lengths is None else np.asarray(lengths)
    restart = np.zeros((T, B), dtype=bool) if resets is None else np.asarray(resets, dtype=bool)
    tape = Tape(cells, x, joint, n, restart, tuple(np.asarray(d, dtype=np.float64) for d in dropout))
    for b in range(B):
        for t in range(1, T + 1):
            joint[t, b] = layer_inputs(tape, t, b)[2] if t <= n[b] else joint[t - 1, b]
    return tape


def ends(length: int, stride: int) -> list[int]:
    """The multiples of the stride below the length, and the length itself."""
    return [*range(stride, length, stride), length]


def injections(dh: Any, b: int, steps: Iterable[int]) -> dict[int, Array]:
    """∂L/∂h_t of sequence b, by step."""
    return {t: np.array(dh[t - 1][b], dtype=np.float64) for t in steps}


def one_pass(
    tape: Tape,
    b: int,
    first: int,
    end: int,
    injected: Mapping[int, Array],
    into: Callable[[int], Sequence[Params]],
    clip_state: float | None = None,
) -> tuple[dict[int, Array], Array, dict[int, Array]]:
    """Errors injected at some steps go back through steps end … first of sequence b.

    What steps do to the parameters is added to `into(t)`. Gives dL/dx_t by step, what arrives at the initial state (S,) (from
    step 1 and from resets), and the error of each step's new state. What leaves step first > 1 is dropped.
    """
    below = tape.states.shape[-1] - tape.cells[-1].S
    top = slice(below, below + tape.cells[-1].H)  # h of the last layer
    carried, start = np.zeros(tape.states.shape[-1]), np.zeros(tape.states.shape[-1])
    dx, errors = {}, {}
    for t in range(end, first - 1, -1):
        if t in injected:
            carried[top] += injected[t]
        errors[t] = carried.copy()
        dx[t], carried = layers_backward(tape, t, b, carried, into(t), clip_state)
        if t == 1 or tape.resets[t - 1, b]:
            start += carried
            carried = np.zeros_like(carried)
    return dx, start, errors


def zeros(tape: Tape, *leading: int) -> list[Params]:
    """Zero gradients of the parameters of every layer, with leading axes."""
    return [{name: np.zeros((*leading, *array.shape)) for name, array in cell.p.items()} for cell in tape.cells]


def entry(grads: Sequence[Params], *index: int) -> list[Params]:
    """Views into gradients with leading axes."""
    return [{name: array[index] for name, array in layer.items()} for layer in grads]


def stack_backward(tape: Tape, dh: Any, truncation: tuple[int, int] | None = None, clip_state: float | None = None) -> Grads:
    """Gradients of L from dh (T, B, H) = ∂L/∂h_t of the last layer; truncation (horizon, stride): every end its own pass.

    Ends are counted along each sequence's own length; at end e, with p the end before it, the errors of steps p+1 … e go
    back through steps max(1, e − horizon + 1) … e of all layers.
    """
    grads = zeros(tape)
    T, B = tape.x.shape[:2]
    dx = np.zeros((T, B, tape.cells[0].p["U"].shape[1]))
    dstate = np.zeros(tape.states.shape[1:])
    for b in range(B):
        n = int(tape.lengths[b])
        horizon, stride = truncation or (n, n)
        previous = 0
        for end in ends(n, stride):
            injected = injections(dh, b, range(previous + 1, end + 1))
            first = max(1, end - horizon + 1)
            dx_end, start, _ = one_pass(tape, b, first, end, injected, lambda t: grads, clip_state)
            dstate[b] += start
            for t, error in dx_end.items():
                dx[t - 1, b] += error
            previous = end
    return Grads(tuple(grads), dx if tape.x.ndim == 3 else None, split_state(tape.cells, dstate))


def forward(
    kind: str,
    params: Any,
    x: Any,
    state: Any = None,
    lengths: Any = None,
    resets: Any = None,
    *,
    activation: str = "tanh",
    leak: float = 1.0,
    noise: Any = None,
    mask: Any = None,
) -> Tape:
    """All steps of one layer: tape.h (T+1, B, H), and tape.c for the LSTM; state (h,), (h, c), or an array h (B, H)."""
    if state is not None:
        state = [state if isinstance(state, tuple) else (state,)]
    return stack_forward([Layer(kind, params, activation, leak, noise, mask)], x, state, lengths, resets)


def backward(tape: Tape, dh: Any, truncation: tuple[int, int] | None = None, clip_state: float | None = None) -> Grads:
    """Gradients of one layer, see stack_backward; params {name: array}, state (h,) or (h, c).

    clip_state θ: after every step of every pass, if the norm of the error of state t − 1 (over all of the state, before the
    errors injected at t − 1 join it; t = 1 and resets included) exceeds θ, it is scaled to θ.
    """
    grads = stack_backward(tape, dh, truncation, clip_state)
    return Grads(grads.params[0], grads.x, grads.state[0])


# --- two directions ---


class Bidirectional(NamedTuple):
    """Per layer the tapes of the two directions, the second in its own order of steps; output (T, B, 2H)."""

    tapes: tuple[tuple[Tape, Tape], ...]
    output: Array
    dropout: tuple[Array, ...]


def reverse(array: Any, lengths: NDArray[np.intp]) -> NDArray[Any]:
    """Each sequence's valid steps in reverse order, the padded ones where they were."""
    turned: NDArray[Any] = np.array(array)
    for b, n in enumerate(lengths):
        turned[:n, b] = turned[:n, b][::-1].copy()
    return turned


def bidirectional_forward(
    pairs: Sequence[tuple[Layer, Layer]], x: Any, states: Any = None, lengths: Any = None, dropout: Sequence[Any] = ()
) -> Bidirectional:
    """Layers of two directions: each reads the outputs of both directions of the one below; states: per layer a pair."""
    x = np.asarray(x)
    n = np.full(x.shape[1], x.shape[0]) if lengths is None else np.asarray(lengths)
    factors = tuple(np.asarray(d, dtype=np.float64) for d in dropout)
    tapes = []
    for depth, (ahead, back) in enumerate(pairs):
        if depth > 0 and factors:
            x = x * factors[depth - 1]
        first, second = (None, None) if states is None else states[depth]
        one = stack_forward([ahead], x, None if first is None else [first], n)
        two = stack_forward([back], reverse(x, n), None if second is None else [second], n)
        tapes.append((one, two))
        x = np.concatenate([one.h[1:], reverse(two.h[1:], n)], axis=-1)
    return Bidirectional(tuple(tapes), x, factors)


def bidirectional_backward(run: Bidirectional, dy: Any) -> Grads:
    """dy (T, B, 2H) -> params and state: per layer a pair, x (T, B, I) or None."""
    params: list[Any] = []
    states: list[Any] = []
    dx: Any = np.asarray(dy)
    for depth in reversed(range(len(run.tapes))):
        one, two = run.tapes[depth]
        H, n = one.cells[0].H, one.lengths
        ahead, back = backward(one, dx[..., :H]), backward(two, reverse(dx[..., H:], n))
        params.insert(0, (ahead.params, back.params))
        states.insert(0, (ahead.state, back.state))
        dx = None if ahead.x is None or back.x is None else ahead.x + reverse(back.x, n)
        if depth > 0 and run.dropout:
            dx = dx * run.dropout[depth - 1]
    return Grads(tuple(params), dx, tuple(states))


# --- gradients as data ---


def lag_gradients(tape: Tape, dh: Any, max_lag: int) -> tuple[Params, ...]:
    """Per layer the gradients with a leading axis (max_lag,): entry j holds what errors injected j steps later contribute."""
    grads = zeros(tape, max_lag)
    for b, n in enumerate(tape.lengths):
        for end in range(1, int(n) + 1):
            first = max(1, end - max_lag + 1)
            one_pass(tape, b, first, end, injections(dh, b, [end]), lambda t, end=end: entry(grads, end - t))  # type: ignore[misc]
    return tuple(grads)


def step_gradients(tape: Tape, dh: Any) -> tuple[Array, tuple[Params, ...]]:
    """∂L/∂state_t (T, B, S), and per layer what the use of the parameters at (t, b) contributes: leading axes (T, B)."""
    T, B, S = tape.x.shape[0], tape.x.shape[1], tape.states.shape[-1]
    errors, parts = np.zeros((T, B, S)), zeros(tape, T, B)
    for b, n in enumerate(tape.lengths):
        injected = injections(dh, b, range(1, int(n) + 1))
        _, _, by_step = one_pass(tape, b, 1, int(n), injected, lambda t, b=b: entry(parts, t - 1, b))  # type: ignore[misc]
        for t, error in by_step.items():
            errors[t - 1, b] = error
    return errors, tuple(parts)


def jacobians(tape: Tape) -> Array:
    """(T, B, S, S): entry t is ∂state_{t+1}/∂state_t of the joint state; the identity at padded steps, 0 at resets.

    One layer: its analytic formula. A stack: each row is what the backward step makes of a unit vector.
    """
    T, B, S = tape.x.shape[0], tape.x.shape[1], tape.states.shape[-1]
    J = np.zeros((T, B, S, S))
    for b in range(B):
        for t in range(1, T + 1):
            if t > tape.lengths[b]:
                J[t - 1, b] = np.eye(S)
            elif not tape.resets[t - 1, b]:
                cell = tape.cells[0]
                if len(tape.cells) == 1:
                    x = input_vector(tape.cells, tape.x, t, b)
                    J[t - 1, b] = KINDS[cell.kind][2](cell, x, tape.states[t - 1, b], noise_at(cell, t, b))
                else:
                    J[t - 1, b] = np.stack([layers_backward(tape, t, b, row, zeros(tape))[1] for row in np.eye(S)])
    return J


def jacobian_product(J: Array, start: int, stop: int) -> Array:
    """∂state_stop/∂state_start (B, S, S) from the step Jacobians (T, B, S, S): J_{stop−1} … J_start."""
    product: Array = np.broadcast_to(np.eye(J.shape[-1]), J.shape[1:]).copy()
    for t in range(start, stop):
        product = np.asarray(J[t] @ product)
    return product


def norm_bound(W: Any, activation: str, lag: int, leak: float = 1.0) -> float:
    """((1 − α) + α γ ‖W‖)^lag, which no ‖∂h_t/∂h_{t−lag}‖ of the vanilla RNN exceeds."""
    norm = np.linalg.norm(np.asarray(W, dtype=np.float64), 2)
    return float(((1.0 - leak) + leak * STEEPEST[activation] * norm) ** lag)


def measured_bound(J: Array, start: int, stop: int) -> Array:
    """Π ‖J_t‖ over t = start … stop − 1, (B,): the bound for gated cells."""
    return np.asarray(np.prod(np.linalg.norm(J[start:stop], 2, axis=(-2, -1)), axis=0))


def lyapunov(J: Array, k: int | None = None, transient: int = 0, begin: Array | None = None) -> Array:
    """(B, k) exponents per step, natural log, largest first: mean of log |R_ii| of Q R = J_t Q after the transient.

    `begin`: the columns (S, k) of the first Q, the first k units by default.

    A direction in which |R_ii| ≤ S ε ‖J_t Q‖_F |(1, x)| is lost to rounding, x the coefficients of its column in those before
    it: the step is singular there and the exponent −∞. From then on it comes after all others, whose directions would else
    depend on what rounding left of it.
    """
    T, B, S = J.shape[:3]
    k = S if k is None else k
    result = np.zeros((B, k))
    for b in range(B):
        Q, order = np.eye(S)[:, :k] if begin is None else begin, np.arange(k)
        for t in range(T):
            Q, size, order = _qr_lost_last(J[t, b] @ Q, order)
            if t >= transient:
                with np.errstate(divide="ignore"):
                    result[b, order] += np.log(size)
    return np.flip(np.sort(result / (T - transient), axis=1), axis=1)


def _qr_lost_last(M: Array, order: Any) -> tuple[Array, Array, Any]:
    """Q, with its columns where M has them, of the columns taken in this order but the lost ones last; |R_ii|, and that order."""
    error = M.shape[0] * np.finfo(float).eps * np.linalg.norm(M)
    kept: list[int] = []
    for i in order:
        x = np.linalg.lstsq(M[:, kept], M[:, i], rcond=None)[0] if kept else np.zeros(0)
        if np.linalg.norm(M[:, i] - M[:, kept] @ x) > error * np.sqrt(1 + x @ x):
            kept.append(int(i))
    order = np.array([*kept, *(i for i in order if i not in kept)])
    Q = np.empty_like(M)
    Q[:, order], R = np.linalg.qr(M[:, order])
    size = np.abs(np.diag(R))
    return Q, np.where(np.arange(len(order)) < len(kept), size, 0.0), order


# --- readout and losses ---


def readout_forward(V: Any, c: Any, h: Array) -> Array:
    """z = V h + c: h (T, B, H) -> (T, B, O)."""
    return np.asarray(h @ np.asarray(V, dtype=np.float64).T + np.asarray(c, dtype=np.float64))


def readout_backward(V: Any, h: Array, dz: Array) -> tuple[Array, Array, Array]:
    """dV (O, H), dc (O,), dh (T, B, H)."""
    V = np.asarray(V, dtype=np.float64)
    dV, dc, dh = np.zeros(V.shape), np.zeros(V.shape[0]), np.zeros(h.shape)
    for t in range(h.shape[0]):
        for b in range(h.shape[1]):
            dV += np.outer(dz[t, b], h[t, b])
            dc += dz[t, b]
            dh[t, b] = V.T @ dz[t, b]
    return dV, dc, dh


def output(loss: str, z: Array) -> Array:
    """ŷ = O(z): the identity, the logistic, or the softmax over the last axis."""
    if loss == "squared_error":
        return z
    if loss == "sigmoid_cross_entropy":
        return sigmoid(z)
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def point_loss(loss: str, z: Array, y: Any) -> tuple[float, Array]:
    """L of one step of one sequence from its logits z (O,), summed over outputs, and ∂L/∂z; y (O,), for softmax an id."""
    if loss == "squared_error":  # ½ (z − y)²
        return float(0.5 * np.sum((z - y) ** 2)), z - y
    if loss == "sigmoid_cross_entropy":  # −y log ŷ − (1−y) log(1−ŷ) = max(z, 0) − z y + log(1 + e^−|z|)
        return float(np.sum(np.maximum(z, 0.0) - z * y + np.log1p(np.exp(-np.abs(z))))), sigmoid(z) - y
    if loss == "softmax_cross_entropy":  # log Σ e^z − z_y, the largest z taken out
        with np.errstate(over="ignore"):  # differences of finite z may be −∞: e^−∞ = 0 is right
            shifted = z - z.max()
            log_sum = np.log(np.sum(np.exp(shifted)))
            dz = np.exp(shifted - log_sum)
            dz[y] -= 1.0
            return float(log_sum - shifted[y]), dz
    raise ValueError(f"loss: unknown name {loss!r}")


def loss_and_grad(
    loss: str,
    z: Any,
    y: Any,
    lengths: Any = None,
    weights: Any = None,
    mode: str = "many_to_many",
    reduction: str = "sum",
) -> tuple[float, Array, Array]:
    """The loss of logits z (T, B, O), its weighted terms (T, B), and ∂loss/∂z (T, B, O).

    y: many_to_many (T, B) ids or (T, B, O); many_to_one (B,) ids or (B, O), for the last valid step. weights (T, B). Terms of
    padded steps and of weight 0 are not counted and what stands there is not read. "mean" divides by the number counted.
    """
    z = np.asarray(z, dtype=np.float64)
    y = np.asarray(y)
    T, B = z.shape[:2]
    terms, dz, counted = np.zeros((T, B)), np.zeros(z.shape), 0
    for b in range(B):
        n = T if lengths is None else int(lengths[b])
        for t in range(n) if mode == "many_to_many" else [n - 1]:
            weight = 1.0 if weights is None else float(weights[t, b])
            if weight == 0.0:
                continue
            counted += 1
            value, error = point_loss(loss, z[t, b], y[t, b] if mode == "many_to_many" else y[b])
            terms[t, b], dz[t, b] = weight * value, weight * error
    scale = 1.0 / max(counted, 1) if reduction == "mean" else 1.0
    return float(terms.sum() * scale), terms, dz * scale


# --- for study: the explicit tensor, and three steps by hand ---


def explicit_tensor(activation: str, h: Array, right: Array) -> Array:
    """∂⁺h_p/∂M_{q,r} = σ′(a_p) right_r if p = q, else 0, for h = σ(… + M right): (H, H, len(right)).

    right is h_{k−1} for M = W, and x_k for M = U.
    """
    tensor = np.zeros((len(h), len(h), len(right)))
    for p in range(len(h)):
        tensor[p, p, :] = derivative(activation, h)[p] * right
    return tensor


def three_steps_by_hand(activation: str, W: Array, x: Array, h: Array, dh: Array) -> tuple[Array, Array]:
    """∂L/∂W and ∂L/∂U of one sequence of three steps: x (3, I), h (4, H) with h_0 first, dh (3, H) = ∂L_t/∂h_t.

    The ordered derivative, explicit plus implicit part: ∂h_t/∂W = ∂⁺h_t/∂W + (∂h_t/∂h_{t−1}) ∂h_{t−1}/∂W.
    """
    J2 = np.diag(derivative(activation, h[2])) @ W  # ∂h_2/∂h_1
    J3 = np.diag(derivative(activation, h[3])) @ W  # ∂h_3/∂h_2

    h1_W = explicit_tensor(activation, h[1], h[0])
    h2_W = explicit_tensor(activation, h[2], h[1]) + np.tensordot(J2, h1_W, 1)
    h3_W = explicit_tensor(activation, h[3], h[2]) + np.tensordot(J3, h2_W, 1)

    h1_U = explicit_tensor(activation, h[1], x[0])
    h2_U = explicit_tensor(activation, h[2], x[1]) + np.tensordot(J2, h1_U, 1)
    h3_U = explicit_tensor(activation, h[3], x[2]) + np.tensordot(J3, h2_U, 1)

    dW = np.tensordot(dh[0], h1_W, 1) + np.tensordot(dh[1], h2_W, 1) + np.tensordot(dh[2], h3_W, 1)
    dU = np.tensordot(dh[0], h1_U, 1) + np.tensordot(dh[1], h2_U, 1) + np.tensordot(dh[2], h3_U, 1)
    return dW, dU
