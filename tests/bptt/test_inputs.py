"""Bad input is refused by name; unusual but valid arrays give the same numbers and are never written to."""
from __future__ import annotations

import numpy as np
import pytest

import fastbptt as fb

CELL = fb.RNN(3, 4)
PARAMS = CELL.init(seed=1)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 2, 3)).astype(np.float32)
IDS = RNG.integers(0, 3, size=(5, 2))


def call(**changes):
    arguments = {"cell": CELL, "params": PARAMS, "x": X, "state": None, "lengths": None, **changes}
    return fb.forward(**arguments)


@pytest.mark.parametrize(("changes", "message"), [
    ({"x": None}, "x: expected .* got None"),
    ({"x": X.astype(object)}, "x: .*object"),
    ({"x": X.astype(str)}, "x: .*<U"),
    ({"x": X.astype("M8[s]")}, "x: .*datetime"),
    ({"x": X > 0}, "x: .*bool"),
    ({"x": X.astype(complex)}, "x: .*complex"),
    ({"x": X.astype(np.float16)}, "x: .*float16"),
    ({"x": np.ma.masked_array(X)}, "x: .*masked"),
    ({"x": np.ones((5, 2, 3), int)}, "x: .*int64"),
    ({"x": X.astype(np.float64)}, "x: expected float32 like the parameters, got float64"),
    ({"x": X[..., :2]}, r"x: expected \(T, B, 3\) for RNN\(input_size=3, hidden_size=4, activation='tanh'\), got \(5, 2, 2\)"),
    ({"x": X[0]}, "x: expected"),
    ({"x": X[:0]}, "x: .*at least one step"),
    ({"x": X[:, :0]}, "x: .*at least one"),
    ({"x": [[1, 2], [3]]}, "x: .*nested lists"),
    ({"x": IDS + 1}, r"x: expected ids in 0 … 2"),
    ({"x": IDS - 1}, r"x: expected ids in 0 … 2"),
    ({"lengths": [5.0, 5.0]}, "lengths: expected integers"),
    ({"lengths": [5]}, r"lengths: expected \(2,\)"),
    ({"lengths": [0, 5]}, "lengths: expected integers in 1 … 5"),
    ({"lengths": [1, 6]}, "lengths: expected integers in 1 … 5"),
    ({"lengths": [True, True]}, "lengths: .*bool"),
    ({"params": tuple(PARAMS)}, "params: expected RNNParams"),
    ({"params": fb.RNN(3, 5).init()}, r"params.U: expected \(4, 3\)"),
    ({"params": PARAMS._replace(b=PARAMS.b.astype(np.float64))}, "params.b: expected float32"),
    ({"params": PARAMS._replace(U=None)}, "params.U"),
    ({"state": np.zeros((2, 4), np.float32)}, "state: expected RNNState"),
    ({"state": fb.RNNState(np.zeros((1, 4), np.float32))}, r"state.h: expected \(2, 4\)"),
])
def test_refused(changes, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(**changes)


@pytest.mark.parametrize("arguments", [(0,), (3, 4), (2.0,), (True,), (3, 0), (None,)])
def test_refused_truncations(arguments):
    with pytest.raises((TypeError, ValueError), match="horizon|stride"):
        fb.Truncation(*arguments)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: fb.RNN(0, 3), "input_size"), (lambda: fb.RNN(3, True), "hidden_size"), (lambda: fb.RNN(3, 4, "elu"), "activation"),
    (lambda: fb.RNN(2, 2**40).init(), "U: .*bytes"), (lambda: CELL.init(dtype=np.float16), "dtype"),
    (lambda: CELL.init(recurrent="sparse"), "recurrent"), (lambda: CELL.init(gain=np.nan), "gain"),
    (lambda: fb.set_num_threads(0), "n: expected"), (lambda: fb.set_num_threads(1.5), "n: expected"),
])
def test_refused_configurations(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_refused_in_backward():
    tape = call()
    dh = np.ones((5, 2, 4), np.float32)
    for arguments, message in (((CELL, PARAMS, tape, dh[:4]), "dh"), ((CELL, PARAMS, tape.h, dh), "tape"),
                               ((fb.RNN(3, 4, "relu"), PARAMS, tape, dh), "tape"), ((CELL, PARAMS, tape, dh, 3), "truncation"),
                               ((CELL, CELL.init(dtype=np.float64), tape, dh), "params: expected float32")):
        with pytest.raises((TypeError, ValueError), match=message):
            fb.backward(*arguments)


def unusual(a):
    """The same numbers in other clothes."""
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    raw = np.zeros(a.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(a.dtype).reshape(a.shape)
    unaligned[:] = a
    read_only = a.copy()
    read_only.flags.writeable = False
    return {"fortran": np.asfortranarray(a), "strided": wide[..., ::2], "reversed": a[::-1].copy()[::-1],
            "unaligned": unaligned, "swapped": a.astype(a.dtype.newbyteorder()), "read-only": read_only, "list": a.tolist()}


@pytest.mark.parametrize("kind", ["fortran", "strided", "reversed", "unaligned", "swapped", "read-only", "list"])
def test_unusual_arrays(kind):
    want = call()
    dh = RNG.normal(size=(5, 2, 4)).astype(np.float32)
    state = fb.RNNState(RNG.normal(size=(2, 4)).astype(np.float32))
    want = fb.forward(CELL, PARAMS, X, state)
    wanted = fb.backward(CELL, PARAMS, want, dh)
    dress = lambda a: unusual(a)[kind]  # noqa: E731
    params = PARAMS if kind == "list" else fb.RNNParams(*map(dress, PARAMS))
    got = fb.forward(CELL, params, dress(X), fb.RNNState(dress(state.h)))
    grads = fb.backward(CELL, params, got, dress(dh))
    assert np.array_equal(got.h, want.h)
    for a, b in zip((grads.x, *grads.params, *grads.state), (wanted.x, *wanted.params, *wanted.state), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("dtype", ["i4", "u1", ">i8"])
def test_ids_of_any_integer_type(dtype):
    assert np.array_equal(call(x=IDS.astype(dtype)).h, call(x=IDS).h)


def test_memory_map_is_not_copied_or_written(tmp_path):
    X.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", np.float32, "r", shape=X.shape)
    tape = call(x=mapped)
    assert np.array_equal(tape.h, call().h)
    assert tape.batch.x.ctypes.data == mapped.ctypes.data


def test_inputs_are_left_alone():
    copies = [a.copy() for a in (X, *PARAMS)]
    tape = call()
    kept = tape.h.copy()
    first = fb.backward(CELL, PARAMS, tape, tape.h)
    second = fb.backward(CELL, PARAMS, tape, tape.h)
    assert np.array_equal(tape.h, kept) and np.array_equal(first.params.W, second.params.W)
    assert all(np.array_equal(a, b) for a, b in zip(copies, (X, *PARAMS), strict=True))
