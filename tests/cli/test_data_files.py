"""The files of data that commands take: one kind of error that names the file, sizes compared with each other first."""
from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.cli import main
from fastbptt.runs.data import read

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 2)).astype(np.float32), RNG.normal(size=(60, 3)).astype(np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = fb.SequenceModel(fb.GRU(2, 4), 3, "squared_error")
    fb.save_model("model.npz", model, model.init(seed=0))
    np.savez("good.npz", x=X, y=Y)
    return tmp_path


def claim(shape, descr="<f8"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def write_claim(path, **shapes):
    with zipfile.ZipFile(path, "w") as archive:
        for name, shape in shapes.items():
            archive.writestr(f"{name}.npy", claim(shape))


def flip_encryption(path):
    data = bytearray(path.read_bytes())
    data[data.rfind(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)


def refused(capsys, *arguments):
    """The one line of a command that refuses."""
    tracemalloc.start()
    try:
        assert main([*map(str, arguments)]) == 2
        assert tracemalloc.get_traced_memory()[1] < 2**26      # what is imported counts as well
    finally:
        tracemalloc.stop()
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and error.startswith("fastbptt: "), error
    assert not os.path.exists("fastbptt-train")
    return error


COMMANDS = (("train", "--npz"), ("diagnose", "model.npz", "--json", "--npz"))


def one_nan():
    y = Y.copy()
    y[7, 0] = np.nan
    return y


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
@pytest.mark.parametrize(("arrays", "message"), [
    (b"", "an npz file with"), (b"PK\3\4" * 9, "an npz file with"), ("good.npz", "damaged or foreign"),
    ({"x": X, "y": Y[:50]}, "as many steps"),
    ({"x": np.full((60, 2), 1e39), "y": Y}, "finite numbers that float32 holds, got 1e+39 in x, first at [0, 0]"),
    ({"x": X, "y": one_nan()}, "got nan in y, first at [7, 0]"), ({"x": X.astype(object), "y": Y}, "bad.npz"),
    ({"x": X.astype(str), "y": Y}, "bad.npz"), ({"x": X + 1j, "y": Y}, "bad.npz"), ({"x": X > 0, "y": Y}, "bad.npz"),
    ({"ids": np.array([0, -1] * 30)}, "got -1 in ids"), ({"ids": np.ones((30, 2), int)}, "bad.npz"),
    ({"ids": np.array(3)}, "bad.npz"), ({"ids": np.ones(60)}, "bad.npz"), ({"x": X}, "x"), ({}, "bad.npz"),
])
def test_refused_in_one_line_that_names_the_file(folder, capsys, command, arrays, message):
    if isinstance(arrays, dict):
        np.savez("bad.npz", **arrays)
    else:       # bytes, or a file of which the end is lost
        (folder / "bad.npz").write_bytes(arrays if isinstance(arrays, bytes) else (folder / arrays).read_bytes()[:-30])
    error = refused(capsys, *command, "bad.npz")
    assert message in error and "bad.npz" in error


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
@pytest.mark.parametrize("shapes", [{"x": (10**15, 2), "y": (10**15,)}, {"x": (), "y": (3, 4, 5)}, {"ids": (10**15,)}])
def test_claims_are_compared_with_the_file(folder, capsys, command, shapes):
    write_claim("bad.npz", **shapes)
    assert "bytes" in (error := refused(capsys, *command, "bad.npz")) and "bad.npz" in error


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
@pytest.mark.parametrize("command", [*COMMANDS, ("sample",), ("diagnose",)], ids=" ".join)
def test_a_pipe_is_refused_by_its_name(folder, capsys, command):
    os.mkfifo("bad.npz")
    assert "bad.npz: expected a file on a disk, got a pipe" in refused(capsys, *command, "bad.npz")


@pytest.mark.parametrize("command", [*COMMANDS, ("sample",), ("diagnose",)], ids=" ".join)
def test_an_encryption_flag_is_refused_by_every_command(folder, capsys, command):
    flip_encryption(folder / "model.npz" if command in (("sample",), ("diagnose",)) else folder / "good.npz")
    name = "model.npz" if len(command) == 1 else "good.npz"
    assert "stored or deflated, got one encrypted" in (error := refused(capsys, *command, name)) and name in error


@pytest.mark.parametrize("value", [2**16, 2**40, 2**62])
def test_more_classes_than_steps_are_refused_by_train(folder, capsys, value):
    y = np.arange(60) % 3
    y[5] = value
    np.savez("bad.npz", x=X, y=y)
    assert f"ids from 0 to 65,535, got {value} in y, first at [5]" in refused(capsys, "train", "--npz", "bad.npz")
    np.savez("bad.npz", ids=y.astype(np.uint64))
    assert f"got {value} in ids" in refused(capsys, "train", "--npz", "bad.npz")


def test_a_file_may_have_as_many_classes_as_steps(tmp_path):
    np.savez(tmp_path / "many.npz", ids=np.arange(70_000))
    assert read("npz", str(tmp_path / "many.npz")).outputs == 70_000


def test_diagnose_pairs_inputs_with_their_targets(folder, capsys):
    """x of 60 steps with y of 50 is refused; of equal lengths the stretches are the same."""
    np.savez("bad.npz", x=X, y=Y[:50])
    assert "expected x and y of as many steps, got x (60, 2) of float32, y (50, 3) of float32" in refused(
        capsys, *COMMANDS[1], "bad.npz")
    assert main(["diagnose", "model.npz", "--npz", "good.npz", "--json", "--steps", "20", "--batch", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    model, params, _ = fb.load_model("model.npz")
    starts = (0, 20, 40)
    tape, _, dh = model.errors(params, *[np.stack([a[s:s + 20] for s in starts], 1) for a in (X, Y)])
    np.testing.assert_allclose(found["rates"], fb.gradient_flow(model.cell, params.cell, tape, dh).rates)


def test_diagnose_names_the_file_of_a_batch_that_does_not_fit(folder, capsys):
    np.savez("bad.npz", x=X[:, None], y=Y[:50, None])
    assert "bad.npz: y: expected (60, 1, 3), got (50, 1, 3)" in refused(capsys, *COMMANDS[1], "bad.npz")
    np.savez("bad.npz", x=X[:, None], y=Y[:, None], lengths=[61])
    assert "bad.npz: lengths: expected" in refused(capsys, *COMMANDS[1], "bad.npz")


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="no /dev/fd")
@pytest.mark.parametrize("command", ["train", "demo", "diagnose"])
def test_a_text_from_a_pipe_is_refused_by_its_name(tmp_path, command):
    """A named one, and what a shell makes of <(…); neither waits for a writer."""
    os.mkfifo(tmp_path / "pipe")
    read_end, write_end = os.pipe()
    try:
        for path in (str(tmp_path / "pipe"), f"/dev/fd/{read_end}"):
            done = subprocess.run([sys.executable, "-m", "fastbptt", command, "--text", path], pass_fds=(read_end,),
                                  capture_output=True, text=True, timeout=60)
            assert done.returncode == 2 and f"{path}: expected a file on a disk, got a pipe" in done.stderr
    finally:
        os.close(read_end)
        os.close(write_end)
