"""Every cell and option in the simulator, at sizes where warps and groups of weights end: against the oracle.

Run with NUMBA_ENABLE_CUDASIM=1.
"""
from __future__ import annotations

import cuda_simulator
import numpy as np
import pytest
from cuda_calls import CELLS, Call, fetch

import fastbptt as fb
from fastbptt.cuda import scans
from fastbptt.cuda.shape import shape_for
from fastbptt.tree import tree_map

GATED = ("tanh", "gru_after", "gru_before", "lstm_peephole")


@pytest.fixture(autouse=True, params=[1, -1], ids=["first warps first", "last warps first"])
def order(request, monkeypatch):
    monkeypatch.setitem(cuda_simulator.ORDER, "step", request.param)


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("H", [1, 7])
@pytest.mark.parametrize("name", CELLS)
def test_cells(name, H, ragged):
    call = Call(name, "float64", 4, 3, 2, H, ragged=ragged)
    call.same(call.on_device(), call.by_oracle())


@pytest.mark.parametrize("name", GATED)
def test_more_units_than_a_warp(name):
    call = Call(name, "float32", 3, 2, 4, 33, ragged=True)
    call.same(call.on_device(), call.by_oracle())


@pytest.mark.parametrize("name", GATED)
def test_one_step(name):
    call = Call(name, "float32", 1, 2, 1, 7)
    call.same(call.on_device(), call.by_oracle())


@pytest.mark.parametrize("split", [1, 8])
@pytest.mark.parametrize("name", ["leak", "gru_before"])
def test_other_splits(name, split, monkeypatch):
    monkeypatch.setattr(scans, "shape_for", lambda *sizes: shape_for(*sizes, split=split))
    call = Call(name, "float64", 3, 2, 2, 7, ragged=True)
    call.same(call.on_device(), call.by_oracle())


@pytest.mark.parametrize("held", [0, 1])
@pytest.mark.parametrize("name", ["lstm", "gru_before"])
def test_weights_that_stay_outside_the_registers(name, held, monkeypatch):
    monkeypatch.setattr(scans, "shape_for", lambda *sizes: shape_for(*sizes)._replace(held=held))
    call = Call(name, "float64", 3, 2, 2, 7, ragged=True)
    call.same(call.on_device(), call.by_oracle())


@pytest.mark.parametrize("truncation", [(2, 1), (2, 2), (4, 3), (9, 1)])
@pytest.mark.parametrize("name", GATED)
def test_truncation(name, truncation):
    call = Call(name, "float64", 6, 3, 2, 7, ragged=True)
    call.same(call.on_device(truncation), call.by_oracle(truncation))


@pytest.mark.parametrize("truncation", [None, (3, 2)])
@pytest.mark.parametrize("name", GATED)
def test_stacks(name, truncation):
    call = Call(name, "float64", 5, 2, 2, 7, 3, 5, ragged=True)
    call.same(call.on_device(truncation), call.by_oracle(truncation))


@pytest.mark.parametrize("ids", [False, True], ids=["real", "ids"])
@pytest.mark.parametrize("name", ["tanh", "gru_after", "lstm"])
def test_two_directions(name, ids):
    call = Call(name, "float64", 4, 3, 3, 5, 4, ragged=True, bidirectional=True, ids=ids)
    call.same(call.on_device(), call.by_oracle())


def test_resets_in_reverse():
    """The reverse direction is a scan of its own over the steps from last to first; a reset separates the same two steps."""
    call = Call("lstm", "float64", 5, 2, 3, 4, bidirectional=True)
    resets = call.rng.random((5, 2)) < 0.4
    both = fb.forward(call.cell, call.to(call.params), call.to(call.x), resets=call.to(resets)).h.copy_to_host()
    apart = np.concatenate([np.zeros((1, 2), bool), resets[:0:-1]])
    own = call.cell.cells[0], call.to(call.params[0].reverse), call.to(call.x[::-1].copy())
    alone = fb.forward(*own, resets=call.to(apart)).h.copy_to_host()
    assert resets[1:].any() and np.array_equal(both[..., 4:], alone[::-1])


@pytest.mark.parametrize("name", ["tanh", "gru_after", "lstm_peephole"])
def test_ids(name):
    call = Call(name, "float32", 5, 4, 3, 7, ids=True, ragged=True)
    call.same(call.on_device((2, 1)), call.by_oracle((2, 1)))


@pytest.mark.parametrize("name", GATED)
def test_gradient_of_the_final_state(name):
    """Two halves of a sequence, the second's gradient of its initial state given to the first: the gradients of the whole."""
    call = Call(name, "float64", 5, 3, 2, 7)
    params, dh = call.to(call.params), call.dh
    first = fb.forward(call.cell, params, call.to(call.x[:2]), call.to(call.state))
    second = fb.forward(call.cell, params, call.to(call.x[2:]), first.final)
    later = fb.backward(call.cell, params, second, call.to(dh[2:]))
    earlier = fb.backward(call.cell, params, first, call.to(dh[:2]), dfinal=later.state)
    two, one = tree_map(fetch, tuple(later)), tree_map(fetch, tuple(earlier))
    grads = tree_map(np.add, one[0], two[0]), np.concatenate([one[1], two[1]]), one[2]
    h = np.concatenate([fetch(first.h), fetch(second.h)])
    call.same((h, tree_map(fetch, second.final), grads), call.by_oracle())


@pytest.mark.parametrize("ids", [False, True], ids=["real", "ids"])
def test_masks_and_noise(ids):
    call = Call("sigmoid", "float64", 4, 2, 3, 7, mask=True, noise=True, ragged=True, ids=ids)
    call.same(call.on_device(), call.by_oracle())


def test_a_tape_serves_any_number_of_backward_calls():
    call = Call("lstm", "float32", 4, 2, 2, 7)
    params = call.to(call.params)
    tape = fb.forward(call.cell, params, call.to(call.x))
    one, two = (fb.backward(call.cell, params, tape, call.to(call.dh)).params.W.copy_to_host() for _ in range(2))
    assert one.tobytes() == two.tobytes()
    assert tape.c.copy_to_host().shape == (4, 2, 7)
    with pytest.raises(AttributeError, match="tape.c: expected the tape of an LSTM"):
        cell = fb.RNN(2, 3)
        _ = fb.forward(cell, call.to(cell.init()), call.to(call.x)).c


REFUSED = {
    "state": (ValueError, r"^state.h: expected an array \(2, 7\) .* got \(1, 7\)",
              {"state": fb.RNNState(np.zeros((1, 7), "f4"))}),
    "resets": (TypeError, r"^resets: expected .* on the GPU like x, got a ndarray .*fastbptt.cuda.to_device\(resets\)",
               {"resets": "host"}),
    "noise": (TypeError, "^noise: expected .* float32 .* got float64; convert", {"noise": np.zeros((4, 2, 7))}),
    "memory_budget": (NotImplementedError, "^memory_budget: .* is not built for GPUs yet; call without",
                      {"memory_budget": 2**20}),
    "lengths": (ValueError, "^lengths: ", {"lengths": [9, 1]}),
}


@pytest.mark.parametrize("argument", REFUSED)
def test_what_forward_refuses(argument):
    error, message, options = REFUSED[argument]
    call = Call("tanh", "float32", 4, 2, 2, 7)
    given = {key: call.to(value) if isinstance(value, tuple | np.ndarray) else value for key, value in options.items()}
    if given.get("resets") == "host":
        given["resets"] = np.zeros((4, 2), bool)
    with pytest.raises(error, match=message):
        fb.forward(call.cell, call.to(call.params), call.to(call.x), **given)


def test_what_else_is_refused():
    call = Call("tanh", "float32", 4, 2, 2, 7)
    cell, params, x, dh = call.cell, call.to(call.params), call.to(call.x), call.to(call.dh)
    with pytest.raises(TypeError, match=r"^params.W: expected an array .* got a ndarray that is not there"):
        fb.forward(cell, params._replace(W=call.params.W), x)
    with pytest.raises(TypeError, match=r"^x: .*copy it to the CPU first"):
        fb.forward(cell, call.params, x)
    with pytest.raises(TypeError, match=r"^params.U: .*copy it to the CPU first"):
        fb.forward(cell, params, call.x)
    tape = fb.forward(cell, params, x)
    with pytest.raises(TypeError, match="^dh: expected .* got a ndarray that is not there"):
        fb.backward(cell, params, tape, call.dh)
    with pytest.raises(NotImplementedError, match="^clip_state: .* call without it"):
        fb.backward(cell, params, tape, dh, clip_state=1.0)
    with pytest.raises(ValueError, match="^tape: expected a tape of"):
        fb.backward(fb.RNN(2, 8), params, tape, dh)
    large = fb.RNN(2, 129)
    with pytest.raises(NotImplementedError, match="^hidden_size: .* use at most 128"):
        fb.forward(large, call.to(large.init()), x)
    stack = fb.Stack([fb.RNN(2, 3), fb.RNN(3, 4)], dropout=0.5)
    with pytest.raises(NotImplementedError, match="^seed: dropout .* call without a seed"):
        fb.forward(stack, call.to(stack.init()), x, seed=1)
    both = fb.Stack([fb.RNN(2, 3)], bidirectional=True)
    params = call.to(both.init())
    tape = fb.forward(both, params, x)
    with pytest.raises(ValueError, match="^cell: expected one direction for truncation"):
        fb.backward(both, params, tape, call.to(call.draw(4, 2, 6)), fb.Truncation(2))
    assert fb.cuda.is_available()
