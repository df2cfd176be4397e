"""Every public object can be copied and pickled, and does the same afterwards, or refuses in one sentence."""
from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle
from dataclasses import fields, is_dataclass
from types import MethodType, ModuleType

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.tree import leaves

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3, 4)).astype(np.float32)
LENGTHS, RESETS = [40, 3, 17], RNG.random((40, 3)) < 0.1
CELLS = {
    "RNN": fb.RNN(4, 5), "leaky": fb.RNN(4, 5, leak=0.5, mask=np.tri(5), signs=[1, -1, 0, 1, 1]),
    "GRU": fb.GRU(4, 5), "GRU before": fb.GRU(4, 5, reset="before"),
    "LSTM": fb.LSTM(4, 5), "LSTM peephole": fb.LSTM(4, 5, peephole=True),
    "stack": fb.Stack([fb.RNN(4, 5), fb.LSTM(5, 6), fb.GRU(6, 3)], dropout=0.3),
    "two directions": fb.Stack([fb.RNN(4, 5), fb.LSTM(10, 3)], bidirectional=True),
}
TAPES = [(name, budget) for name, cell in CELLS.items() for budget in (None, "8 MiB") if not (budget and cell.bidirectional)]
COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy,
          **{f"pickle {n}": lambda thing, n=n: pickle.loads(pickle.dumps(thing, n)) for n in (2, pickle.HIGHEST_PROTOCOL)}}


@pytest.fixture(params=list(COPIES))
def copied(request):
    return COPIES[request.param]


def tape_of(name, budget=None):
    cell = CELLS[name]
    params = cell.init(seed=0)
    state = cell.per_layer(part.state_type(*[RNG.normal(size=(3, part.hidden_size)).astype(np.float32)
                                             for _ in part.state_type._fields]) for part in cell.scans)
    seed = 5 if getattr(cell, "dropout", 0) else None
    return cell, params, fb.forward(cell, params, X, state, LENGTHS, resets=RESETS, memory_budget=budget, seed=seed)


def tangent_of(name):
    cell, params, tape = tape_of(name)
    return fb.jvp(cell, params, tape, params, X)


def same(a, b):
    """Of one type, with equal contents, bit for bit."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, MethodType):
        return a.__name__ == b.__name__ and same(a.__self__, b.__self__)
    if hasattr(a, "__dict__") and not isinstance(a, BaseException):
        return same(*(thing.__reduce_ex__(4)[2] for thing in (a, b)))
    return str(a) == str(b) if isinstance(a, BaseException) else a == b


def text_file(folder):
    path = folder / "text"
    path.write_text("so many letters " * 4000, encoding="utf-8")
    return fb.TextFile(path)


def model_of(cell=CELLS["leaky"]):
    return fb.SequenceModel(cell, 3)


def trained(optimizer):
    model = model_of()
    batch = {"x": X, "y": RNG.integers(0, 3, size=(40, 3)), "lengths": LENGTHS}
    return fb.fit(model, model.init(), [batch] * 2, optimizer)


def saved(folder):
    fb.save_model(folder / "model.npz", model_of(), model_of().init())
    return fb.load_model(folder / "model.npz")


def errors(tape):
    return np.ones_like(tape.h)


def flow(call):
    def made(folder):
        cell, params, tape = tape_of("LSTM")
        return call(cell, params, tape, errors(tape))
    return made


def grads_of(name):
    def made(folder):
        cell, params, tape = tape_of(name)
        return fb.backward(cell, params, tape, errors(tape))
    return made


# An instance, or several, of every class among the public names, and what their functions return.
EXAMPLES = {
    "RNN": [lambda folder: CELLS["RNN"], lambda folder: CELLS["leaky"]],
    "GRU": [lambda folder: CELLS["GRU"], lambda folder: CELLS["GRU before"]],
    "LSTM": [lambda folder: CELLS["LSTM"], lambda folder: CELLS["LSTM peephole"]],
    "Stack": [lambda folder: CELLS["stack"], lambda folder: CELLS["two directions"]],
    "RNNParams": [lambda folder: CELLS["RNN"].init()], "RNNState": [lambda folder: tape_of("RNN")[2].final],
    "GRUParams": [lambda folder: CELLS["GRU"].init()], "GRUState": [lambda folder: tape_of("GRU")[2].final],
    "GRUBeforeParams": [lambda folder: CELLS["GRU before"].init()],
    "LSTMParams": [lambda folder: CELLS["LSTM"].init()], "LSTMState": [lambda folder: tape_of("LSTM")[2].final],
    "LSTMPeepholeParams": [lambda folder: CELLS["LSTM peephole"].init()],
    "Directions": [lambda folder: CELLS["two directions"].init()[0]],
    "Grads": [grads_of(name) for name in CELLS],
    "Tape": [lambda folder, given=given: tape_of(*given)[2] for given in TAPES],
    "Tangent": [lambda folder, name=name: tangent_of(name) for name in ("LSTM", "stack", "two directions")],
    "Truncation": [lambda folder: fb.Truncation(9, 2), lambda folder: fb.Truncation.chunks(7)],
    "SequenceModel": [lambda folder: model_of(), lambda folder: model_of(CELLS["two directions"])],
    "ModelParams": [lambda folder: model_of().init()], "ReadoutParams": [lambda folder: model_of().init().readout],
    "SGD": [lambda folder: fb.SGD(0.1, momentum=0.9), lambda folder: fb.SGD(0.1, project=model_of().project)],
    "Adam": [lambda folder: fb.Adam(0.1), lambda folder: fb.Adam(0.1, project=model_of().project)],
    "Cosine": [lambda folder: fb.Cosine(10, warmup=2)],
    "Vocabulary": [lambda folder: fb.Vocabulary.from_text("so many letters")],
    "TextFile": [text_file, lambda folder: text_file(folder).part(5, 6000)],
    "Stream": [lambda folder: fb.stream(np.arange(99) % 7, 3, 5, epochs=None), lambda folder: fb.stream(text_file(folder), 3, 5),
               lambda folder: fb.stream((X[:, 0], np.arange(40)), 3, 5)],
    "SavedModel": [saved],
    "FixedPoints": [lambda folder: fb.fixed_points(CELLS["RNN"], CELLS["RNN"].init(), X[0, 0], tape_of("RNN")[2].final)],
    "GradientFlow": [flow(fb.gradient_flow)],
    "Horizons": [flow(lambda cell, params, tape, dh: fb.suggest_horizons(cell, params, [(tape, dh)] * 3))],
    "JacobianNorms": [flow(lambda cell, params, tape, dh: fb.jacobian_norms(cell, params, tape))],
    "LagNorms": [flow(lambda cell, params, tape, dh: fb.lag_norms(cell, params, tape, dh, 5))],
    "StepGradients": [flow(fb.step_gradients)],
    "FileError": [lambda folder: fb.FileError("path: expected a file")],
    "fit": [lambda folder: trained(fb.SGD(0.1, momentum=0.9)), lambda folder: trained(fb.Adam(0.1))],
    "stream": [lambda folder: next(fb.stream(np.arange(99) % 7, 3, 5)),
               lambda folder: fb.stream(np.arange(99) % 7, 3, 5).position],
}
ALL = [(name, make) for name, makers in EXAMPLES.items() for make in makers]


@pytest.mark.parametrize("name", fb.__all__)
def test_every_name_is_pickled_by_name_or_refuses(name):
    thing = getattr(fb, name)
    if isinstance(thing, ModuleType):
        with pytest.raises(TypeError, match="^cannot pickle 'module' object$"):
            pickle.dumps(thing)
    else:
        assert pickle.loads(pickle.dumps(thing)) is copy.deepcopy(thing) is thing
    if inspect.isclass(thing):
        assert name in EXAMPLES, f"{name}: a class without an example to copy"


@pytest.mark.parametrize(("name", "make"), ALL, ids=[f"{name}-{i}" for i, (name, _) in enumerate(ALL)])
def test_copies_are_the_same(name, make, copied, tmp_path):
    thing = make(tmp_path)
    if inspect.isclass(kind := getattr(fb, name)):
        assert isinstance(thing, kind)
    other = copied(thing)
    assert other is not thing or copied is copy.copy
    assert same(other, thing) and repr(other).split(" at 0x")[0] == repr(thing).split(" at 0x")[0]


@pytest.mark.parametrize(("name", "budget"), TAPES)
def test_backward_from_a_copied_tape_has_the_same_bits(name, budget, copied):
    cell, params, tape = tape_of(name, budget)
    dh = RNG.normal(size=(40, 3, cell.hidden_size)).astype(np.float32)
    truncations = [None] if budget or cell.bidirectional else [None, fb.Truncation(5, 2)]
    fb.backward(cell, params, tape, dh)      # a tape that was used
    other, again = copied(tape), pickle.loads(pickle.dumps((cell, params)))
    if not budget:
        assert not other.h.flags.writeable
    for truncation in truncations:
        want = fb.backward(cell, params, tape, dh, truncation, clip_state=1.0)
        assert same(fb.backward(cell, params, other, dh, truncation, clip_state=1.0), want)
        assert same(fb.backward(*again, other, dh, truncation, clip_state=1.0), want)


def test_a_deep_copy_shares_nothing():
    for given in TAPES:
        cell, params, tape = tape_of(*given)
        other = copy.deepcopy(tape)
        dh = np.ones((40, 3, cell.hidden_size), np.float32)
        want = fb.backward(cell, params, tape, dh)
        arrays = [*leaves(other.initial), *leaves(tuple(other.batch)[:1])]
        for array in arrays:
            array[:] = 7
        assert same(fb.backward(cell, params, tape, dh), want)


def test_a_copied_stream_goes_on_where_it_was(copied, tmp_path):
    for source in (np.arange(200) % 7, text_file(tmp_path), (RNG.normal(size=(200, 2)), np.arange(200))):
        one = fb.stream(source, 3, 5)
        next(one), next(one)
        other = copied(one)
        assert same(list(zip(range(9), other, strict=False)), list(zip(range(9), one, strict=False)))


def test_a_stream_of_an_iterator_refuses(copied):
    windows = fb.stream(iter([np.ones((40, 3), int)] * 3), 3, 5)
    next(windows)
    with pytest.raises(TypeError, match="^stream: expected a source that can be read again, got an iterator; "):
        copied(windows)
    assert next(windows).x.shape == (5, 3)


def test_a_text_is_copied_by_its_path(copied, tmp_path):
    text = text_file(tmp_path)
    assert len(pickle.dumps(text)) < len(text) // 10
    assert np.array_equal(copied(text.part(100, 900))[5:70], text[105:170])
    (tmp_path / "text").write_text("another", encoding="utf-8")
    with pytest.raises(fb.FileError, match="text: expected the text that was copied, of 64000 bytes, got 7 bytes; "):
        copied(text)


def test_a_spawned_process_returns_the_tape_of_a_stack():
    for name in ("stack", "two directions"):
        cell, params, tape = tape_of(name)
        seed = {"seed": 5} if cell.dropout else {}
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            given = (cell, params, X, tape.initial, LENGTHS), {"resets": RESETS, **seed}
            got = pool.apply_async(fb.forward, *given).get(timeout=300)
        assert same((got.h, got.final), (tape.h, tape.final))
        assert same(fb.backward(cell, params, got, errors(tape)), fb.backward(cell, params, tape, errors(tape)))
