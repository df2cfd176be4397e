"""Files are written in one piece, wherever and under whatever name a file can be written."""
from __future__ import annotations

import os
import stat
import time

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.training import files
from fastbptt.training.files import remove_temporary, replacing

MODEL = fb.SequenceModel(fb.RNN(3, 4), 3)


def save(path, seed=0):
    fb.save_model(path, MODEL, MODEL.init(seed=seed))


def loaded(path):
    return fb.load_model(path).params.cell.W


def test_the_longest_name(tmp_path):
    path = tmp_path / ("m" * 251 + ".npz")
    save(path)
    assert np.array_equal(loaded(path), MODEL.init().cell.W) and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("there", [True, False])
def test_a_symbolic_link_stays_and_what_it_leads_to_is_written(tmp_path, there):
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "real.npz", tmp_path / "link.npz"
    if there:
        save(target)
    link.symlink_to(target)
    save(link, seed=1)
    assert link.is_symlink() and not target.is_symlink()
    assert np.array_equal(loaded(target), MODEL.init(seed=1).cell.W) and os.listdir(tmp_path / "disk") == ["real.npz"]


def test_permissions_stay(tmp_path):
    save(tmp_path / "m.npz")
    (tmp_path / "m.npz").chmod(0o600)
    save(tmp_path / "m.npz")
    assert stat.S_IMODE((tmp_path / "m.npz").stat().st_mode) == 0o600


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(fb.FileError, match="pipe: expected a file on a disk, got a pipe"):
        save(tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and len(os.listdir(tmp_path)) == 1


def test_what_a_killed_process_left_is_removed_later(tmp_path):
    old, new, other = (tmp_path / name for name in (".fastbptt-0.tmp", ".fastbptt-1.tmp", "mine.tmp"))
    for path in (old, new, other):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 4000,) * 2)
    os.utime(other, (time.time() - 4000,) * 2)
    files._tidy.cache_clear()
    save(tmp_path / "m.npz")
    assert sorted(os.listdir(tmp_path)) == [".fastbptt-1.tmp", "m.npz", "mine.tmp"]
    remove_temporary(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["m.npz", "mine.tmp"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("no")])
def test_what_fails_leaves_the_old_file_and_names_it(tmp_path, error):
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(type(error)) as caught, replacing(tmp_path / "a.png") as file:
        file.write(b"half of the new one")
        raise error
    assert (tmp_path / "a.png").read_bytes() == b"old" and os.listdir(tmp_path) == ["a.png"]
    if isinstance(error, OSError):
        assert caught.value.filename == str(tmp_path / "a.png") and caught.value.errno == 28


def test_a_folder_that_is_not_there_is_named_by_the_file(tmp_path):
    for path, error in ((tmp_path / "none" / "m.npz", FileNotFoundError), (tmp_path, IsADirectoryError)):
        with pytest.raises(error, match=str(path)):
            save(path)


@pytest.mark.parametrize(("vocabulary", "message"), [
    (fb.Vocabulary("ab"), "vocabulary: expected 3 characters, as many as the inputs of the model, got 2"),
    (fb.Vocabulary("abcd"), "got 4"), ("abc", "vocabulary: expected a fastbptt.Vocabulary or None, got str")])
def test_a_vocabulary_of_another_size_is_refused(tmp_path, vocabulary, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fb.save_model(tmp_path / "m.npz", MODEL, MODEL.init(), vocabulary)
    assert not os.listdir(tmp_path)


def test_a_file_with_a_vocabulary_of_another_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fastbptt.training.storage._check_vocabulary", lambda *_: None)
    fb.save_model(tmp_path / "m.npz", MODEL, MODEL.init(), fb.Vocabulary("ab"))
    monkeypatch.undo()
    with pytest.raises(fb.FileError, match="vocabulary: expected 3 characters"):
        fb.load_model(tmp_path / "m.npz")


def test_a_header_that_could_not_be_read_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("fastbptt.training.storage.LARGEST_JSON", 100)
    with pytest.raises(ValueError, match="model: expected masks and signs that are packed into 100 bytes"):
        save(tmp_path / "m.npz")
    assert not os.listdir(tmp_path)
