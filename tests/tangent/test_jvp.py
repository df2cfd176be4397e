"""Jacobian-vector products: adjoint to the backward pass, the slope of the forward pass, and those of PyTorch and JAX."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastbptt as fb
from fastbptt.tree import leaves

MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check_adjoint(call, inner, tolerance=1e-12):
    """⟨u, J v⟩ = ⟨Jᵀ u, v⟩, relative to the sizes of the terms."""
    dh, dfinal = call.draw_errors()
    tangent = fb.jvp(call.cell, call.params, call.tape, call.dparams, call.dx, call.dstate)
    grads = fb.backward(call.cell, call.params, call.tape, dh, dfinal=dfinal)
    ours = [inner(dh, tangent.h), inner(dfinal, tangent.final)]
    theirs = [inner(grads.params, call.dparams), inner(grads.x, call.dx), inner(grads.state, call.dstate)]
    scale = sum(np.linalg.norm(np.nan_to_num(a)) * np.linalg.norm(np.nan_to_num(b)) for pair in (
        (leaves((dh, dfinal)), leaves((tangent.h, tangent.final))),) for a, b in zip(*pair, strict=True))
    assert abs(sum(ours) - sum(theirs)) <= tolerance * scale


@MANY
@given(data=st.data())
def test_adjoint_of_backward(data, cells, draw_call, inner_product):
    draw = data.draw
    name, ragged, resets = draw(st.sampled_from(list(cells))), draw(st.booleans()), draw(st.booleans())
    cell = cells[name](draw(st.integers(1, 20)), draw(st.integers(1, 40)))
    noise = cell.gates == 1 and draw(st.booleans())
    call = draw_call(cell, draw(st.integers(1, 30)), draw(st.integers(1, 20)), draw(st.integers(0, 10**6)), ragged=ragged,
                     resets=resets, noise=noise)
    check_adjoint(call, inner_product)


@pytest.mark.parametrize("two", [False, True], ids=["one direction", "two directions"])
def test_stacks_are_adjoint(two, draw_call, inner_product):
    ways = 1 + two
    stack = fb.Stack([fb.GRU(3, 4), fb.LSTM(4 * ways, 7), fb.RNN(7 * ways, 5)], bidirectional=two, dropout=0.3)
    check_adjoint(draw_call(stack, 12, 6, 1), inner_product)
    check_adjoint(draw_call(stack, 12, 6, 2, ragged=False, resets=False), inner_product)


def test_ids_and_float32_are_adjoint(draw_call, inner_product):
    call = draw_call(fb.RNN(7, 9), 12, 6, 3, np.float32, ids=True)
    check_adjoint(call, inner_product, 1e-5)
    assert fb.jvp(call.cell, call.params, call.tape, call.dparams).h.dtype == np.float32


def test_slope_of_the_forward_pass(name, cells, draw_call):
    call = draw_call(cells[name](3, 5), 8, 4, 5)
    tangent = fb.jvp(call.cell, call.params, call.tape, call.dparams, call.dx, call.dstate)
    step = 1e-6
    one, other = call.moved(step), call.moved(-step)
    np.testing.assert_allclose(tangent.h, (one.h - other.h) / (2 * step), rtol=1e-6, atol=1e-7)
    for got, a, b in zip(tangent.final, one.final, other.final, strict=True):
        np.testing.assert_allclose(got, (a - b) / (2 * step), rtol=1e-6, atol=1e-7)
    if isinstance(call.cell, fb.LSTM):
        np.testing.assert_allclose(tangent.c, (one.c - other.c) / (2 * step), rtol=1e-6, atol=1e-7)


def test_each_direction_alone_adds_up(name, cells, draw_call):
    call = draw_call(cells[name](3, 5), 8, 4, 6)
    given = {"dparams": call.dparams, "dx": call.dx, "dstate": call.dstate}
    parts = [fb.jvp(call.cell, call.params, call.tape, **{key: value}).h for key, value in given.items()]
    np.testing.assert_allclose(sum(parts), fb.jvp(call.cell, call.params, call.tape, **given).h, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")      # torch.func.jvp's own
def test_same_as_torch(draw_call):
    torch = pytest.importorskip("torch")
    for cell, make in ((fb.RNN(3, 6), torch.nn.RNN), (fb.LSTM(3, 6), torch.nn.LSTM), (fb.GRU(3, 6), torch.nn.GRU)):
        call = draw_call(cell, 7, 4, 7, ragged=False, resets=False)
        module = make(3, 6).double()
        names = [n for n, _ in module.named_parameters()]
        entry = [{n: torch.tensor(a) for n, a in fb.interop.torch.to_state_dict(cell, p).items()}
                 for p in (call.params, call.dparams)]
        first = [tuple(torch.tensor(a)[None] for a in s) for s in (call.state, call.dstate)]

        def run(weights, x, state, module=module, names=names):
            given = state if len(state) > 1 else state[0]
            return torch.func.functional_call(module, {n: weights[n] for n in names}, (x, given))[0]
        _, want = torch.func.jvp(run, (entry[0], torch.tensor(call.x), first[0]), (entry[1], torch.tensor(call.dx), first[1]))
        got = fb.jvp(cell, call.params, call.tape, call.dparams, call.dx, call.dstate).h
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-9, atol=1e-12)


def test_same_as_jax(draw_call):
    jax = pytest.importorskip("jax")
    call = draw_call(fb.GRU(3, 6, reset="before"), 7, 4, 8, ragged=False, resets=False)

    def run(params, x, h):
        def step(h, x):
            (ar, az, an), (wr, wz, wn) = (jax.numpy.split(x @ params.U.T + params.b, 3, axis=1), jax.numpy.split(params.W, 3))
            r, z = jax.nn.sigmoid(ar + h @ wr.T), jax.nn.sigmoid(az + h @ wz.T)
            h = (1 - z) * jax.numpy.tanh(an + (r * h) @ wn.T) + z * h
            return h, h
        return jax.lax.scan(step, h, x)[1]
    with jax.enable_x64(True):
        _, want = jax.jvp(run, (call.params, call.x, call.state.h), (call.dparams, call.dx, call.dstate.h))
    got = fb.jvp(call.cell, call.params, call.tape, call.dparams, call.dx, call.dstate).h
    np.testing.assert_allclose(got, np.asarray(want), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("B", [1, 40])
def test_same_bits_for_any_number_of_threads(B, draw_call):
    call = draw_call(fb.LSTM(5, 130), 40, B, 9)
    most, found = fb.get_num_threads(), []
    try:
        for threads in {1, most}:
            fb.set_num_threads(threads)
            tangent = fb.jvp(call.cell, call.params, call.tape, call.dparams, call.dx, call.dstate)
            found.append((tangent.h.tobytes(), tangent.c.tobytes()))
    finally:
        fb.set_num_threads(most)
    assert len(set(found)) == 1


def test_padding_holds_and_nan_stays_in_its_sequence(draw_call):
    call = draw_call(fb.RNN(3, 5), 8, 3, 10)
    want = fb.jvp(call.cell, call.params, call.tape, call.dparams, call.dx, call.dstate).h
    for b, n in enumerate(call.lengths):
        assert np.array_equal(want[n:, b], np.repeat(want[n - 1:n, b], 8 - n, axis=0))
    dx = call.dx.copy()
    dx[0, 1] = np.nan
    got = fb.jvp(call.cell, call.params, call.tape, call.dparams, dx, call.dstate).h
    assert np.array_equal(got[:, [0, 2]], want[:, [0, 2]]) and np.isnan(got[0, 1]).all()


def test_the_layers_of_a_stack(draw_call):
    stack = fb.Stack([fb.RNN(3, 4), fb.LSTM(4, 5)])
    call = draw_call(stack, 6, 2, 11, ragged=False, resets=False)
    tangent = fb.jvp(stack, call.params, call.tape, call.dparams, call.dx, call.dstate)
    below, above = tangent.layers
    assert np.array_equal(above.h, tangent.h) and np.array_equal(above.c, tangent.c)
    alone = fb.jvp(stack.cells[0], call.params[0], call.tape.layers[0], call.dparams[0], call.dx, call.dstate[0])
    assert np.array_equal(below.h, alone.h) and np.array_equal(tangent.final[0].h, alone.final.h)
    with pytest.raises(ValueError, match="read-only"):
        tangent.h[:] = 0


CELL = fb.RNN(3, 4)
PARAMS = CELL.init(seed=1)
X = np.ones((5, 2, 3), np.float32)


@pytest.mark.parametrize(("changes", "message"), [
    ({"dx": None}, "dparams, dx, dstate: expected at least one tangent"),
    ({"dx": X[:4]}, r"dx: expected \(5, 2, 3\) for RNN.*, got \(4, 2, 3\)"),
    ({"dx": X.astype(np.float64)}, "dx: expected float32 like the parameters, got float64"),
    ({"dx": X.astype(int)}, "dx: .*int64"), ({"dx": X > 0}, "dx: .*bool"), ({"dx": X.astype(complex)}, "dx: .*complex"),
    ({"dx": np.ma.masked_array(X)}, "dx: .*masked"), ({"dx": "x"}, "dx: "),
    ({"dparams": tuple(PARAMS)}, "dparams: expected RNNParams"),
    ({"dparams": fb.RNN(3, 5).init()}, r"dparams.U: expected \(4, 3\)"),
    ({"dparams": CELL.init(dtype=np.float64)}, "dparams: expected float32 like the parameters, got float64; convert"),
    ({"dparams": PARAMS._replace(b=None)}, "dparams.b: .*None"),
    ({"dstate": np.zeros((2, 4), np.float32)}, "dstate: expected RNNState"),
    ({"dstate": fb.RNNState(np.zeros((1, 4), np.float32))}, r"dstate.h: expected \(2, 4\)"),
    ({"params": CELL.init(dtype=np.float64)}, "params: expected float32 like the tape"),
    ({"tape": None}, "tape: expected the Tape"),
    ({"tape": fb.forward(fb.RNN(3, 4, "relu"), PARAMS, X)}, "tape: expected a tape of RNN"),
    ({"tape": fb.forward(CELL, PARAMS, X, memory_budget="8 MiB")}, "tape: expected a tape of all steps"),
    ({"tape": fb.forward(CELL, PARAMS, [[0, 1]])}, "dx: expected None for a tape of integer ids"),
])
def test_refused(changes, message):
    arguments = {"cell": CELL, "params": PARAMS, "tape": fb.forward(CELL, PARAMS, X), "dx": X, **changes}
    with pytest.raises((TypeError, ValueError), match=message):
        fb.jvp(**arguments)


def test_unusual_arrays():
    x, params = X.astype(np.float64), CELL.init(seed=1, dtype=np.float64)
    tape = fb.forward(CELL, params, x)
    want = fb.jvp(CELL, params, tape, params, x).h
    swap = lambda a: a.astype(a.dtype.newbyteorder())  # noqa: E731
    for dress in (np.asfortranarray, lambda a: a[::-1].copy()[::-1], swap, np.ndarray.tolist):
        assert np.array_equal(fb.jvp(CELL, params, tape, params, dress(x)).h, want)
