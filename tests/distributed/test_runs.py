"""`fastbptt train` by several workers: the first one writes, all stop alike, a run goes on bit for bit."""
from __future__ import annotations

import json
import os
import threading

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.runs import Settings, begin, resume
from fastbptt.runs.agreement import Agreement, Wishes
from fastbptt.tree import leaves

SMALL = {"cell": "rnn", "hidden": 6, "window": 10, "evaluate_every": 20}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "t.txt"
    path.write_text("".join(np.random.default_rng(0).choice(["the ", "fox ", "dog.\n"], 500)))
    return path


def settings(text, **more):
    return Settings(str(text), "text", **{**SMALL, "batch": 2, "epochs": 1, **more})


def go(run, tell=None):
    """To the end; the run."""
    if tell is not None:
        run.tell = tell
    try:
        run.go()
    finally:
        if run.lock is not None:
            run.lock.release()
    return run


def arrays(folder, name="checkpoint.npz"):
    with np.load(folder / name) as archive:
        return {key: archive[key] for key in archive.files if key != "header"}


def header(folder):
    with np.load(folder / "checkpoint.npz") as archive:
        return json.loads(archive["header"].tobytes())


def lines(folder):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in found]


def same_files(one, other):
    for name in ("checkpoint.npz", "model.npz", "best.npz"):
        a, b = arrays(one, name), arrays(other, name)
        if a.keys() != b.keys() or any(a[key].tobytes() != b[key].tobytes() for key in a):
            return False
    return lines(one) == lines(other)


def test_two_workers_are_one_with_the_doubled_batch(text, tmp_path, on_workers):
    go(begin(settings(text, batch=4), tmp_path / "one", 60.0))
    runs = on_workers(2, lambda w: go(begin(settings(text), tmp_path / "two", 60.0, w)))
    one, two = arrays(tmp_path / "one"), arrays(tmp_path / "two")
    state = np.concatenate([two.pop("state.0"), two.pop("state.1")])
    np.testing.assert_allclose(state, one.pop("state.0"), atol=1e-5)
    assert one.keys() == two.keys()
    for key, array in one.items():
        np.testing.assert_allclose(two[key], array, rtol=1e-4, atol=1e-6)
    for a, b in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        assert a.keys() == b.keys() and all(b[key] == pytest.approx(value, rel=1e-5) for key, value in a.items())
    assert header(tmp_path / "two")["best"][0] == header(tmp_path / "one")["best"][0]
    assert runs[1].held_out == runs[0].held_out and header(tmp_path / "two")["settings"]["workers"] == 2
    assert set(os.listdir(tmp_path / "two")) == {"checkpoint.npz", "model.npz", "best.npz", "metrics.jsonl"}


def test_only_the_first_worker_writes(text, tmp_path, on_workers):
    """Other machines need no folder, and no checkpoint to go on with."""
    run = on_workers(2, lambda w: go(begin(settings(text), tmp_path / str(w.rank), 0.0, w)))[1]
    assert run.lock is None and set(os.listdir(tmp_path)) == {"0"}
    done = on_workers(2, lambda w: go(resume(tmp_path / str(w.rank), 60.0, epochs=2, workers=w)))
    assert set(os.listdir(tmp_path)) == {"0"} and done[1].progress.number == done[0].progress.number > run.progress.number


@pytest.mark.parametrize("more", [
    {"epochs": 2, "layers": 2, "dropout": 0.2, "truncate": "6,3", "schedule": "cosine"},
    pytest.param({"epochs": 12, "truncate": "auto", "batch": 1}, marks=pytest.mark.slow)])
@pytest.mark.parametrize("rank", [0, 1])
def test_stops_with_one_and_goes_on_bit_for_bit(more, rank, text, tmp_path, on_workers):
    """Ctrl-C on any worker, after the update under way or the next one."""
    on_workers(2, lambda w: go(begin(settings(text, **more), tmp_path / "whole", 60.0, w)))
    at = 31

    def stops(run, step):
        run.stop = run.workers.rank == rank and step.number >= at
    stopped = on_workers(2, lambda w: go(begin(settings(text, **more), tmp_path / "half", 60.0, w), stops))
    assert [run.progress.number for run in stopped] == [at + 1, at + 1] and all(run.stopped for run in stopped)
    assert header(tmp_path / "half")["number"] == at + 1 and not (tmp_path / "half" / "run.lock").exists()
    on_workers(2, lambda w: go(resume(tmp_path / "half", 60.0, workers=w)))
    assert same_files(tmp_path / "half", tmp_path / "whole")
    truncations = {name: header(tmp_path / name)["truncation"] for name in ("half", "whole")}
    assert truncations["half"] == truncations["whole"]


def test_checkpoints_under_way_hold_all_states(text, tmp_path, on_workers):
    """A run that is killed goes on from what the last checkpoint has: as after a kill, its later files are cut."""
    on_workers(2, lambda w: go(begin(settings(text, epochs=2), tmp_path / "whole", 60.0, w)))

    def fails(run, step):
        if step.number == 40 and run.workers.rank == 1:
            raise KeyError("the disk")
    found = on_workers(2, lambda w: go(begin(settings(text, epochs=2), tmp_path / "run", 0.0, w), fails))
    assert isinstance(found[1], KeyError)
    assert str(found[0]).startswith("worker 1 stopped: KeyError: 'the disk'; update 40 is saved")
    assert header(tmp_path / "run")["number"] == 40
    on_workers(2, lambda w: go(resume(tmp_path / "run", 60.0, workers=w)))
    assert same_files(tmp_path / "run", tmp_path / "whole")


def test_what_cannot_be_applied_ends_all_and_is_saved(text, tmp_path, on_workers):
    found = on_workers(2, lambda w: go(begin(settings(text, optimizer="sgd", lr=1e38, clip=1e6), tmp_path, 60.0, w)))
    number = header(tmp_path)["number"]
    assert number >= 1 and all(isinstance(error, ValueError) for error in found), found
    assert all(f"update {number} is saved" in str(error) for error in found), found


def test_a_full_disk_ends_all_and_the_last_checkpoint_stays(text, tmp_path, monkeypatch, on_workers):
    from fastbptt.runs import checkpoint
    save = checkpoint.save

    def full(path, settings, checksum, progress, trees):
        if progress.number > 5:
            raise OSError(28, "No space left on device")
        save(path, settings, checksum, progress, trees)
    monkeypatch.setattr("fastbptt.runs.checkpoint.save", full)
    found = on_workers(2, lambda w: go(begin(settings(text), tmp_path, 0.0, w)))
    assert isinstance(found[0], OSError) and "the checkpoint of update 5 stays" in str(found[0])
    assert str(found[1]).startswith("worker 0 stopped: ") and header(tmp_path)["number"] == 5


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("every", [0.0, 60.0])
def test_an_evaluation_that_fails_ends_all(every, rank, text, tmp_path, monkeypatch, on_workers):
    """Also at an update after which a checkpoint is due, where the others wait for the state of this worker."""
    evaluate = fb.evaluate

    def fails(model, params, held_out):
        if threading.current_thread().name == f"worker {rank}":
            raise MemoryError("too much")
        return evaluate(model, params, held_out)
    monkeypatch.setattr("fastbptt.runs.train.evaluate", fails)
    found = on_workers(2, lambda w: go(begin(settings(text), tmp_path, every, w)))
    assert isinstance(found[rank], MemoryError)
    assert str(found[1 - rank]).startswith(f"worker {rank} stopped: MemoryError: too much"), found


@pytest.mark.parametrize(("call", "rank", "message"), [
    (lambda t, f, w: begin(settings(t if w.rank else "none.txt"), f / "new", 60.0, w), 0, "No such file"),
    (lambda t, f, w: begin(settings("none.txt" if w.rank else t), f / "new", 60.0, w), 1, "No such file"),
    (lambda t, f, w: begin(settings(t), f / "run", 60.0, w), 0, "--out: expected a folder without a checkpoint"),
    (lambda t, f, w: begin(settings(t, batch=2000), f / "new", 60.0, w), 0, "batch=2000 on each of 2 workers"),
    (lambda t, f, w: begin(settings(t, lr=0.1 + w.rank), f / "new", 60.0, w), None, "--lr: expected the same on every worker"),
    (lambda t, f, w: begin(settings(f / "other.txt" if w.rank else t), f / "new", 60.0, w), None, "data: expected the same on"),
    (lambda t, f, w: resume(f / "none", 60.0, workers=w), 0, "--resume: expected a folder with checkpoint.npz"),
    (lambda t, f, w: resume(f / "alone", 60.0, workers=w), 0, "--resume: expected 1 workers, with which the run began, got 2"),
])
def test_refused_by_one_is_refused_by_all(call, rank, message, text, tmp_path, on_workers):
    (tmp_path / "other.txt").write_text(text.read_text()[::-1])
    on_workers(2, lambda w: go(begin(settings(text, window=100), tmp_path / "run", 60.0, w)))
    go(begin(settings(text, window=100), tmp_path / "alone", 60.0))
    found = on_workers(2, lambda w: call(text, tmp_path, w))
    assert all(isinstance(error, Exception) and message in str(error) for error in found), found
    if rank is not None:
        assert not isinstance(found[rank], fb.distributed.WorkerError)
        assert str(found[1 - rank]).startswith(f"worker {rank} stopped: ")
    assert not (tmp_path / "new").exists()
    for folder in ("run", "alone"):
        assert not (tmp_path / folder / "run.lock").exists()
    with pytest.raises(fb.FileError, match="expected 2 workers, with which the run began, got 1"):
        resume(tmp_path / "run", 60.0)


def test_wishes_of_one_are_those_of_all(on_workers):
    def run(workers):
        agreement = Agreement(workers, lambda: Wishes(workers.rank == 1, False, workers.rank == 0))
        total = agreement(np.arange(3.0))
        return agreement.wished, total.tolist(), agreement.gather(b"a" * workers.rank), agreement.first(bytes([workers.rank]))
    for found in on_workers(2, run):
        assert found == (Wishes(True, False, True), [0.0, 2.0, 4.0], [b"", b"a"], b"\x00")


def test_masks_and_states_of_workers_differ(text, tmp_path, on_workers):
    """Each worker has its own lanes, and its own state after them."""
    runs = on_workers(2, lambda w: go(begin(settings(text), tmp_path, 60.0, w)))
    states = [list(leaves(run.trees.state))[0] for run in runs]
    assert not np.array_equal(*states)
    assert all(np.array_equal(arrays(tmp_path)[f"state.{rank}"], state) for rank, state in enumerate(states))
