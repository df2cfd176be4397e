"""Engines: what starts them, what they refuse, and MPI itself where it is installed."""
from __future__ import annotations

import builtins
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.cli import main

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def without(monkeypatch):
    """Hides a package."""
    found = builtins.__import__

    def hide(package):
        def imported(name, *arguments, **options):
            if name.split(".")[0] == package:
                raise ImportError(name)
            return found(name, *arguments, **options)
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(builtins, "__import__", imported)
    return hide


def test_sums_and_bytes(on_workers):
    def run(workers):
        given = [workers.rank + 1, 2]
        return (workers.rank, workers.size, workers(given).tolist(), given[0], workers.gather(bytes(workers.rank)),
                workers.first(b"of the first" if workers.rank == 0 else b""), workers.first(b""))
    assert on_workers(3, run) == [(rank, 3, [6.0, 6.0], rank + 1, [b"", b"\0", b"\0\0"], b"of the first", b"")
                                  for rank in range(3)]


def test_sums_do_not_change_what_is_summed(on_workers):
    vector = np.arange(3.0)
    assert on_workers(1, lambda w: w(vector))[0].tolist() == [0.0, 1.0, 2.0]
    assert all(np.array_equal(total, 2 * vector) for total in on_workers(2, lambda w: w(vector)))
    assert vector.tolist() == [0.0, 1.0, 2.0]


def test_a_lost_worker_ends_all_processes_of_mpi(on_workers):
    def run(workers):
        if workers.rank:
            workers.close()
            return workers._comm.aborted
        with pytest.raises(fb.distributed.WorkerError, match="worker 0: expected an answer of all 2 workers within 0.1 s"):
            workers([1.0])
        workers.close()
        return workers._comm.aborted
    assert on_workers(2, run, timeout=0.1) == [1, None]


def test_refused():
    with pytest.raises(TypeError, match="comm: expected a communicator of mpi4py, .* got int without Get_rank"):
        fb.distributed.mpi(7)
    for make in (fb.distributed.torch_gloo, lambda timeout: fb.distributed.mpi(None, timeout)):
        with pytest.raises((TypeError, ValueError)):
            make(timeout=0)


def test_without_the_engines(without, monkeypatch, tmp_path, capsys):
    without("torch")
    with pytest.raises(ImportError, match=r"torch_gloo: expected PyTorch .* pip install 'fastbptt\[torch\]'"):
        fb.distributed.torch_gloo()
    without("mpi4py")
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(ImportError, match=r"mpi: expected mpi4py .* pip install 'fastbptt\[mpi\]'"):
        fb.distributed.launched()
    assert main(["train", "--text", "t.txt", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith("fastbptt: train: fastbptt.distributed.mpi: expected mpi4py")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("variables", [{}, {"WORLD_SIZE": "1", "RANK": "0"}, {"PMI_SIZE": "1"}, {"WORLD_SIZE": "2"}])
def test_a_process_that_was_started_alone(variables, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert fb.distributed.launched() is None


MPI = """
import os, sys
import numpy as np
from mpi4py import MPI
import fastbptt as fb

workers = fb.distributed.mpi(MPI.COMM_WORLD, timeout=60)
rng = np.random.default_rng(0)
model = fb.SequenceModel(fb.RNN(3, 5), 2, "squared_error")
params = model.init(seed=0, dtype=np.float64)
batches = [{"x": rng.normal(size=(7, 4, 3)), "y": rng.normal(size=(7, 4, 2)), "lengths": [7, 2, 5, 1], "reduction": "mean"}
           for _ in range(4)]
own = slice(2 * workers.rank, 2 * workers.rank + 2)
parts = [{**b, "x": b["x"][:, own], "y": b["y"][:, own], "lengths": b["lengths"][own]} for b in batches]
one = fb.fit(model, params, batches, fb.Adam(0.01), clip=0.1)
two = fb.fit(model, params, parts, fb.Adam(0.01), clip=0.1, reduce=workers)
assert np.allclose(one.losses, two.losses, rtol=1e-12)
assert all(np.allclose(a, b, rtol=1e-12) for a, b in zip(one.params.cell, two.params.cell))
assert workers.gather(bytes(workers.rank)) == [b"", b"\\0"] and workers.first(bytes([workers.rank])) == b"\\0"
parts[2]["x"] = np.full_like(parts[2]["x"], np.nan if workers.rank else 0)
try:
    fb.fit(model, params, parts, fb.Adam(0.01), reduce=workers)
except (ValueError, fb.distributed.WorkerError) as error:
    told = workers.gather(f"{type(error).__name__} {str(error)[:40]}".encode())     # they all have ended, and can go on
if workers.rank == 0:
    print(b"\\n".join(told).decode())
"""
ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}      # so Open MPI runs in containers of one core too


def mpirun(*command):
    """The words of a call in two processes; skips without mpi4py or an MPI."""
    pytest.importorskip("mpi4py")
    beside = Path(sys.executable).with_name("mpirun")
    program = str(beside) if beside.exists() else shutil.which("mpirun")
    if program is None:
        pytest.skip("no mpirun is installed")
    return subprocess.run([program, "-n", "2", sys.executable, *command], capture_output=True, text=True, timeout=240,
                          env={**os.environ, **ROOT})


def test_two_processes_of_mpi():
    done = mpirun("-c", MPI)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["WorkerError worker 1 stopped: batch 3: expected a fi",
                                        "ValueError batch 3: expected a finite gradient, got"]


@pytest.mark.slow
def test_train_under_mpirun(tmp_path):
    (tmp_path / "t.txt").write_text("the quick brown fox. " * 100)
    options = ["--text", tmp_path / "t.txt", "--cell", "rnn", "--hidden", 8, "--window", 20, "--epochs", 1]
    done = mpirun("-m", "fastbptt", "train", *map(str, options), "--batch", "2", "--out", str(tmp_path / "two"))
    assert done.returncode == 0 and "2 workers with 2 × 20 steps" in " ".join(done.stdout.split()), done.stderr
    assert main(["train", *map(str, options), "--batch", "4", "--out", str(tmp_path / "one")]) == 0
    with np.load(tmp_path / "one" / "model.npz") as one, np.load(tmp_path / "two" / "model.npz") as two:
        assert all(np.allclose(one[key], two[key], rtol=1e-4, atol=1e-6) for key in one.files if one[key].dtype.kind == "f")
