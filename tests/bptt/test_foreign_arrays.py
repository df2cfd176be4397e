"""Arrays of other libraries: viewed or converted once by NumPy, wherever an array is read; what NumPy cannot reach is refused."""
from __future__ import annotations

import array
import re
import tracemalloc

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.tree import leaves

CELL = fb.RNN(3, 4)
PARAMS = CELL.init(seed=1)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 2, 3)).astype(np.float32)
DH = RNG.normal(size=(5, 2, 4)).astype(np.float32)
IDS = RNG.integers(0, 3, size=(5, 2))


class OnlyArray:
    """As pandas and h5py have it."""

    def __init__(self, a):
        self._a, self.read = a, 0

    def __array__(self, dtype=None, copy=None):
        self.read += 1
        return np.array(self._a, dtype)


class OnlyDLPack:
    device = "host"

    def __init__(self, a):
        self._a = a

    def __dlpack__(self, **options):
        return self._a.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._a.__dlpack_device__()


class OnADevice(OnlyDLPack):
    device = "cuda:0"

    def __dlpack_device__(self):
        return 2, 0


class CudaArray:
    __cuda_array_interface__ = {"version": 3}


def torch_tensor(a):
    return pytest.importorskip("torch").from_numpy(np.ascontiguousarray(a))


def jax_array(a):
    return pytest.importorskip("jax.numpy").asarray(a)


KINDS = {"array": OnlyArray, "dlpack": OnlyDLPack, "buffer": memoryview, "torch": torch_tensor, "jax": jax_array}


@pytest.mark.parametrize("kind", KINDS)
def test_same_numbers_wherever_an_array_is_read(kind):
    foreign = KINDS[kind]
    state = fb.RNNState(RNG.normal(size=(2, 4)).astype(np.float32))
    lengths, resets = np.array([5, 3], np.int32), np.eye(5, 2, dtype=bool)
    tape = fb.forward(CELL, PARAMS, X, state, lengths, resets=resets)
    want = fb.backward(CELL, PARAMS, tape, DH, dfinal=state)
    params, given = fb.RNNParams(*map(foreign, PARAMS)), fb.RNNState(foreign(state.h))
    tape = fb.forward(CELL, params, foreign(X), given, foreign(lengths), resets=foreign(resets))
    got = fb.backward(CELL, params, tape, foreign(DH), dfinal=given)
    for a, b in zip((got.x, *got.params, *got.state), (want.x, *want.params, *want.state), strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(fb.step(CELL, params, foreign(X[0]), given).h, fb.step(CELL, PARAMS, X[0], state).h)
    ids = IDS.astype(np.int32)
    assert np.array_equal(fb.forward(CELL, params, foreign(ids)).h, fb.forward(CELL, PARAMS, IDS).h)
    mask, signs = np.eye(4, dtype=np.float32), np.ones(4, np.int32)
    assert fb.RNN(3, 4, mask=foreign(mask), signs=foreign(signs)) == fb.RNN(3, 4, mask=mask, signs=signs)


@pytest.mark.parametrize("kind", KINDS)
def test_models_read_them_too(kind, tmp_path):
    foreign = KINDS[kind]
    model = fb.SequenceModel(CELL, 3)
    params, weights, y = model.init(seed=0), np.arange(10, dtype=np.float32).reshape(5, 2), IDS.astype(np.int32)
    want = model.loss_and_grad(params, X, y, weights=weights)
    other = fb.ModelParams(fb.RNNParams(*map(foreign, params.cell)), fb.ReadoutParams(*map(foreign, params.readout)))
    got = model.loss_and_grad(other, foreign(X), foreign(y), weights=foreign(weights))
    assert got[0] == want[0] == model.loss(other, X, y, weights=weights)
    assert all(np.array_equal(a, b) for a, b in zip(leaves(got[1]), leaves(want[1]), strict=True))
    assert np.array_equal(model.predict(other, foreign(X)), model.predict(params, X))
    assert next(fb.sample(model, other, foreign(y[:, 0]))) == next(fb.sample(model, params, y[:, 0]))
    fb.save_model(tmp_path / "m.npz", model, other)
    assert np.array_equal(fb.load_model(tmp_path / "m.npz").params.readout.V, params.readout.V)
    batches = [{"x": X, "y": y}]
    fitted = [fb.fit(model, p, batches, fb.SGD(0.1)).params.cell.W for p in (other, params)]
    assert np.array_equal(*fitted)


@pytest.mark.parametrize("kind", ["dlpack", "buffer", "torch", "jax"])
def test_a_view_costs_no_copy(kind):
    x = np.zeros((100, 20, 3), np.float32)
    given = KINDS[kind](x)
    address = np.asarray(given).ctypes.data if kind != "dlpack" else x.ctypes.data
    assert fb.forward(CELL, PARAMS, given).batch.x.ctypes.data == address


def test_what_is_no_view_is_converted_once():
    given = OnlyArray(np.zeros((500, 20, 3), np.float32))
    fb.forward(CELL, PARAMS, X)
    tracemalloc.start()
    fb.forward(CELL, PARAMS, given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert given.read == 1
    assert peak < 10 * 500 * 20 * 4 * 4, "lists of Python floats are many times as large as x, h and U x together"


def test_their_dtype_counts_as_that_of_an_array_does():
    wide = X.astype(np.float64)
    with pytest.raises(TypeError, match=r"^x: expected float32 .* got float64; use np.asarray\(x, 'float32'\)"):
        fb.forward(CELL, PARAMS, memoryview(wide))
    with pytest.raises(TypeError, match=r"^params.b: expected float32"):
        fb.forward(CELL, PARAMS._replace(b=OnlyArray(np.zeros(4))), X)
    with pytest.raises(TypeError, match=r"^lengths: expected integers, got float64; use np.asarray\(lengths, 'int64'\)"):
        fb.forward(CELL, PARAMS, X, lengths=array.array("d", [5, 5]))


PLACES = {
    "x": lambda f: fb.forward(CELL, PARAMS, f(X)), "lengths": lambda f: fb.forward(CELL, PARAMS, X, lengths=f([5, 3])),
    "state.h": lambda f: fb.forward(CELL, PARAMS, X, fb.RNNState(f(np.zeros((2, 4))))),
    "params.U": lambda f: fb.forward(CELL, fb.RNNParams(*map(f, PARAMS)), X),
    "params.W": lambda f: fb.forward(CELL, PARAMS._replace(W=f(PARAMS.W)), X),
    "dh": lambda f: fb.backward(CELL, PARAMS, fb.forward(CELL, PARAMS, X), f(DH)),
    "dfinal.h": lambda f: fb.backward(CELL, PARAMS, fb.forward(CELL, PARAMS, X), DH, dfinal=fb.RNNState(f(np.zeros((2, 4))))),
    "resets": lambda f: fb.forward(CELL, PARAMS, X, resets=f(X[..., 0])),
    "noise": lambda f: fb.forward(CELL, PARAMS, X, noise=f(DH)),
    "mask": lambda f: fb.RNN(3, 4, mask=f(np.eye(4))), "signs": lambda f: fb.RNN(3, 4, signs=f(np.ones(4))),
    "y": lambda f: fb.SequenceModel(CELL, 3).loss(fb.SequenceModel(CELL, 3).init(), X, f(IDS)),
    "weights": lambda f: fb.SequenceModel(CELL, 3).loss(fb.SequenceModel(CELL, 3).init(), X, IDS, weights=f(IDS)),
    "prime": lambda f: fb.sample(fb.SequenceModel(CELL, 3), fb.SequenceModel(CELL, 3).init(), f(IDS[0])),
    "source": lambda f: fb.stream(f(IDS), batch=1, window=2),
    "sequences[0]": lambda f: fb.pad([f(IDS[0])]),
}


@pytest.mark.parametrize("place", PLACES)
def test_other_devices_and_gradients_are_refused_by_name(place):
    name = f"^{re.escape(place)}: expected .*"
    elsewhere = name + r"got a \w+ on (cuda:0|another device); copy it to the CPU first: .*\.cpu\(\)"
    for device in (OnADevice, lambda a: CudaArray()):
        with pytest.raises(TypeError, match=elsewhere):
            PLACES[place](device)
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=name + rf"got a tensor that requires grad; pass {re.escape(place)}\.detach\(\)"):
        PLACES[place](lambda a: torch.from_numpy(np.asarray(a, np.float32)).requires_grad_())
    with pytest.raises(TypeError, match=name + "meta"):
        PLACES[place](lambda a: torch.empty(3, device="meta"))
    with pytest.raises(TypeError, match=name + "masked array"):
        PLACES[place](np.ma.masked_array)


def test_what_numpy_cannot_read_is_refused_with_its_own_word():
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    for x in (torch.from_numpy(X).bfloat16(), torch.from_numpy(X).to_sparse(), [torch.from_numpy(X[0]).requires_grad_()]):
        with pytest.raises(TypeError, match="^x: expected .* that NumPy cannot read: .*; pass an array of numbers"):
            fb.forward(CELL, PARAMS, x)
    with pytest.raises(TypeError, match="^x: expected .*Tracer that NumPy cannot read"):
        jax.jit(lambda x: fb.forward(CELL, PARAMS, x).h)(X)
    with pytest.raises(TypeError, match="^x: .*bfloat16; convert"):
        fb.forward(CELL, PARAMS, jax.numpy.asarray(X, "bfloat16"))


def test_ragged_lists_are_sent_to_pad_and_pad_takes_them():
    sequences = [[[0.5, 1, 2], [3, 4, 5]], [[1, 0, 0]]]
    with pytest.raises(ValueError, match=r"^x: .* nested lists of unequal lengths; .*x, lengths = fastbptt.pad\(sequences\)"):
        fb.forward(CELL, PARAMS, sequences)
    x, lengths = fb.pad(sequences)
    assert fb.forward(CELL, CELL.init(dtype=x.dtype), x, lengths=lengths).h.shape == (2, 2, 4)
