"""What the operators compute: `fb.forward` and `fb.backward` on tensors, packed or not, with the tape as tensors.

A scan is one direction of one layer, or several layers where a truncation needs their joint state. Weights of several layers
lie one below the other; of weight_ih the first layer's apart, as its inputs have another size.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..arrays import NO_RESETS, NONE, Array, Batch
from ..bptt.api import backward, forward
from ..bptt.dropout import draw_mask, dropped
from ..bptt.stack import Stack
from ..bptt.tape import StackTape, Tape
from ..bptt.truncation import Truncation
from ..cells import CELLS
from .packing import Packing, packing_of
from .threads import as_many_threads

OPTION = {"RNN": "activation", "GRU": "reset", "LSTM": "peephole"}
from_numpy = torch.from_numpy


class Inputs(NamedTuple):
    """The tensors that a scan reads; None where there are none."""

    x: Any
    """(T, B, I), or packed (N, I)."""
    h0: Any
    """(L, B, H); not None for packed x."""
    c0: Any
    w_ih: Any
    """(G·H, I) of the first layer."""
    w_hh: Any
    """(L·G·H, H)."""
    b_ih: Any
    """(L·G·H,)."""
    b_hh: Any
    peephole: Any
    """(L·3, H), rows i, f and o."""
    w_upper: Any
    """((L−1)·G·H, H): weight_ih of the layers above the first."""
    batch_sizes: Any
    """(T,) of a PackedSequence."""
    seed: Any
    """(1,) of the dropout between layers."""


DIFFERENTIABLE = 9      # of the inputs: all but batch_sizes and seed


class Tapes(NamedTuple):
    """What a scan keeps for its backward pass; None where the cell has none."""

    h: Any
    """(T+1, B, H), of joint layers (L, T+1, B, H)."""
    c: Any
    gates: Any
    """(T, B, ·), of joint layers (L, T, B, ·)."""


class Config(NamedTuple):
    """What a scan knows beside its tensors, in numbers and words that an exported graph can hold."""

    cell: str
    """The name of a cell and its option: "RNN tanh", "GRU after", "LSTM", "LSTM peephole" …"""
    reverse: bool
    layers: int
    dropout: float
    horizon: int
    """0: full BPTT."""
    stride: int
    clip: float
    """0: none."""


class Scan:
    """A config, and what follows from it and from the sizes of the weights."""

    def __init__(self, config: Config, inputs: int, hidden: int):
        self.config, self.reverse = config, config.reverse
        name, _, option = config.cell.partition(" ")
        options: dict[str, Any] = {OPTION[name]: name == "LSTM" or option} if option else {}
        cells = [CELLS[name](inputs if i == 0 else hidden, hidden, **options) for i in range(config.layers)]
        self.cell: Any = cells[0] if config.layers == 1 else Stack(cells, dropout=config.dropout)
        self.parts: tuple[Any, ...] = self.cell.scans
        self.alone = len(self.parts) == 1
        self.params_type, self.tape_type, self.state_type = cells[0].params_type, cells[0].tape_type, cells[0].state_type
        self.inner_bias, self.peephole = "b_hn" in cells[0].shapes, "P" in cells[0].shapes
        self.two_states, self.saved = len(self.state_type._fields) == 2, cells[0].form.saved if cells[0]._saves else 0
        self.truncation = Truncation(config.horizon, config.stride) if config.horizon else None
        self.clip = config.clip or None

    def unpack(self, arrays: Any) -> tuple[Any, Any, Any]:
        """h, c and gates of the arrays of a tape; None where there are none."""
        return arrays[0], arrays[1] if self.two_states else None, arrays[-1] if self.saved else None


@lru_cache(maxsize=256)
def scan_of(config: Config, inputs: int, hidden: int) -> Scan:
    """The scan of an operator's arguments."""
    return Scan(config, inputs, hidden)


def tensors(arrays: Any) -> tuple[Any, ...]:
    """Tensors of the same memory; None of None."""
    return tuple([None if a is None else from_numpy(a) for a in arrays])


def array(tensor: Any) -> Any:
    """A tensor as NumPy sees it; None of None."""
    return None if tensor is None else tensor.numpy(force=True)


def layers(arrays: list[Array]) -> Tensor:
    """A leading axis for the layers."""
    return from_numpy(arrays[0][None] if len(arrays) == 1 else np.stack(arrays))


def below_each_other(arrays: list[Array]) -> Tensor:
    """The arrays of the layers along their first axis."""
    return from_numpy(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))


def params_of(scan: Scan, given: Inputs) -> Any:
    """The Params of a cell or a stack: b = bias_ih + bias_hh, but for what is inside the reset of a GRU."""
    _, _, _, w_ih, w_hh, b_ih, b_hh, P, upper, _, _ = given
    U, W, P = w_ih.numpy(force=True), w_hh.numpy(force=True), array(P)
    b_ih, b_hh = (array(b) for b in ((b_ih, b_hh) if b_ih is not None else (torch.zeros(len(W), dtype=w_hh.dtype),) * 2))
    if scan.alone:
        return _layer_params(scan, U, W, b_ih, b_hh, P)
    rows, upper, params = len(U), array(upper), []
    for layer in range(len(scan.parts)):
        own = slice(layer * rows, (layer + 1) * rows)
        inputs = U if layer == 0 else upper[(layer - 1) * rows:layer * rows]
        peephole = None if P is None else P[3 * layer:3 * layer + 3]
        params.append(_layer_params(scan, inputs, W[own], b_ih[own], b_hh[own], peephole))
    return scan.cell.per_layer(params)


def _layer_params(scan: Scan, U: Array, W: Array, b_ih: Array, b_hh: Array, P: Array | None) -> Any:
    b = b_ih + b_hh
    if scan.inner_bias:
        H = W.shape[1]
        b[-H:] = b_ih[-H:]
        return scan.params_type(U, W, b, b_hh[-H:])
    return scan.params_type(U, W, b) if P is None else scan.params_type(U, W, b, P)


def _state_of(scan: Scan, h: Any, c: Any) -> Any:
    """The State of a cell or a stack from (L, B, H); None from None."""
    if h is None:
        return None
    both = (h, c) if scan.two_states else (h,)
    return scan.cell.per_layer(scan.state_type(*[s[i] for s in both]) for i in range(len(scan.parts)))


def _seed_of(given: Inputs) -> int | None:
    return None if given.seed is None else int(given.seed[0])


def _ordered(rows: Array, packing: Packing | None, scan: Scan) -> Array:
    """(T, B, ·) as the scan reads it: padded, and in reverse."""
    if packing is not None:
        return packing.padded(rows, scan.reverse)
    return rows[::-1] if scan.reverse else rows


def _restored(values: Array, packing: Packing | None, scan: Scan) -> Array:
    """The opposite, in the form of x."""
    if packing is not None:
        return packing.packed(values, scan.reverse)
    return values[::-1] if scan.reverse else values


def run_forward(scan: Scan, given: Inputs) -> tuple[tuple[Any, ...], Tapes, Any]:
    """(output, h_n, c_n), the tape, and what `run_backward` need not check again. No two of the tensors share memory."""
    x = given.x.numpy(force=True)
    if x.size == 0:
        return _without_sequences(scan, given)
    packing = None if given.batch_sizes is None else packing_of(array(given.batch_sizes))
    lengths = None if packing is None else packing.lengths
    state = None if given.h0 is None else _state_of(scan, array(given.h0), array(given.c0))
    with as_many_threads():
        tape = forward(scan.cell, params_of(scan, given), _ordered(x, packing, scan), state, lengths, seed=_seed_of(given))
    if scan.alone:
        h, c, gates = scan.unpack(tape.arrays)
        out, h_n, c_n = h[1:], h[-1:], None if c is None else c[-1:]
    else:
        h, c, gates = scan.unpack([np.stack(kind) for kind in zip(*[own.arrays for own in tape.scans], strict=True)])
        out, h_n, c_n = h[-1, 1:], h[:, -1], None if c is None else c[:, -1]
    results = _restored(out, packing, scan).copy(), h_n.copy(), None if c_n is None else c_n.copy()
    return tensors(results), Tapes(*tensors((h, c, gates))), tape.checked


@lru_cache(maxsize=16)
def _all_steps(T: int, B: int) -> tuple[Array, Array]:
    """Lengths of sequences that are all valid, and their order; nothing writes to them."""
    return np.full(B, T), np.arange(B)


def _tape_of(scan: Scan, tapes: Tapes, batch: Batch, seed: int | None) -> Tape:
    """The tape of `forward` from what travelled as tensors."""
    arrays = [t.numpy() for t in tapes if t is not None]
    arrays += [] if scan.saved else [NONE[batch.x.dtype]]
    states = 1 + scan.two_states
    if scan.alone:
        return Tape(scan.cell, scan.tape_type(*arrays), batch, scan.state_type(*[a[0] for a in arrays[:states]]))
    found, masks, x = [], [], batch.x
    for layer, part in enumerate(scan.parts):
        own = [a[layer] if a.size else a for a in arrays]
        found.append(Tape(part, scan.tape_type(*own), batch._replace(x=x), scan.state_type(*[a[0] for a in own[:states]])))
        h = own[0][1:]
        masks.append(draw_mask(scan.cell, seed, layer, h.shape))
        x = dropped(scan.cell, h, masks[-1])
    return StackTape(scan.cell, batch, found, masks, x)


def run_backward(scan: Scan, errors: Any, tapes: Tapes, given: Inputs, checked: Any = None) -> tuple[Any, ...]:
    """Gradients of the differentiable inputs from those of output, h_n and c_n, any of which may be None."""
    x = given.x.numpy(force=True)
    if x.size == 0:
        return tuple([None if t is None else torch.zeros_like(t) for t in given[:DIFFERENTIABLE]])
    packing = None if given.batch_sizes is None else packing_of(array(given.batch_sizes))
    x, (dout, dh_n, dc_n) = np.ascontiguousarray(_ordered(x, packing, scan)), errors
    lengths, order = _all_steps(*x.shape[:2]) if packing is None else (packing.lengths, packing.order)
    tape = _tape_of(scan, tapes, Batch(x, lengths, order, NO_RESETS, NONE[x.dtype]), _seed_of(given))
    if checked is None:
        params = params_of(scan, given)
    else:
        params, tape.checked = checked[0], checked
    dh = np.zeros(tape.h.shape, x.dtype) if dout is None else _ordered(dout.numpy(force=True), packing, scan)
    dfinal = None if dh_n is None and dc_n is None else _final_errors(scan, array(dh_n), array(dc_n))
    with as_many_threads():
        grads = backward(scan.cell, params, tape, dh, scan.truncation, dfinal=dfinal, clip_state=scan.clip)
    return _gradients(scan, grads, np.ascontiguousarray(_restored(grads.x, packing, scan)), given)


def _final_errors(scan: Scan, dh_n: Any, dc_n: Any) -> Any:
    """The State of the errors of the final states, 0 where there are none."""
    dh_n = np.zeros_like(dc_n) if dh_n is None else dh_n
    return _state_of(scan, dh_n, np.zeros_like(dh_n) if dc_n is None else dc_n)


def _gradients(scan: Scan, grads: Any, dx: Array, given: Inputs) -> tuple[Any, ...]:
    """In the order of the inputs, None where there is no input."""
    params, states = scan.cell.flatten(grads.params), scan.cell.flatten(grads.state)
    db_ih = db_hh = None
    if given.b_ih is not None:
        # Two tensors: one for both would be added to twice by the next backward pass.
        db_ih = below_each_other([own.b for own in params])
        db_hh = below_each_other([np.concatenate([own.b[:-len(own.b_hn)], own.b_hn]) if scan.inner_bias else own.b.copy()
                                  for own in params])
    return (from_numpy(dx), None if given.h0 is None else layers([s[0] for s in states]),
            None if given.c0 is None else layers([s[1] for s in states]), below_each_other([params[0].U]),
            below_each_other([own.W for own in params]), db_ih, db_hh,
            None if given.peephole is None else below_each_other([own.P for own in params]),
            None if given.w_upper is None else below_each_other([own.U for own in params[1:]]))


Make = Callable[..., Tensor]


def like_forward(scan: Scan, given: Inputs, make: Make) -> tuple[Any, ...]:
    """Output, h_n, c_n, and the tape, made by `make` from shapes alone; None where there is none."""
    x, H, L = given.x, given.w_hh.shape[1], len(scan.parts)
    packed = given.batch_sizes is not None
    T, B = (given.batch_sizes.shape[0], given.h0.shape[1]) if packed else (x.shape[0], x.shape[1])

    def made(*shape: Any) -> Tensor:
        return make(shape, dtype=x.dtype, device=x.device)
    two, joint = scan.two_states, () if scan.alone else (L,)
    return (made(x.shape[0], H) if packed else made(T, B, H), made(L, B, H), made(L, B, H) if two else None,
            made(*joint, T + 1, B, H), made(*joint, T + 1, B, H) if two else None,
            made(*joint, T, B, scan.saved * H) if scan.saved else None)


def _without_sequences(scan: Scan, given: Inputs) -> tuple[tuple[Any, ...], Tapes, Any]:
    """What PyTorch gives for B = 0: results of that size, and no error."""
    results = like_forward(scan, given, torch.zeros)
    return results[:3], Tapes(*results[3:]), None
