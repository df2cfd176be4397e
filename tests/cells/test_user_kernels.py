"""A user's own @njit function calls the scans and an activation."""
from __future__ import annotations

import numpy as np
from numba import njit

import fastbptt as fb
from fastbptt.arrays import NO_RESETS, NONE, Batch, Errors, Grads
from fastbptt.bptt.passes import plan_passes
from fastbptt.cells import scan_backward, scan_forward
from fastbptt.engine import activations


@njit
def whole_gradient(tape, batch, initial, params, options, passes, grads, errors):
    """Forward, an error of tanh(h), backward over chunks of 3 steps."""
    scan_forward(tape, batch, initial, params, options)
    for t in range(errors.h.shape[0]):
        for b in range(errors.h.shape[1]):
            for j in range(errors.h.shape[2]):
                errors.h[t, b, j] = activations.tanh(tape.h[t + 1, b, j])
    scan_backward(grads, errors, tape, batch, initial, params, options, passes)


def test_equals_forward_and_backward():
    rng = np.random.default_rng(0)
    cell = fb.RNN(4, 7)
    params = cell.init(seed=2, dtype=np.float64)
    x = rng.normal(size=(8, 3, 4))
    initial = fb.RNNState(np.zeros((3, 7)))
    tape = cell.empty_tape(8, 3, np.float64)
    tape.h[0] = 0
    batch = Batch(x, np.full(3, 8), np.arange(3), NO_RESETS, NONE[np.dtype(np.float64)])
    passes = plan_passes(batch.lengths, 8, fb.Truncation.chunks(3), cell.sizes)
    grads = Grads(fb.RNNParams(*map(np.zeros_like, params)), np.zeros_like(x), fb.RNNState(np.zeros((3, 7))))
    errors = Errors(np.empty((8, 3, 7)), fb.RNNState(np.zeros((3, 7))), grads.state)
    whole_gradient(tape, batch, initial, params, cell.options, passes, grads, errors)
    want = fb.forward(cell, params, x)
    wanted = fb.backward(cell, params, want, np.tanh(want.h), fb.Truncation.chunks(3))
    assert np.array_equal(tape.h[1:], want.h)
    for a, b in zip((*grads.params, grads.x, grads.state.h), (*wanted.params, wanted.x, wanted.state.h), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14)
