"""What is saved comes back bit for bit; anything else is one clear error, before memory is spent on it."""
from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.tree import leaves

MODEL = fb.SequenceModel(fb.RNN(3, 5, "relu"), 2, "sigmoid_cross_entropy", "many_to_one")


@pytest.fixture
def saved(tmp_path):
    params = MODEL.init(seed=3, dtype=np.float64)
    fb.save_model(tmp_path / "m.npz", MODEL, params)
    return tmp_path / "m.npz", params


def rewrite(path, change):
    """The file again with its members changed: a dict of name to bytes."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def header(**changes):
    def change(members):
        found = json.loads(np.load(io.BytesIO(members["header.npy"])).tobytes())
        members["header.npy"] = npy(np.frombuffer(json.dumps({**found, **changes}).encode(), np.uint8))
    return change


def test_round_trip(saved):
    path, params = saved
    model, loaded, vocabulary = fb.load_model(path)
    assert model == MODEL and type(loaded) is fb.ModelParams and vocabulary is None
    for a, b in zip((*loaded.cell, *loaded.readout), (*params.cell, *params.readout), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)
    assert [p.name for p in path.parent.iterdir()] == ["m.npz"]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_stacks(tmp_path, bidirectional):
    cells = [fb.RNN(3, 5, "relu"), fb.RNN(10 if bidirectional else 5, 4)]
    model = fb.SequenceModel(fb.Stack(cells, bidirectional, 0.25), 2)
    params = model.init(seed=1)
    fb.save_model(tmp_path / "m.npz", model, params)
    loaded, again, _ = fb.load_model(tmp_path / "m.npz")
    assert loaded == model and type(again.cell[1]) is (fb.Directions if bidirectional else fb.RNNParams)
    for a, b in zip(leaves(again), leaves(params), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)


def test_vocabulary_travels_with_the_model(tmp_path):
    vocabulary = fb.Vocabulary("é\ud800\U0001f600")
    fb.save_model(tmp_path / "v.npz", MODEL, MODEL.init(), vocabulary)
    assert fb.load_model(tmp_path / "v.npz").vocabulary == vocabulary


def test_parameters_of_another_model_are_not_saved(tmp_path):
    with pytest.raises(ValueError, match="cell.U: expected"):
        fb.save_model(tmp_path / "m.npz", MODEL, fb.SequenceModel(fb.RNN(4, 5, "relu"), 2).init())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("codes", "message"), [
    (np.array([97, 98], np.uint32), "vocabulary: expected 3"), (np.array([97, 98, 99], np.int64), "vocabulary: expected 3"),
    (np.array([99, 98, 97], np.uint32), "sorted"), (np.array([97, 98, 2**31], np.uint32), "damaged"),
    (np.full(2**20, 97, np.uint32), "vocabulary: expected 3"),
])
def test_foreign_vocabulary(tmp_path, codes, message):
    fb.save_model(tmp_path / "v.npz", MODEL, MODEL.init(), fb.Vocabulary("abc"))
    rewrite(tmp_path / "v.npz", lambda m: m.update({"vocabulary.npy": npy(codes)}))
    with pytest.raises(fb.FileError, match=message):
        fb.load_model(tmp_path / "v.npz")


@pytest.mark.parametrize("size", [0, 1, 10, 100, 500, -1, -40])
def test_truncated(saved, size):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(fb.FileError, match="m.npz: expected a model"):
        fb.load_model(path)


def test_flipped_byte(saved):
    path, params = saved
    data = bytearray(path.read_bytes())
    at = data.find(params.cell.W.tobytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(fb.FileError, match="damaged"):
        fb.load_model(path)


@pytest.mark.parametrize(("change", "message"), [
    (header(format="other"), "format"), (header(version=2), "version 1, got 2"), (header(cell="os"), "cells RNN,.* got 'os'"),
    (header(cell_options={"input_size": 3}), "damaged"), (header(output_size=3), "readout.V: expected"),
    (lambda m: m.pop("cell.W.npy"), "expected the arrays"),
    (lambda m: m.update({"more.npy": npy(np.ones(1))}), "expected the arrays"),
    (lambda m: m.update({"cell.W.npy": npy(np.ones((5, 4)))}), "cell.W: expected"),
    (lambda m: m.update({"cell.W.npy": npy(np.ones((5, 5), complex))}), "cell.W: expected"),
    (lambda m: m.update({"cell.W.npy": npy(np.ones((5, 5), np.float32))}), "one dtype"),
    (lambda m: m.update({"cell.W.npy": npy(np.array([[{}]], object))}), "cell.W: expected"),
    (lambda m: m.update({"header.npy": npy(np.zeros(10**6, np.uint8))}), "header"),
    (header(characters=3), "expected the arrays .*vocabulary"), (header(characters="3"), "expected the arrays"),
    (lambda m: m.pop("header.npy"), "damaged or foreign"),
    (header(cell="Stack", cell_options={"cells": [{"cell": "Stack", "cell_options": {"cells": []}}]}), "cells RNN.*got 'Stack'"),
    (header(cell="Stack", cell_options={"cells": [3]}), "damaged"), (header(cell="Stack", cell_options={"cells": []}), "damaged"),
    (lambda m: m.update({"header.npy": npy(np.frombuffer(b"[" * 60_000, np.uint8))}), "damaged"),
])
def test_foreign(saved, change, message):
    path, _ = saved
    rewrite(path, change)
    with pytest.raises(fb.FileError, match=message):
        fb.load_model(path)


def test_oversized_is_refused_before_anything_is_allocated(saved):
    path, _ = saved
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2**10)})
    rewrite(path, lambda m: m.update({"cell.W.npy": stream.getvalue()}))
    with pytest.raises(fb.FileError, match="cell.W: expected"):
        fb.load_model(path)


def test_failure_leaves_the_old_file(saved, monkeypatch):
    path, _ = saved
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        fb.save_model(path, MODEL, MODEL.init())
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        fb.load_model(tmp_path / "none.npz")
