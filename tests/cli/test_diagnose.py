"""`fastbptt diagnose` as a user types it."""
from __future__ import annotations

import json

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.cli import main


@pytest.fixture
def saved(tmp_path):
    """A model of two inputs, its file, and a file of data."""
    model = fb.SequenceModel(fb.GRU(2, 4), 3, "squared_error")
    fb.save_model(tmp_path / "model.npz", model, model.init(seed=0))
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(9, 2, 2)).astype(np.float32), "y": rng.normal(size=(9, 2, 3)).astype(np.float32)}
    np.savez(tmp_path / "data.npz", **arrays, lengths=[9, 4])
    return tmp_path, model, arrays


def test_json_of_a_model_and_its_data(saved, capsys):
    folder, model, arrays = saved
    assert main(["diagnose", str(folder / "model.npz"), "--npz", str(folder / "data.npz"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    tape, _, dh = model.errors(model.init(seed=0), **arrays, lengths=[9, 4])
    want = fb.gradient_flow(model.cell, model.init(seed=0).cell, tape, dh)
    assert found["verdict"] == want.verdict and found["steps"] == 9
    np.testing.assert_allclose(found["rates"], want.rates)


def test_text_page_and_terminal(tmp_path, capsys):
    pytest.importorskip("rich")
    pytest.importorskip("matplotlib")
    (tmp_path / "a.txt").write_text("the writer of the books is here. " * 5, encoding="utf-8")
    text, out = str(tmp_path / "a.txt"), str(tmp_path / "out")
    assert main(["diagnose", "--text", text, "--steps", "20", "--batch", "3", "--out", out]) == 0
    said = capsys.readouterr().out
    page = (tmp_path / "out" / "diagnose.html").read_text(encoding="utf-8")
    for text in ("RNN(input_size=13, hidden_size=64", "spectral radius of W", "20"):
        assert text in said and text in page
    assert page.count("data:image/png") == 4


def test_steps_and_batch_are_not_ignored(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("the writer of the books is here. " * 5, encoding="utf-8")
    assert main(["diagnose", "--text", str(tmp_path / "a.txt"), "--steps", "7", "--batch", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 7 and len(found["rates"]) == 2


@pytest.mark.parametrize("arguments, message", [
    (["--npz", "data.npz"], "model: expected a file of save_model"),
    (["model.npz"], "--npz: expected a file with x and y"),
    (["model.npz", "--npz", "model.npz"], "--npz: expected the arrays x and y"),
    (["model.npz", "--npz", "text.txt"], "--npz: expected an npz file"),
    (["missing.npz"], "missing.npz"),
    (["--text", "text.txt", "--steps", "9"], "--text: expected at least 10 characters"),
    (["--text", "latin.txt"], "latin.txt: expected UTF-8"),
    (["--steps", "1"], "--steps: expected an integer of at least 2"),
    (["--batch", "0"], "--batch: expected an integer of at least 1"),
])
def test_bad_arguments_are_one_line_and_status_2(saved, monkeypatch, capsys, arguments, message):
    folder = saved[0]
    monkeypatch.chdir(folder)
    (folder / "text.txt").write_text("abcabc")
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    assert main(["diagnose", *arguments, "--json"]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


def test_files_of_train_are_files_of_diagnose(tmp_path, capsys):
    rng = np.random.default_rng(0)
    model = fb.SequenceModel(fb.RNN(2, 4), 3, "squared_error")
    fb.save_model(tmp_path / "model.npz", model, model.init(seed=0))
    np.savez(tmp_path / "one.npz", x=rng.normal(size=(90, 2)), y=rng.normal(size=(90, 3)))        # float64, one sequence
    of_ids = fb.SequenceModel(fb.RNN(3, 4), 3)
    fb.save_model(tmp_path / "ids.npz", of_ids, of_ids.init(seed=0))
    np.savez(tmp_path / "text.npz", ids=rng.integers(0, 3, 90))
    for files in (("model.npz", "one.npz"), ("ids.npz", "text.npz")):
        given = [str(tmp_path / name) for name in files]
        assert main(["diagnose", given[0], "--npz", given[1], "--json", "--steps", "20", "--batch", "5"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["steps"] == 20 and len(found["rates"]) == 5


def test_line_ends_are_characters(tmp_path, capsys):
    (tmp_path / "a.txt").write_bytes(b"ab\r\nba\r" * 20)
    model = fb.SequenceModel(fb.RNN(4, 3), 4)
    fb.save_model(tmp_path / "m.npz", model, model.init(seed=0), fb.Vocabulary.from_text("ab\r\n"))
    assert main(["diagnose", str(tmp_path / "m.npz"), "--text", str(tmp_path / "a.txt"), "--steps", "139", "--batch", "1",
                 "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 139
