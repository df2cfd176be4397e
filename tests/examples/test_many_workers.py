"""The examples of many workers and of many seeds: small, but as their pages start them."""
from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SMALL = ["--lanes", "4", "--hidden", "8", "--updates", "5"]


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def losses(text):
    return [float(number) for number in re.findall(r"(?:loss|held out) (\d+\.\d+)", text)]


def test_alone(capsys):
    load("many_machines").main(SMALL)
    text = capsys.readouterr().out
    assert len(losses(text)) == 6 and "1 workers" in text


@pytest.mark.slow
def test_two_workers_print_what_one_does(capsys):
    pytest.importorskip("torch")
    load("many_machines").main(SMALL)
    alone = losses(capsys.readouterr().out)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port,
                           str(EXAMPLES / "many_machines.py"), *SMALL], capture_output=True, text=True, timeout=240,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert losses(done.stdout) == pytest.approx(alone, abs=2e-5) and "2 workers" in done.stdout


def test_a_seed_gives_the_same_model_with_any_number_of_threads():
    sweep = load("seed_sweep")
    x, y = sweep.sequences(sweep.np.random.default_rng(0), 100)
    marked = (x[..., 1] == 1)
    assert (marked.sum(axis=0) == 2).all()
    sweep.np.testing.assert_allclose((x[..., 0] * marked).sum(axis=0), y[:, 0], rtol=1e-6)
    before = sweep.fb.get_num_threads()
    try:
        one = sweep.train_on_one_thread(1, 3)
        assert sweep.fb.get_num_threads() == 1
    finally:
        sweep.fb.set_num_threads(before)
    assert one.error == sweep.train(1, 3).error != sweep.train(2, 3).error


@pytest.mark.slow
def test_workers_of_joblib():
    pytest.importorskip("joblib")
    done = subprocess.run([sys.executable, str(EXAMPLES / "seed_sweep.py"), "--seeds", "4", "--updates", "20", "--workers", "2"],
                          capture_output=True, text=True, timeout=240, env=os.environ.copy())
    assert done.returncode == 0, done.stderr
    assert re.search(r"2 workers of joblib: \d+\.\d\d models a second", done.stdout), done.stdout
    assert re.search(r"one process, \d+ threads: \d+\.\d\d models a second; the workers are \d+\.\d\d times", done.stdout)
