"""The loop over time, forward and backward, once for every cell.

The type of the `Params` tuple chooses the cell: each cell file overloads the functions declared in the first section.
All rows of a scan (sequences forward, passes of BPTT backward) step together. A row's working state is dense and padded;
where its step lies in the arrays of the tape is said by an index, ``place = (t−1)·B + b`` for step t of sequence b:

- x, resets, noise, dh and the saved gates: row `place`;
- the state arrays of the tape (T+1 rows): before the step in row `place`, after it in row `place + B`.

Where a reset precedes the step, the state before it is row b of `initial`, written as the index ``−1−b``.
"""
from __future__ import annotations

import numpy as np

from ..engine.fork import run_shards
from ..engine.jit import njit
from ..engine.panels import add_row, copy_row, gather_row
from ..engine.shards import block_rows, shard_count
from .inputs import (
    add_input_partial,
    input_gradients,
    input_partial,
    input_rows,
    pack_input_gradient,
    pack_inputs,
)
from .protocol import (
    BackwardWork,
    ForwardWork,
    Panels,
    Parts,
    add_state_partial,
    measure,
    pack_backward,
    pack_forward,
    start_rows,
    state_gradients,
    state_partial,
    step_backward,
    step_forward,
)


@njit
def descending(keys):
    """Indices of `keys` (integers ≥ 0) by descending key, equal ones in their order: a counting sort, nothing to do if sorted."""
    n = keys.size
    order = np.empty(n, np.int64)
    largest, is_sorted = 0, True
    for i in range(n):
        order[i] = i
        largest = max(largest, keys[i])
        is_sorted &= i == 0 or keys[i - 1] >= keys[i]
    if not is_sorted:
        places = np.zeros(largest + 2, np.int64)
        for i in range(n):
            places[largest - keys[i] + 1] += 1
        for k in range(largest + 1):
            places[k + 1] += places[k]
        for i in range(n):
            order[places[largest - keys[i]]] = i
            places[largest - keys[i]] += 1
    return order


@njit
def load_state(state, i, source, b, dims):
    """Row i of the working states becomes row b of `source`, arrays (rows, H)."""
    for k in range(len(source)):
        gather_row(state, i * dims.state_row + k * dims.Hp, dims.Hp, source[k].ravel(), b * dims.H, dims.H)


@njit
def list_places(places, rows, lengths, start, stop, B):
    """`places` of the steps start+1 … stop of the rows still running, step after step; returns how many."""
    m, n = 0, rows.size
    for t in range(start, stop):
        while n > 0 and lengths[n - 1] <= t:
            n -= 1
        for i in range(n):
            places[m] = t * B + rows[i]
            m += 1
    return m


PASS_ROWS = 64       # passes that step back together: their errors stay in the first-level cache

# ---------------------------------------------------------------------------------------------- forward


@njit
def forward_shard(shard, arguments):
    """All steps of one shard's sequences."""
    order, shards, panels, tape, batch, initial, params, options = arguments
    d = measure(params, tape, initial)
    n = (order.size - shard + shards - 1) // shards
    rows, lengths = np.empty(n, np.int64), np.empty(n, np.int64)
    for i in range(n):
        rows[i] = order[shard + i * shards]
        lengths[i] = batch.lengths[rows[i]]
    dtype = params.U.dtype
    state = np.empty(n * d.state_row, dtype)
    for i in range(n):
        for k in range(len(initial)):
            gather_row(state, i * d.state_row + k * d.Hp, d.Hp, tape[k].ravel(), rows[i] * d.H, d.H)
    steps = min(d.T, max(1, block_rows(d.row + d.x_row) // n))
    places, before = np.empty(steps * n, np.int64), np.empty(steps * n, np.int64)
    work = ForwardWork(np.empty(steps * n * d.row, dtype), state, panels.state, places, before)
    xs = np.empty(steps * n * d.x_row, dtype)
    has_resets = batch.resets.size > 0
    for start in range(0, lengths[0], steps):
        stop = min(start + steps, lengths[0])
        m = list_places(work.places, rows, lengths, start, stop, d.B)
        input_rows(batch.x, work.z, xs, panels.inputs, params, work.places, m, d)
        start_rows(params, work.z, m, d)
        if batch.noise.size > 0:
            add_noise(work.z, batch.noise, work.places, m, d)
        first = 0
        for t in range(start, stop):
            while lengths[n - 1] <= t:
                n -= 1
            if has_resets:
                for i in range(n):
                    if batch.resets[t, rows[i]]:
                        load_state(state, i, initial, rows[i], d)
            step_forward(params, options, tape, work, d, first, n)
            first += n
    hold_states(rows, lengths, tape, len(initial), d)


@njit
def add_noise(z, noise, places, count, dims):
    """Add the noise to the pre-activations (cells with one gate)."""
    flat = noise.ravel()
    for m in range(count):
        for j in range(dims.H):
            z[m * dims.row + j] += flat[places[m] * dims.H + j]


@njit
def hold_states(rows, lengths, tape, states, dims):
    """Padded steps repeat the last valid state."""
    width = dims.B * dims.H
    for i in range(rows.size):
        for k in range(states):
            flat = tape[k].ravel()
            for t in range(lengths[i], dims.T):
                at = t * width + rows[i] * dims.H
                copy_row(flat, at + width, flat, at, dims.H)


@njit
def forward_panels(batch, params, d):
    """The weights as the forward scan reads them."""
    return Panels(pack_inputs(batch.x, params, d), pack_forward(params, d))


@njit
def scan_forward(tape, batch, initial, params, options, threads=1, launcher=0):
    """All steps of all sequences.

    Parameters
    ----------
    tape : the cell's tape tuple
        Outputs. Its state arrays (T+1, B, H) hold the initial state in row 0; rows 1 … T and the saved gates are written.
    batch : Batch
    initial : State of arrays (B, H)
        Where a reset leads back to.
    params, options : the cell's `Params`, `Options`
    threads, launcher : int
        How many threads, and the address from `fastbptt.engine.fork.launcher`; without them the calling thread does all.
    """
    panels = forward_panels(batch, params, measure(params, tape, initial))
    order = descending(batch.lengths)       # as steps go on, the rows still running are the first n
    shards = shard_count(order.size, tape[0].shape[2])
    run_shards(forward_shard, (order, shards, panels, tape, batch, initial, params, options), shards, threads, launcher)


# ---------------------------------------------------------------------------------------------- backward


@njit
def backward_shard(shard, arguments):
    """All passes of one shard, a block of them at a time: errors back through time, then the products with them.

    total : (T·B·row,) or empty; where passes overlap, δ is summed here, and the products wait until all passes are done.
    """
    parts_of, panels, total, grads, errors, tape, batch, initial, params, options, passes = arguments
    parts = Parts(parts_of.inputs[shard], parts_of.state[shard])
    rows = passes.rows[passes.bounds[shard]:passes.bounds[shard + 1]]
    for start in range(0, rows.shape[0], PASS_ROWS):
        run_passes(longest_first(rows, start), parts, panels, total, grads, errors, tape, batch, initial, params, options)
    if passes.overlap:
        summed_products(rows, parts, panels, total, grads, tape, batch, initial, params)


@njit
def longest_first(rows, start):
    """The passes of one block, those over most steps first."""
    n = min(PASS_ROWS, rows.shape[0] - start)
    steps = np.empty(n, np.int64)
    for i in range(n):
        steps[i] = rows[start + i, 1] - rows[start + i, 3]
    order = descending(steps)
    block = np.empty((n, 4), np.int64)
    for i in range(n):
        for k in range(4):
            block[i, k] = rows[start + order[i], k]
    return block


@njit
def backward_work(count, n, carry, weights, d):
    """Buffers for blocks of `count` rows of n passes."""
    places, before = np.empty(count, np.int64), np.empty(count, np.int64)
    return BackwardWork(np.empty(count * d.row, carry.dtype), carry, weights, places, before)


@njit
def run_passes(passes, parts, panels, total, grads, errors, tape, batch, initial, params, options):
    """A block of passes, all stepping back together, longest first."""
    d = measure(params, tape, initial)
    n = passes.shape[0]
    longest = passes[0, 1] - passes[0, 3]
    steps = min(longest, max(1, block_rows(d.row + d.x_row + d.Hp) // n))
    work = backward_work(steps * n, n, np.zeros(n * d.state_row, params.U.dtype), panels.state, d)
    for i in range(n):
        if passes[i, 1] == batch.lengths[passes[i, 0]]:
            load_state(work.carry, i, errors.incoming, passes[i, 0], d)
    dh = errors.h.ravel()
    m = 0
    for lag in range(longest):
        while passes[n - 1, 1] - passes[n - 1, 3] <= lag:
            n -= 1
        if m + n > work.places.size:
            shard_products(parts, panels, grads, work, m, tape, batch, initial, params)
            m = 0
        for i in range(n):
            step = passes[i, 1] - lag
            place = set_place(work, m + i, passes[i, 0], step, batch, d)
            if step > passes[i, 2]:
                add_row(work.carry, i * d.state_row, dh, place * d.H, d.H)
        step_backward(params, options, tape, initial, work, d, m, n)
        for i in range(n):
            leave_step(passes[i, 0], passes[i, 1] - lag, i, work.before[m + i], work.carry, grads.state, errors.outgoing, d)
        if passes_overlap(total):
            for i in range(n):
                add_row(total, work.places[m + i] * d.row, work.delta, (m + i) * d.row, d.row)
        else:
            m += n
    if m > 0:
        shard_products(parts, panels, grads, work, m, tape, batch, initial, params)


@njit(forceinline=True)
def passes_overlap(total):
    """Whether δ is summed over passes first."""
    return total.size > 0


@njit(forceinline=True)
def set_place(work, m, b, step, batch, d):
    """Note where row m of the block lies: step `step` of sequence b."""
    place = (step - 1) * d.B + b
    work.places[m] = place
    work.before[m] = -1 - b if batch.resets.size > 0 and batch.resets[step - 1, b] else place
    return place


@njit(forceinline=True)
def leave_step(b, step, i, before, carry, dinitial, outgoing, d):
    """Hand the error of row i to where it goes when it leaves its sequence: at a reset, and at step 1."""
    if before < 0:
        for k in range(len(dinitial)):
            at = i * d.state_row + k * d.Hp
            add_row(dinitial[k].ravel(), b * d.H, carry, at, d.H)
            for j in range(d.Hp):
                carry[at + j] = 0
    elif step == 1:
        for k in range(len(outgoing)):
            add_row(outgoing[k].ravel(), b * d.H, carry, i * d.state_row + k * d.Hp, d.H)


@njit
def summed_products(rows, parts, panels, total, grads, tape, batch, initial, params):
    """The products for the steps of this shard's sequences, whose δ were summed over all passes."""
    d = measure(params, tape, initial)
    count = block_rows(d.row + d.x_row + d.Hp)
    work = backward_work(count, 0, total[:0], panels.state, d)
    m = 0
    for i in range(rows.shape[0]):
        b = rows[i, 0]
        if rows[i, 1] == batch.lengths[b]:            # once for every sequence: at its last end
            for step in range(1, batch.lengths[b] + 1):
                place = set_place(work, m, b, step, batch, d)
                copy_row(work.delta, m * d.row, total, place * d.row, d.row)
                m += 1
                if m == count:
                    shard_products(parts, panels, grads, work, m, tape, batch, initial, params)
                    m = 0
    if m > 0:
        shard_products(parts, panels, grads, work, m, tape, batch, initial, params)


@njit
def shard_products(parts, panels, grads, work, count, tape, batch, initial, params):
    """The products of `count` rows of δ: with the states and inputs of their steps, and with U."""
    d = measure(params, tape, initial)
    state_gradients(params, tape, initial, parts.state, work, count, d)
    input_gradients(batch.x, grads.x, parts.inputs, panels.inputs, params, work.delta, work.places, count, d)


@njit
def backward_panels(batch, params, d):
    """The weights as the backward scan reads them."""
    return Panels(pack_input_gradient(batch.x, params, d), pack_backward(params, d))


@njit
def empty_parts(shards, batch, params, d):
    """Every shard's part of the parameters' gradients, zero."""
    return Parts(np.zeros((shards, input_partial(batch.x, params, d)), params.U.dtype),
                 np.zeros((shards, state_partial(params, d)), params.U.dtype))


@njit
def add_parts(grads, parts, batch, d):
    """Add the shards' parts to the parameters' gradients, in order."""
    for s in range(parts.inputs.shape[0]):
        add_input_partial(batch.x, grads.params, parts.inputs[s], d)
        add_state_partial(grads.params, parts.state[s], d)


@njit
def pass_through(errors, lengths):
    """A sequence without a valid step holds its state: the incoming error leaves it as it came."""
    for k in range(len(errors.incoming)):
        for b in range(lengths.size):
            if lengths[b] == 0:
                for j in range(errors.incoming[k].shape[1]):
                    errors.outgoing[k][b, j] += errors.incoming[k][b, j]


@njit
def total_buffer(passes, params, d):
    """Zeros in which overlapping passes sum their δ; empty where none overlap."""
    return np.zeros(d.T * d.B * d.row if passes.overlap else 0, params.U.dtype)


@njit
def scan_backward(grads, errors, tape, batch, initial, params, options, passes, threads=1, launcher=0):
    """All passes of the errors back through time.

    Parameters
    ----------
    grads : Grads
        Added to: params like `params`, x like batch.x (of size 0 for ids), state like `initial` (errors that reach a reset).
    errors : Errors
    tape, batch, initial, params, options
        As `scan_forward` left them.
    passes : Passes
        From `fastbptt.bptt.truncation.plan_passes`.
    threads, launcher : int
        As for `scan_forward`.
    """
    d = measure(params, tape, initial)
    panels = backward_panels(batch, params, d)
    total = total_buffer(passes, params, d)
    pass_through(errors, batch.lengths)
    shards = passes.bounds.size - 1
    parts = empty_parts(shards, batch, params, d)
    run_shards(backward_shard, (parts, panels, total, grads, errors, tape, batch, initial, params, options, passes),
               shards, threads, launcher)
    add_parts(grads, parts, batch, d)
