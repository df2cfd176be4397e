"""The arithmetic of the GRU whose reset gate comes before the recurrent product; equations in `gru.py`.

The candidate's product needs r, so a step has two products forward and two back, which the common ones do not fit.
"""
from __future__ import annotations

from ..engine import simd
from ..engine.activations import sigmoid, sigmoid_grad, tanh, tanh_grad
from ..engine.gemm import columns_times_panels, rows_times_panels
from ..engine.jit import njit, overload
from ..engine.panels import pack_rows, pack_transposed, panel_place, put, take, vectors_in
from ..engine.primitives import empty
from . import protocol
from .gru import GRUBeforeParams
from .inputs import gather_panels, take_before
from .recurrent import OTHERWISE, is_of

# Working row: r, z, n. What passes between the two products of a step lies in the place of r: it has been saved by then.

OTHERWISE.add(GRUBeforeParams)


@overload(protocol.layout)
def _layout_before(params):
    return (lambda params: protocol.Layout(3, 3, 0, 0, 3)) if is_of(params, GRUBeforeParams) else None


@overload(protocol.pack_forward, allocates=True)
def _pack_forward(params, dims):
    if not is_of(params, GRUBeforeParams):
        return None

    def pack(params, dims):
        H, Hp, W = dims.H, dims.Hp, simd.flat(params.W)
        out = empty(H * 3 * Hp, params.W.dtype)
        for g in range(2):
            pack_transposed(out, 0, H, vectors_in(2 * Hp, out), g * Hp, W, g * H, H, H)
        pack_transposed(out, H * 2 * Hp, H, vectors_in(Hp, out), 0, W, 2 * H, H, H)
        return out
    return pack


@overload(protocol.pack_backward, allocates=True)
def _pack_backward(params, dims):
    if not is_of(params, GRUBeforeParams):
        return None

    def pack(params, dims):
        H, Hp, W = dims.H, dims.Hp, simd.flat(params.W)
        out = empty(3 * Hp * Hp, params.W.dtype)
        for g in range(2):
            pack_rows(out, 0, 2 * Hp, g * Hp, W, g * H, H, Hp, H, vectors_in(Hp, out))
        pack_rows(out, 2 * Hp * Hp, Hp, 0, W, 2 * H, H, Hp, H, vectors_in(Hp, out))
        return out
    return pack


@njit(forceinline=True)
def gates_forward(tape, work, first, n, dims):
    """n rows: r and z into the tape, r ⊙ h_{t−1} into the place of r, z activated."""
    saved, H, Hp = simd.flat(tape.gates), dims.H, dims.Hp
    for i in range(n):
        a, gates = (first + i) * dims.row, work.places[first + i] * 3 * H
        for j in range(0, Hp, simd.lanes(work.z)):
            r = sigmoid(simd.load(work.z, a + j))
            z = sigmoid(simd.load(work.z, a + Hp + j))
            put(saved, gates + j, r, H - j)
            put(saved, gates + H + j, z, H - j)
            simd.store(work.z, a + j, r * simd.load(work.state, i * dims.state_row + j))
            simd.store(work.z, a + Hp + j, z)


@njit(forceinline=True)
def point_forward_before(tape, work, first, n, dims):
    """n rows: n and h_t into the tape and the working state."""
    h, saved = simd.flat(tape.h), simd.flat(tape.gates)
    H, Hp = dims.H, dims.Hp
    for i in range(n):
        place = work.places[first + i]
        a, s = (first + i) * dims.row, i * dims.state_row
        for j in range(0, Hp, simd.lanes(work.z)):
            new = tanh(simd.load(work.z, a + 2 * Hp + j))
            y = simd.fma(simd.load(work.z, a + Hp + j), simd.load(work.state, s + j) - new, new)
            simd.store(work.state, s + j, y)
            put(saved, (place * 3 + 2) * H + j, new, H - j)
            put(h, (place + dims.B) * H + j, y, H - j)


@njit(forceinline=True)
def candidate_backward(tape, initial, work, first, n, dims):
    """n rows: δ_n and δ_z from the error carried, of which e ⊙ z stays in `work.carry`."""
    h, first_h, saved = simd.flat(tape.h), simd.flat(initial.h), simd.flat(tape.gates)
    H, Hp = dims.H, dims.Hp
    for i in range(n):
        place, before = work.places[first + i], work.before[first + i]
        delta, s = (first + i) * dims.row, i * dims.state_row
        for j in range(0, Hp, simd.lanes(work.delta)):
            z, new = take(saved, (place * 3 + 1) * H + j, H - j), take(saved, (place * 3 + 2) * H + j, H - j)
            e = simd.load(work.carry, s + j)
            kept = e * z
            simd.store(work.delta, delta + Hp + j, e * (take_before(h, first_h, before, j, dims) - new) * sigmoid_grad(z))
            simd.store(work.delta, delta + 2 * Hp + j, (e - kept) * tanh_grad(new))
            simd.store(work.carry, s + j, kept)


@njit(forceinline=True)
def point_backward_before(tape, initial, work, first, n, dims):
    """n rows: from q, in the place of δ_r, to δ_r; r ⊙ q is added to the error carried."""
    h, first_h, saved = simd.flat(tape.h), simd.flat(initial.h), simd.flat(tape.gates)
    for i in range(n):
        place, before = work.places[first + i], work.before[first + i]
        delta, s = (first + i) * dims.row, i * dims.state_row
        for j in range(0, dims.Hp, simd.lanes(work.delta)):
            r = take(saved, place * 3 * dims.H + j, dims.H - j)
            q = simd.load(work.delta, delta + j)
            simd.store(work.carry, s + j, simd.fma(q, r, simd.load(work.carry, s + j)))
            simd.store(work.delta, delta + j, q * take_before(h, first_h, before, j, dims) * sigmoid_grad(r))


@overload(protocol.step_forward)
def _step_forward_before(params, options, tape, work, dims, first, n):
    if not is_of(params, GRUBeforeParams):
        return None

    def step(params, options, tape, work, dims, first, n):
        H, Hp, at = dims.H, dims.Hp, first * dims.row
        rows_times_panels(work.z, at, dims.row, work.state, 0, dims.state_row, n, H, work.weights, 0,
                          vectors_in(2 * Hp, work.z), True)
        gates_forward(tape, work, first, n, dims)
        rows_times_panels(work.z, at + 2 * Hp, dims.row, work.z, at, dims.row, n, H, work.weights, 2 * H * Hp,
                          vectors_in(Hp, work.z), True)
        point_forward_before(tape, work, first, n, dims)
    return step


@overload(protocol.step_backward)
def _step_backward_before(params, options, tape, initial, work, dims, first, n):
    if not is_of(params, GRUBeforeParams):
        return None

    def step(params, options, tape, initial, work, dims, first, n):
        Hp, at = dims.Hp, first * dims.row
        candidate_backward(tape, initial, work, first, n, dims)
        rows_times_panels(work.delta, at, dims.row, work.delta, at + 2 * Hp, dims.row, n, Hp, work.weights, 2 * Hp * Hp,
                          vectors_in(Hp, work.delta), False)
        point_backward_before(tape, initial, work, first, n, dims)
        rows_times_panels(work.carry, 0, dims.state_row, work.delta, at, dims.row, n, 2 * Hp, work.weights, 0,
                          vectors_in(Hp, work.carry), True)
    return step


@overload(protocol.state_gradients)
def _state_gradients(params, tape, initial, partial, work, count, dims):
    if not is_of(params, GRUBeforeParams):
        return None

    def gradients(params, tape, initial, partial, work, count, dims):
        Hp, vectors, saved = dims.Hp, vectors_in(dims.Hp, partial), simd.flat(tape.gates)
        gather_panels(work.scratch, simd.flat(tape.h), simd.flat(initial.h), work.before, count, dims)
        columns_times_panels(partial, 0, Hp, work.delta, 0, dims.row, 2 * Hp, count, work.scratch, 0, vectors)
        for v in range(vectors):
            place, step = panel_place(v * simd.lanes(partial), count, vectors, partial)
            j = v * simd.lanes(partial)
            for m in range(count):
                at = place + m * step
                r = take(saved, work.places[m] * 3 * dims.H + j, dims.H - j)
                simd.store(work.scratch, at, r * simd.load(work.scratch, at))
        columns_times_panels(partial, 2 * Hp * Hp, Hp, work.delta, 2 * Hp, dims.row, Hp, count, work.scratch, 0, vectors)
    return gradients
