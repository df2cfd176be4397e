"""The table of cases and the sides of the bench: they agree with each other, and with the definition of truncation."""

import importlib
import importlib.util
import os
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from fastbptt import cells as library
from fastbptt.bench.cases import CASES, CELLS, DTYPES, GATES, GROWTH_FORMS, SHAPES, Case, growth_case, select
from fastbptt.bench.jax_peer import JaxPeer
from fastbptt.bench.jax_vjp import UNROLLS, JaxVjpPeer
from fastbptt.bench.numpy_peer import TAPES, NumpyPeer, gradients, passes
from fastbptt.bench.peers import OURS, PEERS, OursSide, assert_same_gradients
from fastbptt.bench.torch_peer import TorchPeer

TRUNCATIONS = (None, (3, 3), (3, 1), (6, 3), (4, 2), (5, 2), (9, 4), (20, 3))


def tiny(cell, dtype="float32", truncation=None):
    return Case(cell, T=9, B=2, I=3, H=5, dtype=dtype, size_class="S", truncation=truncation)


def check(side, case):
    arrays = case.arrays()
    side.setup(case, arrays)
    assert_same_gradients(case, arrays, [side])


# ---- cases


def test_every_size_is_there_for_every_cell_and_dtype():
    for cell in CELLS:
        for dtype in DTYPES:
            cases = select([cell], [dtype])
            assert [(c.T, c.B, c.I, c.H) for c in cases] == [s for size in ("S", "M", "L", "odd") for s in SHAPES[size]]
    assert len({case.name for case in CASES}) == len(CASES)


def test_odd_sizes_are_no_powers_of_two():
    rows, units = ({shape[axis] for shape in SHAPES["odd"]} for axis in (1, 3))
    assert rows == {3, 5, 12, 20, 40} and units == {48, 100, 200, 384, 640}


def test_the_table_has_every_cell_of_the_library():
    assert set(CELLS) == {name.lower() for name in library.CELLS}


def test_asv_suites_take_every_case_of_the_table():
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "cells.py"
    spec = importlib.util.spec_from_file_location("suites_of_cells", path)
    suites = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(suites)
    assert {suites.case_of(*values) for values in product(*suites.Forward.params)} == set(select(dtypes=DTYPES))
    cells, sizes, sides = suites.ForwardBackward.params
    assert {suites.case_of(*values, "float32") for values in product(cells, sizes)} == set(select())
    assert sides == [OURS, *PEERS]


@pytest.mark.parametrize("argument", ["cells", "dtypes", "size_classes"])
def test_select_names_what_it_does_not_know(argument):
    with pytest.raises(ValueError, match=rf"^{argument}: expected names among .*, got nonsense$"):
        select(**{argument: ["nonsense"]})


@pytest.mark.parametrize("cell", CELLS)
def test_flops_count_the_products_one_by_one(cell):
    case = Case(cell, T=7, B=3, I=5, H=4, dtype="float32", size_class="S")
    rows = GATES[cell] * 4
    flops = {"Ux": 2 * 7 * 3 * rows * 5, "Wh": 2 * 7 * 3 * rows * 4}
    assert case.forward_flops == flops["Ux"] + flops["Wh"]
    assert case.backward_flops == 2 * flops["Wh"] + 2 * flops["Ux"]  # δW, dW; dU, dx
    window = replace(case, truncation=(3, 1))
    assert window.backward_flops == (3 + 1) * flops["Wh"] + 2 * flops["Ux"]
    assert replace(case, truncation=(7, 1)).flops == replace(case, truncation=(3, 3)).flops == case.flops


def test_arrays_are_seeded_and_the_same_in_both_dtypes():
    single, double = tiny("gru").arrays(), tiny("gru", "float64").arrays()
    assert single.x.dtype == np.float32 and double.x.dtype == np.float64
    assert np.array_equal(single.x, double.x)
    assert all(np.array_equal(p, tiny("gru").arrays().params[name]) for name, p in single.params.items())


def test_tiny_keeps_the_form_and_is_really_truncated():
    for form in GROWTH_FORMS:
        case = growth_case(form, T=64, B=1, H=64)
        assert case.tiny().form == case.form
        assert case.truncation is None or case.tiny().truncation[0] < case.tiny().T


# ---- the plain NumPy loop, against differences and against the definition


@pytest.mark.parametrize("cell", CELLS)
def test_numpy_gradient_is_the_slope_of_the_loss(cell):
    case = tiny(cell, "float64")
    arrays, rng, step = case.arrays(), np.random.default_rng(1), 1e-6
    found = gradients(case, arrays)
    direction = {name: rng.standard_normal(g.shape) for name, g in found.items()}

    def loss(size):
        params = {name: p + size * direction[name] for name, p in arrays.params.items()}
        state = tuple(s + size * direction[name] for name, s in zip(("h0", "c0"), arrays.state, strict=False))
        return float((TAPES[cell](params, arrays.x + size * direction["x"], state).h[1:] * arrays.dh).sum())

    slope = (loss(step) - loss(-step)) / (2 * step)
    assert slope == pytest.approx(sum(float((found[name] * direction[name]).sum()) for name in found), rel=1e-6)


@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_passes_follow_the_definition(truncation):
    case = tiny("rnn", truncation=truncation)
    horizon, stride = truncation or (case.T, case.T)
    ends = sorted({e for e in range(1, case.T) if e % stride == 0} | {case.T})
    found = [(first + 1, injected + 1, stop) for first, injected, stop in passes(case)]
    assert found == [(max(1, e - horizon + 1), p + 1, e) for p, e in zip([0, *ends], ends, strict=False)]


# ---- peers


@pytest.mark.parametrize("truncation", TRUNCATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_torch_agrees_wherever_it_claims_to(cell, dtype, truncation):
    pytest.importorskip("torch")
    peer, case = TorchPeer(), tiny(cell, dtype, truncation)
    assert peer.supports(case) == (truncation not in ((4, 2), (5, 2)))
    if peer.supports(case):
        check(peer, case)


@pytest.mark.parametrize("truncation", [None, (3, 3)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_jax_agrees(cell, dtype, truncation):
    pytest.importorskip("jax")
    peer = JaxPeer()
    try:
        check(peer, tiny(cell, dtype, truncation))
        assert not any(peer.supports(tiny(cell, truncation=t)) for t in ((3, 1), (6, 3), (4, 4)))
    finally:
        peer.close()


def opened(name):
    """A peer, or a skip where it is not installed."""
    try:
        return PEERS[name]()
    except ImportError as error:
        pytest.skip(str(error))


EXPERTS = [name for name in PEERS if name not in ("numpy", "torch", "jax")]


@pytest.mark.parametrize("shape", [(3, 2, 3, 5), (1, 1, 1, 1), pytest.param((20, 3, 7, 16), marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", [name for name in EXPERTS if name != "numba"])
def test_experts_agree_call_after_call(name, cell, dtype, shape):
    """They keep buffers: a second call, and a second case, must not see what the first left."""
    peer, case = opened(name), Case(cell, *shape, dtype, "S")
    try:
        check(peer, case)
        peer.tune()
        assert_same_gradients(case, case.arrays(), [peer])
        assert not peer.supports(replace(case, truncation=(3, 3)))
    finally:
        peer.close()


@pytest.mark.parametrize(("cell", "dtype"), [
    pytest.param(c, d, marks=() if (c, d) == ("rnn", "float32") else pytest.mark.slow) for c, d in product(CELLS, DTYPES)])
def test_the_plain_numba_loop_agrees(cell, dtype):
    peer = opened("numba")
    for shape in ((9, 2, 3, 5), (1, 1, 1, 1)):
        check(peer, Case(cell, *shape, dtype, "S"))
    peer.close()


@pytest.mark.parametrize("cell", ["rnn", *(pytest.param(c, marks=pytest.mark.slow) for c in ("gru", "lstm"))])
def test_jax_tunes_how_often_it_unrolls(cell, monkeypatch):
    pytest.importorskip("jax")
    peer, case = JaxVjpPeer(), Case(cell, 20, 2, 3, 5, "float32", "S")
    try:
        peer.setup(case, case.arrays())
        forms = peer._forms
        assert tuple(forms) == UNROLLS and len({str(forms[u].trace(*peer._arguments).jaxpr) for u in UNROLLS}) == 3
        for fastest in UNROLLS:
            slow = {u: form if u == fastest else (lambda *a, f=form: time.sleep(0.01) or f(*a)) for u, form in forms.items()}
            monkeypatch.setattr(peer, "_forms", slow)
            peer.tune()
            assert peer.setting == f"unroll {fastest}" and peer._step is forms[fastest]
    finally:
        peer.close()


@pytest.mark.parametrize("truncation", TRUNCATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_ours_agrees(cell, dtype, truncation):
    check(OursSide(), tiny(cell, dtype, truncation))


def test_threads_are_limited_and_given_back():
    torch = pytest.importorskip("torch")
    threadpoolctl = importlib.import_module("threadpoolctl")

    def blas():
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    before = torch.get_num_threads(), blas()
    sides = [TorchPeer(1), NumpyPeer(1)]
    assert torch.get_num_threads() == 1 and set(blas()) == {1}
    for side in reversed(sides):      # as nested contexts: each gives back what it found
        side.close()
    assert (torch.get_num_threads(), blas()) == before


def test_jax_runs_on_as_many_cores_as_it_is_given(monkeypatch):
    jax = pytest.importorskip("jax")
    monkeypatch.setenv("NPROC", "7")
    peer = JaxPeer(1)
    product, a = jax.jit(lambda a: a @ a), jax.numpy.ones((1000, 1000), "float32")
    product(a).block_until_ready()
    wall, busy = time.perf_counter(), time.process_time()
    for _ in range(10):
        product(a).block_until_ready()
    assert time.process_time() - busy < 1.3 * (time.perf_counter() - wall)  # 1.9 with two cores
    check(peer, tiny("rnn"))
    peer.close()
    assert os.environ["NPROC"] == "7"


def test_ours_takes_and_gives_back_the_number_of_threads():
    fb = importlib.import_module("fastbptt")
    before = fb.get_num_threads()
    side = OursSide(1)
    assert fb.get_num_threads() == 1
    side.close()
    assert fb.get_num_threads() == before
