"""Models as safetensors files: what is saved comes back bit for bit, the library reads it, anything else is one clear error."""
from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.tree import leaves

safetensors = pytest.importorskip("safetensors")
from safetensors.numpy import load_file, save_file  # noqa: E402

MODEL = fb.SequenceModel(fb.RNN(3, 5, "relu"), 2, "sigmoid_cross_entropy", "many_to_one")
STACK = fb.SequenceModel(fb.Stack([fb.GRU(3, 5), fb.GRU(10, 4)], bidirectional=True, dropout=0.25), 2)
MASKED = fb.SequenceModel(fb.RNN(3, 4, mask=np.tri(4), signs=[1, -1, 0, 1]), 2)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.safetensors"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("model", [MODEL, STACK, MASKED], ids=["cell", "stack", "masked"])
def test_round_trip(path, model, dtype):
    params = model.init(seed=3, dtype=dtype)
    fb.save_model(path, model, params)
    again, loaded, vocabulary = fb.load_model(path)
    assert again == model and vocabulary is None and [p.name for p in path.parent.iterdir()] == [path.name]
    for a, b in zip(leaves(loaded), leaves(params), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b) and a.flags.owndata and a.flags.writeable
    arrays = load_file(path)
    assert list(arrays) == sorted(["readout.V", "readout.c", *(f"cell.{name}" for name in model.cell.shapes)])
    np.testing.assert_array_equal(arrays["readout.V"], params.readout.V)


def test_views_are_saved_as_what_they_show(path):
    params = MODEL.init()
    params = params._replace(readout=params.readout._replace(V=np.asfortranarray(params.readout.V)))
    fb.save_model(path, MODEL, params)
    np.testing.assert_array_equal(fb.load_model(path).params.readout.V, params.readout.V)


def test_vocabulary_travels_with_the_model(path):
    vocabulary = fb.Vocabulary("é\ud800\U0001f600")
    fb.save_model(path, MODEL, MODEL.init(), vocabulary)
    assert fb.load_model(path).vocabulary == vocabulary
    assert fb.load_model(str(path)).vocabulary == vocabulary


def test_the_suffix_decides(tmp_path):
    fb.save_model(tmp_path / "m.npz", MODEL, MODEL.init())
    (tmp_path / "m.npz").rename(tmp_path / "n.safetensors")
    with pytest.raises(fb.FileError, match="n.safetensors: expected a model that fastbptt saved, got a damaged or foreign file"):
        fb.load_model(tmp_path / "n.safetensors")
    fb.save_model(tmp_path / "M.SafeTensors", MODEL, MODEL.init())
    assert fb.load_model(tmp_path / "M.SafeTensors").model == MODEL


def header(**changes):
    def change(arrays, metadata):
        metadata["fastbptt"] = json.dumps({**json.loads(metadata["fastbptt"]), **changes})
    return change


@pytest.mark.parametrize(("change", "message"), [
    (header(format="other"), "format"), (header(version=2), "version 1, got 2"), (header(cell="os"), "cells RNN,.* got 'os'"),
    (header(output_size=3), "readout.V: expected"), (header(characters=3), "expected the arrays .*vocabulary"),
    (lambda arrays, metadata: metadata.clear(), "header: expected one in the metadata, .* fastbptt.interop.safetensors.read"),
    (lambda arrays, metadata: metadata.update(fastbptt="3"), "header: expected a mapping, got int"),
    (lambda arrays, metadata: metadata.update(fastbptt="{"), "damaged or foreign"),
    (lambda arrays, metadata: metadata.update(fastbptt="[" * 100_000), "damaged or foreign"),
    (lambda arrays, metadata: arrays.pop("cell.W"), "expected the arrays"),
    (lambda arrays, metadata: arrays.update(more=np.ones(1)), "expected the arrays"),
    (lambda arrays, metadata: arrays.update({"cell.W": np.ones((5, 4), np.float32)}), "cell.W: expected"),
    (lambda arrays, metadata: arrays.update({"cell.W": np.ones((5, 5), np.float16)}), "cell.W: expected .* of F16"),
    (lambda arrays, metadata: arrays.update({"cell.W": np.ones((5, 5))}), "one dtype"),
])
def test_foreign(path, change, message):
    fb.save_model(path, MODEL, MODEL.init())
    with safetensors.safe_open(path, framework="numpy") as file:
        arrays, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    change(arrays, metadata)
    save_file(arrays, path, metadata)
    with pytest.raises(fb.FileError, match=f"m.safetensors: .*{message}"):
        fb.load_model(path)


@pytest.mark.parametrize("size", [0, 7, 8, 100, 300, -1, -40])
def test_truncated(path, size):
    fb.save_model(path, MODEL, MODEL.init())
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(fb.FileError, match="m.safetensors: expected a model"):
        fb.load_model(path)


def test_missing_file(path):
    with pytest.raises(FileNotFoundError):
        fb.load_model(path)


def test_failure_leaves_the_old_file(path, monkeypatch):
    fb.save_model(path, MODEL, MODEL.init())
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        fb.save_model(path, MODEL, MODEL.init(seed=1))
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


def test_what_is_missing_is_said(tmp_path):
    code = """
import sys, fastbptt as fb
assert "safetensors" not in sys.modules
sys.modules["safetensors"] = None
model = fb.SequenceModel(fb.RNN(3, 4), 2)
for call in (lambda: fb.save_model("m.safetensors", model, model.init()), lambda: fb.load_model("m.safetensors")):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.count("pip install 'fastbptt[interop]'") == 2 and not list(tmp_path.iterdir())
