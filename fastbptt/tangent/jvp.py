"""Forward mode: the change of all states along a direction of the parameters, the input and the initial state."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import NONE, Array
from ..bptt.directions import reverse_sequences
from ..bptt.dropout import dropped
from ..bptt.execute import Scan, output_of, scans_of
from ..bptt.tape import CheckpointTape, StackTape, Tape
from ..cells.tangent import tangent_kernel
from ..engine.threads import pool_for
from ..errors import check_directions, check_kept_steps, check_params, check_tape
from ..tree import first_array


class Tangent:
    """What `jvp` returns: the tangents of the states of all steps, in the shapes of the tape.

    `h` and `c` are read-only views; `final` is a copy. At padded steps the last valid tangent is repeated.
    """

    def __init__(self, tape: Tape):
        self._tape = tape

    @property
    def h(self) -> Array:
        """(T, B, H): ḣ_t of steps 1 … T; of a stack its last layer's, with two directions (T, B, 2H)."""
        return self._tape.h

    @property
    def c(self) -> Array:
        """(T, B, H): ċ_t of steps 1 … T of an LSTM."""
        return self._tape.c

    @property
    def final(self) -> Any:
        """The tangent of the State after the last valid step of every sequence."""
        return self._tape.final

    @property
    def layers(self) -> Any:
        """The Tangent of every layer of a stack, with two directions a pair of them."""
        return self._tape.cell.per_layer(Tangent(scan) for scan in self._tape.scans)

    @property
    def scans(self) -> list[Tape]:
        """The tangents of every scan, as a tape has its states: layer by layer, forward before reverse."""
        return self._tape.scans


def jvp(cell: Any, params: Any, tape: Tape, dparams: Any = None, dx: Any = None, dstate: Any = None) -> Tangent:
    """Jacobian-vector product: the derivative of all states along a direction, in one pass.

    ḣ_t = d/dε h_t(θ + ε θ̇, x + ε ẋ, h_0 + ε ḣ_0) at ε = 0. With ⟨u, h⟩ for the loss of `backward`,
    ⟨u, ḣ⟩ = ⟨grads.params, θ̇⟩ + ⟨grads.x, ẋ⟩ + ⟨grads.state, ḣ_0⟩. Masks, lengths, resets, noise and dropout are the
    tape's.

    Parameters
    ----------
    cell, params
        As given to `forward`.
    tape : Tape
        From `forward`, of all steps; it is not changed.
    dparams : like params, optional
        θ̇; connections that a mask removes do not count.
    dx : (T, B, I), optional
        ẋ, for real x; not read at padded steps.
    dstate : State, optional
        The tangent of the initial state, to which resets return.

    Returns
    -------
    Tangent
        `.h` and `.final`, like those of the tape; of an LSTM also `.c`, of a stack also `.layers`.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or dtype, no direction is given, or the tape is one of checkpoints.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> cell = fb.RNN(input_size=1, hidden_size=1, activation="identity")
    >>> params = fb.RNNParams(np.ones((1, 1)), np.full((1, 1), 0.5), np.zeros(1))
    >>> tape = fb.forward(cell, params, np.zeros((4, 1, 1)))
    >>> fb.jvp(cell, params, tape, dstate=fb.RNNState(np.ones((1, 1)))).h.ravel()
    array([0.5   , 0.25  , 0.125 , 0.0625])

    References
    ----------
    B. A. Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6(1), 1994; R. J. Williams and D. Zipser,
    Neural Computation 1(2), 1989.
    """
    params = check_params(cell, params)
    check_tape(cell, tape, Tape, first_array(params).dtype)
    check_kept_steps(tape, CheckpointTape)
    dparams, dx, dstate = check_directions(cell, params, tape, dparams, dx, dstate)
    return Tangent(run_tangents(cell, params, tape, dparams, dx, dstate))


def run_tangents(cell: Any, params: Any, tape: Tape, dparams: Any, dx: Array | None, dstate: Any) -> Tape:
    """`jvp` of checked arguments, as a tape of tangents."""
    scans, ways = scans_of(cell, params, tape.initial), 1 + cell.bidirectional
    directions = [None] * len(scans) if dparams is None else cell.flatten(dparams)
    lengths, found = tape.batch.lengths, []
    for k, (scan, own, dp, ds) in enumerate(zip(scans, tape.scans, directions, cell.flatten(dstate), strict=True)):
        given = np.ascontiguousarray(reverse_sequences(dx, lengths)) if scan.reverse and dx is not None else dx
        found.append(scan_tangents(scan, own, dp, given, ds))
        if k % ways == ways - 1:
            h = output_of(found[-ways:], lengths)
            dx = dropped(cell, h, tape.masks[k // ways])
    return found[0] if cell.layers[0] is cell else StackTape(cell, tape.batch, found, tape.masks, h)


def scan_tangents(scan: Scan, tape: Tape, dparams: Any, dx: Array | None, dstate: Any) -> Tape:
    """The tangents of one scan."""
    cell, dtype, (T, B) = scan.cell, scan.dtype, tape.batch.x.shape[:2]
    states = [np.empty((T + 1, B, cell.hidden_size), dtype) for _ in dstate]
    out = cell.tape_type(*states, NONE[dtype])
    varied = dparams is not None
    direction = (tuple(cell.apply_mask(dparams)) if varied else scan.params, varied, NONE[dtype] if dx is None else dx)
    with pool_for(2 * cell.row_flops * T * B) as pool:
        tangent_kernel(cell.tape_type, cell.state_type, cell.params_type)(
            tuple(out), tuple(tape.arrays), tuple(tape.batch), tuple(scan.initial), tuple(dstate), scan.params, direction,
            tuple(cell.options), pool)
    return Tape(cell, out, tape.batch, dstate)
