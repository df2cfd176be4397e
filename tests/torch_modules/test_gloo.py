"""Two real processes over gloo: they equal one, end with each other, and `fastbptt train` goes on under torchrun."""
from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

import fastbptt as fb

torch = pytest.importorskip("torch")

# Two workers take the steps of one; then worker 1 meets NaN; then it is killed, and worker 0 has 30 s to notice.
TOGETHER = """
import os
import numpy as np
import fastbptt as fb

workers = fb.distributed.torch_gloo(timeout=30)
model = fb.SequenceModel(fb.RNN(3, 5), 2, "squared_error")
params = model.init(seed=0, dtype=np.float64)
rng = np.random.default_rng(0)
batches = [{"x": rng.normal(size=(7, 4, 3)), "y": rng.normal(size=(7, 4, 2)), "lengths": [7, 2, 5, 1], "reduction": "mean"}
           for _ in range(4)]
own = slice(2 * workers.rank, 2 * workers.rank + 2)
parts = [{**b, "x": b["x"][:, own], "y": b["y"][:, own], "lengths": b["lengths"][own]} for b in batches]
one = fb.fit(model, params, batches, fb.Adam(0.01), clip=0.1)
two = fb.fit(model, params, parts, fb.Adam(0.01), clip=0.1, reduce=workers)
assert np.allclose(one.losses, two.losses, rtol=1e-12)
assert all(np.allclose(a, b, rtol=1e-12) for a, b in zip(one.params.cell, two.params.cell))
bits = workers.gather(two.params.cell.W.tobytes())
assert bits[0] == bits[1] and workers.first(bytes([workers.rank])) == b"\\0"
parts[2] = {**parts[2], "x": np.full_like(parts[2]["x"], np.nan if workers.rank else 0)}
try:
    fb.fit(model, params, parts, fb.Adam(0.01), reduce=workers)
except (ValueError, fb.distributed.WorkerError) as error:
    print(type(error).__name__, str(error)[:40], flush=True)


def killed():
    for number in range(1000):
        if number == 5 and workers.rank:
            os.kill(os.getpid(), 9)
        yield parts[0]


try:
    fb.fit(model, params, killed(), fb.Adam(0.01), reduce=workers)
except fb.distributed.WorkerError as error:
    print(len(error.fitted.losses), str(error)[:52], flush=True)
workers.close()
"""


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def test_two_processes_are_one_and_end_together(port):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    workers = [subprocess.Popen([sys.executable, "-c", TOGETHER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env={**environment, "RANK": str(rank)}) for rank in range(2)]
    try:
        said = [worker.communicate(timeout=240) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, -signal.SIGKILL], said
    assert said[0][0].splitlines() == ["WorkerError worker 1 stopped: batch 3: expected a fi",
                                       "5 worker 0: expected an answer of all 2 workers within"], said
    assert said[1][0].splitlines() == ["ValueError batch 3: expected a finite gradient, got"], said


def test_a_group_of_the_users(port):
    """`torch.distributed` that was begun before stays; a group of one's own is used."""
    import torch.distributed as dist
    with pytest.raises(ValueError, match="torch_gloo: expected a process that torchrun started, .* got no RANK"):
        fb.distributed.torch_gloo()
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    try:
        for workers in (fb.distributed.torch_gloo(timeout=5), fb.distributed.torch_gloo(group=dist.group.WORLD)):
            assert (workers.rank, workers.size) == (0, 1) and workers([1.0, 2.0]).tolist() == [1.0, 2.0]
            workers.close()
            assert dist.is_initialized()
    finally:
        dist.destroy_process_group()


def start(port, *arguments, processes=2):
    """`fastbptt train` under torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", port,
               "-m", "fastbptt", "train", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})


def finish(process):
    out, error = process.communicate(timeout=300)
    return process.returncode, out, error


def arrays(folder):
    with np.load(folder / "checkpoint.npz") as archive:
        return {key: archive[key] for key in archive.files if key != "header"}


def number_of(folder):
    with np.load(folder / "checkpoint.npz") as archive:
        return json.loads(archive["header"].tobytes())["number"]


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def processes_of(folder):
    """The workers that torchrun has started, by their command lines."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode().split("\0")
        except OSError:
            continue
        if str(folder) in words and "torch.distributed.run" not in words:
            found.append(int(pid))
    return sorted(found)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="finds the processes of torchrun in /proc")
def test_killed_interrupted_and_resumed_under_torchrun(port, tmp_path):
    """kill -9 of one worker and Ctrl-C for all: none hangs, and the run goes on with two workers, bit for bit."""
    text = tmp_path / "t.txt"
    text.write_text("".join(np.random.default_rng(0).choice(["the ", "fox ", "dog.\n"], 4000)))
    options = ("--text", text, "--cell", "rnn", "--hidden", 12, "--window", 10, "--batch", 2, "--epochs", 4, "--layers", 2,
               "--dropout", 0.2, "--evaluate-every", 100)
    assert finish(start(port, *options, "--out", tmp_path / "whole"))[0] == 0
    run = tmp_path / "run"
    first = start(port, *options, "--out", run, "--save-every", 0.05)
    wait_for(run / "checkpoint.npz", first)
    os.kill(processes_of(run)[-1], signal.SIGKILL)
    status, _, error = finish(first)
    assert status != 0 and "expected an answer of all 2 workers within 600 s" in error, error
    second = start(port, "--resume", run, "--save-every", 0.05)
    before = os.stat(run / "checkpoint.npz").st_mtime_ns
    while os.stat(run / "checkpoint.npz").st_mtime_ns == before:
        assert second.poll() is None, second.communicate()
        time.sleep(0.02)
    second.send_signal(signal.SIGINT)
    status, _, error = finish(second)
    assert status != 0, error
    assert f"update {number_of(run)} is saved, go on: fastbptt train --resume {run}, with 2 workers" in error, error
    assert number_of(run) < number_of(tmp_path / "whole")
    status, _, error = finish(start(port, "--resume", run, processes=1))
    assert status != 0 and "--resume: expected 2 workers, with which the run began, got 1" in error
    assert finish(start(port, "--resume", run))[0] == 0
    one, other = arrays(run), arrays(tmp_path / "whole")
    assert one.keys() == other.keys() and all(one[key].tobytes() == other[key].tobytes() for key in one)
