"""Runs in folders that others use, whose data moved, whose files were cut: nothing is mixed, nothing is lost in silence."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.cli import main
from fastbptt.runs import Settings, begin
from fastbptt.runs.lock import LOCK, FolderLock
from fastbptt.training.npz import write_npz

SMALL = ("--cell", "rnn", "--hidden", "12", "--window", "20", "--batch", "4", "--evaluate-every", "50")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "t.txt"
    path.write_text("the quick brown fox. " * 200)
    return path


def train(*arguments):
    return main(["train", *map(str, arguments)])


def arrays(folder, name="checkpoint.npz"):
    with np.load(folder / name) as archive:
        return {key: archive[key] for key in archive.files if key != "header"}


def change_header(folder, change):
    """The checkpoint with another header."""
    with np.load(folder / "checkpoint.npz") as archive:
        found = {key: archive[key] for key in archive.files}
    header = json.loads(found["header"].tobytes())
    change(header)
    write_npz(folder / "checkpoint.npz", {**found, "header": np.frombuffer(json.dumps(header).encode(), np.uint8)})


def same_weights(one, other):
    one, other = arrays(one), arrays(other)
    return one.keys() == other.keys() and all(one[key].tobytes() == other[key].tobytes() for key in one)


@pytest.fixture(scope="module")
def made(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    assert train("--text", text, *SMALL, "--epochs", 1, "--out", folder / "half") == 0
    assert train("--text", text, *SMALL, "--epochs", 2, "--out", folder / "whole") == 0
    return folder


@pytest.fixture
def half(made, tmp_path):
    """A run of one epoch, to be gone on with to two, and what two give."""
    shutil.copytree(made / "half", tmp_path / "half")
    return tmp_path / "half", made / "whole"


def test_one_run_at_a_time(text, tmp_path, capsys):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "fastbptt", "train", "--text", str(text), *SMALL, "--seconds", "300", "--save-every", "0.1"]
    with subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (out / "checkpoint.npz").exists():
            assert process.poll() is None
            time.sleep(0.02)
        before = (out / "metrics.jsonl").stat().st_size
        for arguments in (("--resume", out), ("--text", text, *SMALL, "--epochs", 1, "--out", out)):
            assert train(*arguments) == 2
            error = capsys.readouterr().err
            assert len(error.splitlines()) == 1 and ("--resume" in error or "--out" in error)
        held = f"got .*run, held by process {process.pid} on .*; wait for it, stop it, or choose another"
        with pytest.raises(fb.FileError, match=f"--out: expected a folder that no other run writes to, {held}"):
            FolderLock(out, "--out")
        assert (out / "metrics.jsonl").stat().st_size >= before and process.poll() is None
        process.kill()
    assert (out / LOCK).exists()                                # and locks nothing any more
    assert train("--resume", out, "--epochs", 1) == 0 and not (out / LOCK).exists()


def test_a_folder_without_a_checkpoint_yet_is_locked_too(text, tmp_path, capsys):
    run = begin(Settings(str(text), "text", epochs=1), tmp_path / "run", 60)
    assert train("--text", text, *SMALL, "--epochs", 1, "--out", tmp_path / "run") == 2
    assert f"held by process {os.getpid()}" in capsys.readouterr().err
    run.lock.release()
    run.lock.release()
    assert train("--text", text, *SMALL, "--epochs", 1, "--out", tmp_path / "run") == 0


def test_a_lock_file_of_nonsense_is_no_lock(tmp_path, monkeypatch):
    (tmp_path / LOCK).write_bytes(b"\xff\x00[")
    lock = FolderLock(tmp_path, "--out")
    (tmp_path / LOCK).write_bytes(b"{}")
    with pytest.raises(fb.FileError, match="held by another process"):
        FolderLock(tmp_path, "--out")
    lock.release()
    monkeypatch.setattr("fastbptt.runs.lock.fcntl", None)       # where there are no such locks
    FolderLock(tmp_path, "--out").release()
    assert not os.listdir(tmp_path)


def test_what_killed_runs_left_is_removed(half):
    folder, whole = half
    (folder / ".fastbptt-00ff.tmp").write_bytes(b"half a checkpoint")
    assert train("--resume", folder, "--epochs", 2) == 0
    assert same_weights(folder, whole) and not list(folder.glob("*.tmp")) and not list(folder.glob(".*.tmp"))


def test_a_text_that_moved(half, text, tmp_path, capsys):
    folder, whole = half
    before, other = tmp_path / "before.txt", tmp_path / "other.txt"
    other.write_text(text.read_text().replace("fox", "box"))
    change_header(folder, lambda header: header["settings"].update(source=str(before)))
    np.savez(tmp_path / "ids.npz", ids=np.arange(60) % 3)
    for arguments, message in (((), f"expected {before}, the data of the run, got no such file; if they have moved, add --text"),
                               (("--text", other), "got other contents; if the data have moved, add --text PATH"),
                               (("--npz", tmp_path / "ids.npz"), "--npz: expected --text, with which the run began")):
        kept = (folder / "checkpoint.npz").read_bytes()
        assert train("--resume", folder, "--epochs", 2, *arguments) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1 and (folder / "checkpoint.npz").read_bytes() == kept
        assert not (folder / LOCK).exists()
    assert train("--resume", folder, "--epochs", 2, "--text", text) == 0 and same_weights(folder, whole)
    assert train("--resume", folder) == 0       # it keeps the new place


def test_train_without_data_is_one_line(capsys):
    assert train("--epochs", 1) == 2
    assert capsys.readouterr().err == "fastbptt: train: expected one of --text, --npz and --resume, got none\n"


@pytest.mark.parametrize("cut", [0, 10, 150, None])
def test_metrics_that_were_cut_go_on_from_their_last_whole_line(half, capsys, cut):
    folder, whole = half
    path, before = folder / "metrics.jsonl", (folder / "metrics.jsonl").read_bytes()
    if cut is None:
        path.unlink()
    else:
        path.write_bytes(before[:cut])
    capsys.readouterr()
    assert train("--resume", folder, "--epochs", 2) == 0
    assert "lines of metrics.jsonl from before it are missing" in " ".join(capsys.readouterr().out.split())
    after = path.read_bytes()
    kept = before[:(cut or 0)].rfind(b"\n") + 1
    assert b"\0" not in after and after[:kept] == before[:kept]
    updates = [json.loads(line)["update"] for line in after.splitlines()]
    assert updates == sorted(updates) and updates[-1] == 96 and same_weights(folder, whole)
    assert train("--resume", folder) == 0 and path.read_bytes() == after


@pytest.mark.parametrize("line", [b"\0\0\0", b"[1]", b"{}", b'{"update": 1}', b'{"update": 1, "held_out": "x"}', b"[" * 10_000,
                                  b"\xff"])
def test_metrics_of_others_are_refused_before_training(half, capsys, line):
    folder, _ = half
    path = folder / "metrics.jsonl"
    whole = path.read_bytes()
    first = whole.index(b"\n")
    path.write_bytes(line + whole[first:] + b" " * len(whole))
    change_header(folder, lambda header: header["metrics"].update(bytes=len(line) + len(whole) - first))
    assert train("--resume", folder, "--epochs", 2) == 2
    error = capsys.readouterr().err
    assert f"{path}: expected the metrics of a run, got another line 1" in error and len(error.splitlines()) == 1
    with np.load(folder / "checkpoint.npz") as archive:
        assert json.loads(archive["header"].tobytes())["number"] == 48


@pytest.mark.parametrize(("part", "change"), [
    ("metrics", {"bytes": -1}), ("metrics", {"bytes": 1.5}), ("metrics", {"pending": [1, 2]}),
    ("metrics", {"pending": ["1", 2, 3]}), (None, {"number": -1}), (None, {"number": True}), (None, {"position": [0]}),
    (None, {"position": [0, 0.5]}), (None, {"position": "ab"}), (None, {"position": [0, 10**12]}), (None, {"seconds": "1"}),
    (None, {"truncation": [1, 2]}), (None, {"truncation": [1]}), (None, {"best": [1]}), (None, {"best": 3}),
    (None, {"evaluated": None}), (None, {"metrics": []}), (None, {"version": 2}), ("settings", {"hidden": 13}),
    ("settings", {"hidden": 10**6}), ("settings", {"layers": 10**9}), ("settings", {"layers": 2}), ("settings", {"source": 5}),
    ("settings", {"kind": "x"}), ("settings", {"truncate": 7}), ("settings", {"more": 7}), ("settings", {"batch": 5}),
])
def test_crafted_checkpoints_are_one_line(half, capsys, part, change):
    folder, _ = half
    change_header(folder, lambda header: (header if part is None else header[part]).update(change))
    assert train("--resume", folder, "--epochs", 2) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and error.startswith("fastbptt: ")
    assert "checkpoint.npz: " in error or "position" in error, error


def test_a_crafted_length_takes_no_memory(half):
    """Of the metrics: the file is shorter than that, whatever the number says."""
    folder, whole = half
    change_header(folder, lambda header: header["metrics"].update(bytes=10**12))
    assert train("--resume", folder, "--epochs", 2) == 0
    assert (folder / "metrics.jsonl").stat().st_size < 10_000 and same_weights(folder, whole)


def test_an_encryption_flag_in_a_checkpoint(half, capsys):
    folder, _ = half
    data = bytearray((folder / "checkpoint.npz").read_bytes())
    data[data.rfind(b"PK\1\2") + 8] |= 1
    (folder / "checkpoint.npz").write_bytes(data)
    assert train("--resume", folder) == 2
    assert "checkpoint.npz: " in (error := capsys.readouterr().err) and "encrypted" in error


def test_a_run_that_diverges_keeps_what_it_had(tmp_path, capsys):
    """Squared error at a rate that explodes after some updates."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=rng.normal(size=(4000, 2)), y=1e12 * rng.normal(size=(4000, 1)))
    options = (*SMALL, "--optimizer", "sgd", "--lr", 1e15, "--clip", 1e30, "--epochs", 1)
    assert train("--npz", tmp_path / "d.npz", *options, "--out", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and " is saved, --resume" in error, error
    kept = arrays(tmp_path / "run")
    assert all(np.isfinite(array).all() for array in kept.values())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_curves_are_drawn_of_losses_that_are_not_finite(text, tmp_path, monkeypatch, bad):
    """And the first evaluation that is a number is the best so far."""
    values = iter([bad, 2.0, 3.0] + [4.0] * 50)
    monkeypatch.setattr("fastbptt.runs.train.evaluate", lambda *_: next(values) * np.log(2))
    assert train("--text", text, *SMALL, "--evaluate-every", 20, "--epochs", 1, "--out", tmp_path / "run") == 0
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000
    with np.load(tmp_path / "run" / "checkpoint.npz") as archive:
        assert json.loads(archive["header"].tobytes())["best"] == [40, 2.0]
