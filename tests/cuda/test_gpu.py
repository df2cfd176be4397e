"""On a GPU: `pytest -m gpu`. The simulator's table, larger sizes, every library, the same bits twice, and cuDNN."""
from __future__ import annotations

import numpy as np
import pytest
from cuda_calls import CELLS, Call, fetch

import fastbptt as fb

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not fb.cuda.is_available(), reason="fb.cuda.is_available() is False here")]


def to_torch(array):
    torch = pytest.importorskip("torch")
    return torch.as_tensor(np.ascontiguousarray(array), device="cuda")


def to_cupy(array):
    return pytest.importorskip("cupy").asarray(array)


LIBRARIES = {"torch": to_torch, "cupy": to_cupy, "numba": fb.cuda.to_device}


@pytest.fixture(params=LIBRARIES)
def to(request):
    return LIBRARIES[request.param]


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("H", [1, 7, 33, 64, 128])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CELLS)
def test_cells(name, dtype, H, ragged):
    call = Call(name, dtype, 20, 5, 7, H, ragged=ragged, to=to_torch)
    call.same(call.on_device(), call.by_oracle())


@pytest.mark.parametrize("truncation", [None, (3, 3), (7, 2), (5, 1)])
@pytest.mark.parametrize("name", ["tanh", "gru_after", "gru_before", "lstm_peephole"])
def test_stacks_and_truncation(name, truncation, to):
    call = Call(name, "float64", 12, 3, 5, 33, 7, ragged=True, to=to)
    call.same(call.on_device(truncation), call.by_oracle(truncation))


@pytest.mark.parametrize("ids", [False, True], ids=["real", "ids"])
def test_two_directions(ids, to):
    call = Call("lstm", "float64", 9, 3, 5, 33, 7, ragged=True, bidirectional=True, ids=ids, to=to)
    call.same(call.on_device(), call.by_oracle())


def test_masks_and_noise(to):
    call = Call("sigmoid", "float64", 9, 3, 5, 33, mask=True, noise=True, ragged=True, to=to)
    call.same(call.on_device(), call.by_oracle())


def test_results_are_of_the_library_of_x(to):
    call = Call("lstm", "float32", 5, 3, 4, 32, to=to)
    params, x = call.to(call.params), call.to(call.x)
    tape = fb.forward(call.cell, params, x)
    grads = fb.backward(call.cell, params, tape, call.to(call.dh))
    assert {type(a) for a in (tape.h, tape.c, *tape.final, *grads.params, grads.x, *grads.state)} == {type(x)}


@pytest.mark.parametrize("name", ["tanh", "gru_before", "lstm_peephole"])
def test_the_same_bits_twice(name):
    call = Call(name, "float32", 200, 40, 16, 64, ragged=True, ids=True, to=to_torch)
    one, two = (call.on_device((20, 5)) for _ in range(2))
    assert one[0].tobytes() == two[0].tobytes()
    assert [a.tobytes() for a in one[2][0]] == [a.tobytes() for a in two[2][0]]


@pytest.mark.parametrize("name", ["tanh", "gru_after", "lstm"])
def test_cudnn(name):
    """The same gradients as torch.nn on cuDNN, whose products may be in another order."""
    torch = pytest.importorskip("torch")
    call = Call(name, "float32", 300, 16, 32, 64, to=to_torch)
    module = {"tanh": torch.nn.RNN, "gru_after": torch.nn.GRU, "lstm": torch.nn.LSTM}[name](32, 64).cuda()
    weights = fb.interop.torch.to_state_dict(call.cell, call.params)
    module.load_state_dict({key: torch.as_tensor(np.asarray(value)) for key, value in weights.items()})
    state = tuple(to_torch(a)[None] for a in call.state)
    h, _ = module(to_torch(call.x), state if name == "lstm" else state[0])
    h.backward(to_torch(call.dh))
    got, _, grads = call.on_device()
    for mine, theirs in ((got, h), (grads[0].W, module.weight_hh_l0.grad), (grads[0].U, module.weight_ih_l0.grad)):
        want = fetch(theirs.detach())
        assert np.abs(mine - want).max() <= 1e-3 * max(1.0, np.abs(want).max())
