"""BPTT within a memory budget: the same bits, the budget kept, refusals."""
from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.bptt import checkpoints
from fastbptt.bptt.checkpoints import plan_schedule
from fastbptt.bptt.kernels import empty_sums
from fastbptt.bptt.passes import plan_passes
from fastbptt.bptt.truncation import FULL
from fastbptt.tree import leaves

CELLS = {"rnn": fb.RNN(3, 9, leak=0.5), "gru": fb.GRU(3, 9), "lstm": fb.LSTM(3, 9)}


def data(cell, T, B, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    params = cell.params_type(*[(rng.normal(size=s) / s[-1] ** 0.5).astype(dtype) for s in cell.shapes.values()])
    state = cell.state_type(*[rng.normal(size=(B, cell.hidden_size)).astype(dtype) for _ in cell.state_type._fields])
    return params, rng.normal(size=(T, B, cell.input_size)).astype(dtype), state, \
        rng.normal(size=(T, B, cell.hidden_size)).astype(dtype), rng


def least_budget(call):
    """What the refusal of a budget of one byte names."""
    with pytest.raises(ValueError, match="memory_budget: expected at least") as refused:
        call(1)
    return int(str(refused.value).split()[4])


def assert_same_bits(got, want):
    for a, b in zip((*got.params, got.x, *got.state), (*want.params, want.x, *want.state), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(("T", "B"), [(1500, 3), (700, 17)])
def test_same_bits_and_as_function(name, T, B):
    cell = CELLS[name]
    params, x, state, dh, rng = data(cell, T, B)
    lengths, resets = rng.integers(1, T + 1, size=B), rng.random((T, B)) < 0.01
    tape = fb.forward(cell, params, x, state, lengths, resets=resets)
    want = fb.backward(cell, params, tape, dh, clip_state=50.0)
    budget = least_budget(lambda budget: fb.forward(cell, params, x, state, memory_budget=budget))
    small = fb.forward(cell, params, x, state, lengths, resets=resets, memory_budget=budget + budget // 20)
    assert len(small.checkpoints) > 1 and np.array_equal(small.final.h, tape.final.h)
    assert_same_bits(fb.backward(cell, params, small, dh, clip_state=50.0), want)
    seen = []

    def errors(start, stop, h):
        seen.append((start, stop))
        assert np.array_equal(h, tape.h[start:stop])
        return dh[start:stop]

    assert_same_bits(fb.backward(cell, params, small, errors, clip_state=50.0), want)
    assert seen == sorted(seen, reverse=True) and seen[0][1] == T and seen[-1][0] == 0
    with pytest.raises(AttributeError, match="tape.h: expected a tape of all steps"):
        _ = small.h


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_stacks_have_the_same_bits(dropout):
    stack = fb.Stack([fb.RNN(3, 9), fb.LSTM(9, 5), fb.GRU(5, 40)], dropout=dropout)
    T, B = 1500, 3
    rng = np.random.default_rng(0)
    params, x, dh = stack.init(seed=0, dtype=np.float64), rng.normal(size=(T, B, 3)), rng.normal(size=(T, B, 40))
    given = {"lengths": [T, 700, 3], "resets": rng.random((T, B)) < 0.01, "seed": 5}
    tape = fb.forward(stack, params, x, **given)
    budget = least_budget(lambda budget: fb.forward(stack, params, x, memory_budget=budget))
    small = fb.forward(stack, params, x, **given, memory_budget=budget + budget // 20)
    assert len(small.checkpoints) > 1 and all(np.array_equal(a, b) for p, q in zip(small.final, tape.final, strict=True)
                                         for a, b in zip(p, q, strict=True))
    want = fb.backward(stack, params, tape, dh, clip_state=50.0)
    for errors in (dh, lambda start, stop, h: dh[start:stop]):
        got = fb.backward(stack, params, small, errors, clip_state=50.0)
        assert np.array_equal(got.x, want.x)
        for a, b in zip((*got.params, *got.state), (*want.params, *want.state), strict=True):
            assert all(np.array_equal(one, other) for one, other in zip(a, b, strict=True))


def in_segments(cell, params, x, state, **given):
    """The tape of all steps, and one of checkpoints that needs several segments."""
    budget = least_budget(lambda budget: fb.forward(cell, params, x, state, memory_budget=budget, **given))
    small = fb.forward(cell, params, x, state, memory_budget=budget + budget // 20, **given)
    assert 1 < len(x) / small.schedule.segment
    return fb.forward(cell, params, x, state, **given), small


@pytest.mark.parametrize("name", CELLS)
def test_error_of_the_final_state(name):
    cell = CELLS[name]
    params, x, state, dh, rng = data(cell, 1500, 3)
    dfinal = cell.state_type(*[rng.normal(size=a.shape) for a in state])
    tape, small = in_segments(cell, params, x, state, lengths=[1500, 700, 3], resets=rng.random((1500, 3)) < 0.01)
    want = fb.backward(cell, params, tape, dh, dfinal=dfinal)
    assert not np.array_equal(want.params.W, fb.backward(cell, params, tape, dh).params.W)
    assert_same_bits(fb.backward(cell, params, small, dh, dfinal=dfinal), want)
    stack = fb.Stack([fb.RNN(3, 3), cell])
    both, first = (stack.init(dtype=np.float64)[0], params), fb.RNNState(np.ones((3, 3)))
    tape, small = in_segments(stack, both, x, (first, state))
    given = {"dfinal": (first, dfinal)}
    want, got = (fb.backward(stack, both, t, dh, **given) for t in (tape, small))
    assert np.array_equal(got.x, want.x) and not np.array_equal(want.x, fb.backward(stack, both, tape, dh).x)
    for part in ("params", "state"):
        for a, b in zip(leaves(getattr(got, part)), leaves(getattr(want, part)), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("changed", ["noise", "mask", "leak"])
def test_options_of_the_vanilla_rnn(changed):
    cell = fb.RNN(3, 9, **{"noise": {}, "mask": {"mask": np.tri(9)}, "leak": {"leak": 0.3}}[changed])
    params, x, state, dh, rng = data(cell, 1500, 3)
    noise = {"noise": rng.normal(size=(1500, 3, 9))} if changed == "noise" else {}
    tape, small = in_segments(cell, params, x, state, **noise)
    want = fb.backward(cell, params, tape, dh)
    assert not np.array_equal(tape.final.h, fb.forward(fb.RNN(3, 9), params, x, state).final.h)
    assert np.array_equal(small.final.h, tape.final.h)
    assert_same_bits(fb.backward(cell, params, small, dh), want)
    if changed == "mask":
        assert not want.params.W[~cell.mask].any() and want.params.W[cell.mask].all()


def test_a_segment_with_as_many_steps_as_inputs():
    for B, inputs in ((17, 32), (8, 64), (4, 128)):      # how long segments are depends on the lanes of the CPU
        cell = fb.RNN(inputs, 9)
        params, x, state, dh, _ = data(cell, 600, B)
        tape, small = in_segments(cell, params, x, state)
        if small.schedule.segment == inputs:
            break
    assert small.schedule.segment == inputs
    assert_same_bits(fb.backward(cell, params, small, dh), fb.backward(cell, params, tape, dh))


@pytest.mark.parametrize("name", CELLS)
def test_what_does_not_depend_on_the_schedule_is_counted_once(name, monkeypatch):
    """Sums for every shard, the weights, working buffers; and of a step the tape, of a state its arrays."""
    seen = {}
    names = "T", "unit", "budget", "step", "state", "fixed"
    monkeypatch.setattr(checkpoints, "plan_schedule", lambda *numbers: seen.update(zip(names, numbers, strict=True)))
    cell, (T, B) = CELLS[name], (700, 17)
    params, x, *_ = data(cell, T, B)
    tape = fb.forward(cell, params, x)
    checkpoints.schedule_for(cell, [params], tape.batch, 1000)
    passes = plan_passes(tape.batch.lengths, T, FULL, tape.cell.sizes)
    sums = sum(a.nbytes for a in empty_sums(cell, tape.batch, passes, x.dtype))
    weights = sum(a.nbytes for a in params)
    assert seen["fixed"] - checkpoints._working_bytes(cell, B, T, x.dtype) == sums + weights
    states = cell.form.states
    assert seen["state"] == states * B * 9 * 8 and seen["budget"] == 1000 and seen["T"] == T
    assert seen["step"] == sum(a.nbytes // (T + 1 if i < states else T) for i, a in enumerate(tape.arrays)) + B * 9 * 8


def test_ids_are_counted_in_the_first_layer_alone(monkeypatch):
    fixed = []
    monkeypatch.setattr(checkpoints, "plan_schedule", lambda *numbers: fixed.append(numbers[-1]))
    stack, (T, B) = fb.Stack([fb.RNN(3, 9), fb.RNN(9, 5)]), (700, 17)
    params = stack.init(dtype=np.float64)
    tape = fb.forward(stack, params, np.zeros((T, B), int))
    checkpoints.schedule_for(stack, list(params), tape.batch, 1000)
    sums = sum(a.nbytes for cell, scan in zip(stack.cells, tape.scans, strict=True)
               for a in empty_sums(cell, scan.batch, plan_passes(tape.batch.lengths, T, FULL, cell.sizes), np.dtype(float)))
    working = max(checkpoints._working_bytes(cell, B, T, np.dtype(float)) for cell in stack.cells)
    assert fixed == [sums + working + sum(a.nbytes for a in leaves(params))]


def test_many_levels_have_the_same_bits():
    cell = CELLS["rnn"]
    params, x, state, dh, _ = data(cell, 3000, 9, dtype=np.float32)
    tape = fb.forward(cell, params, x, state)
    budget = least_budget(lambda budget: fb.forward(cell, params, x, state, memory_budget=budget))
    small = fb.forward(cell, params, x, state, memory_budget=budget)
    assert small.schedule.levels > 1
    assert len(small.checkpoints) <= small.schedule.branching and small.schedule.stretch >= 3000 / small.schedule.branching
    assert_same_bits(fb.backward(cell, params, small, dh), fb.backward(cell, params, tape, dh))


def test_levels_follow_from_the_budget():
    one = plan_schedule(100_000, 100, 10**7, 1000, 100, 0)
    assert one.levels == 1 and 9000 <= one.segment < 10_000
    deep = plan_schedule(100_000, 100, 102_000, 1000, 100, 0)
    assert deep.levels > 1 and deep.segment == 100 and 100 * deep.branching ** deep.levels >= 100_000
    assert deep.levels * deep.branching * 100 + 100 * 1000 <= 102_000
    with pytest.raises(ValueError, match="memory_budget: expected at least 10[0-9]{4} bytes"):
        plan_schedule(100_000, 100, 100_000, 1000, 100, 0)


@pytest.mark.parametrize("mapped", [False, True])
def test_budget_is_kept(mapped, tmp_path):
    """Peak beyond inputs and results: what forward and backward allocate, and the tape between them. Maps are not copied."""
    cell = fb.RNN(8, 64)
    params, x, state, dh, _ = data(cell, 60_000, 1, dtype=np.float32)
    fb.backward(cell, params, fb.forward(cell, params, x[:5000], memory_budget="8 MiB"), dh[:5000])
    results = x.nbytes + sum(a.nbytes for a in params)
    if mapped:
        x.tofile(tmp_path / "x")
        x = np.memmap(tmp_path / "x", np.float32, "r", shape=x.shape)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    grads = fb.backward(cell, params, fb.forward(cell, params, x, memory_budget="8 MiB"), dh)
    peak = tracemalloc.get_traced_memory()[1] - before - results
    tracemalloc.stop()
    assert grads.x.shape == x.shape and peak <= 2**23


@pytest.mark.parametrize("cell", [fb.RNN(8, 128), fb.GRU(8, 96), fb.LSTM(8, 96), fb.Stack([fb.RNN(8, 64), fb.RNN(64, 96)])],
                         ids=lambda cell: type(cell).__name__)
@pytest.mark.parametrize(("T", "B"), [(4000, 1), (800, 9)])
def test_the_least_budget_is_kept_and_not_far_off(cell, T, B):
    """The sums of the gradients and the weights are a large part of it."""
    params = cell.init(seed=0)
    x, dh = np.zeros((T, B, 8), np.float32), np.ones((T, B, cell.hidden_size), np.float32)
    budget = least_budget(lambda budget: fb.forward(cell, params, x, memory_budget=budget))

    def both():
        return fb.backward(cell, params, fb.forward(cell, params, x, memory_budget=budget), dh)

    both()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    both()
    peak = tracemalloc.get_traced_memory()[1] - before - x.nbytes - sum(a.nbytes for a in leaves(params))
    tracemalloc.stop()
    assert budget / 3 < peak <= budget


@pytest.mark.parametrize(("call", "message"), [
    (lambda c, p, x: fb.forward(c, p, x, memory_budget=10), "memory_budget: expected at least [0-9]+ bytes"),
    (lambda c, p, x: fb.forward(c, p, x, memory_budget="64 MB"), "memory_budget: expected bytes, or"),
    (lambda c, p, x: fb.forward(c, p, x, memory_budget=True), "memory_budget: expected an integer"),
    (lambda c, p, x: fb.forward(fb.Stack([c], bidirectional=True), (fb.Stack.direction_type(p, p),), x, memory_budget="8 MiB"),
     "memory_budget: expected None for Stack"),
    (lambda c, p, x: fb.backward(c, p, fb.forward(c, p, x, memory_budget="8 MiB"), x[..., :1] * np.ones(9), fb.Truncation(2)),
     "truncation: expected None for a tape of checkpoints"),
    (lambda c, p, x: fb.backward(c, p, fb.forward(c, p, x), lambda start, stop, h: h), "dh"),
])
def test_refused(call, message):
    cell = CELLS["rnn"]
    params, x, *_ = data(cell, 5, 2)
    with pytest.raises((TypeError, ValueError), match=message):
        call(cell, params, x)


def test_a_function_cannot_spoil_the_tape():
    cell = CELLS["rnn"]
    params, x, *_ = data(cell, 40, 2)
    tape = fb.forward(cell, params, x, memory_budget="8 MiB")

    def in_place(start, stop, h):
        h -= 1
        return h

    with pytest.raises(ValueError, match="read-only"):
        fb.backward(cell, params, tape, in_place)
