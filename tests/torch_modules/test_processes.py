"""Several processes and threads: data parallel training, workers of a DataLoader, PyTorch's threads and ours in one process."""
from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest

import fastbptt as fb

torch = pytest.importorskip("torch")

import fastbptt.torch as ours  # noqa: E402
from fastbptt.torch.threads import as_many_threads  # noqa: E402

PARALLEL = """
import os, sys
import torch
import torch.distributed as dist
import fastbptt.torch as ours

rank = int(sys.argv[1])
torch.manual_seed(0)
module = ours.LSTM(3, 8, 2, batch_first=True, dtype=torch.float64)
x, y = torch.randn(6, 5, 3, dtype=torch.float64), torch.randn(6, 5, 8, dtype=torch.float64)
alone = [torch.autograd.grad(((module(x)[0] - y) ** 2).mean(), list(module.parameters()))]
dist.init_process_group("gloo", init_method="tcp://127.0.0.1:" + sys.argv[2], rank=rank, world_size=2)
parallel = torch.nn.parallel.DistributedDataParallel(module)
own = slice(3 * rank, 3 * rank + 3)
((parallel(x[own])[0] - y[own]) ** 2).mean().backward()
for p, want in zip(module.parameters(), alone[0]):
    torch.testing.assert_close(p.grad, want, rtol=1e-12, atol=1e-14)
dist.destroy_process_group()
print("equal")
"""


def environment(**more):
    return {**os.environ, **more}


def test_two_processes_give_the_gradients_of_one():
    """DistributedDataParallel over gloo: half of the batch each, the mean of both gradients."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    workers = [subprocess.Popen([sys.executable, "-c", PARALLEL, str(rank), port], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, env=environment(OMP_NUM_THREADS="1")) for rank in range(2)]
    try:
        for worker in workers:
            out, err = worker.communicate(timeout=120)
            assert worker.returncode == 0 and out.strip() == "equal", err
    finally:
        for worker in workers:
            worker.kill()


LOADER = """
import sys
import torch
import fastbptt.torch as ours


class Steps(torch.utils.data.Dataset):
    def __init__(self):
        torch.manual_seed(0)
        self.module = ours.GRU(3, 64).requires_grad_(False)

    def __len__(self):
        return 4

    def __getitem__(self, i):
        x = torch.randn(50, 32, 3, generator=torch.Generator().manual_seed(i))
        return self.module(x)[0]


if __name__ == "__main__":
    data = Steps()
    here = [data[i] for i in range(4)]
    there = list(torch.utils.data.DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context=sys.argv[1]))
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
    print("equal")
"""


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_of_a_data_loader(start, tmp_path):
    """Modules run in worker processes, after they have run in the process that starts these; the same bits."""
    if start not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not start processes by {start}")
    script = tmp_path / "loader.py"
    script.write_text(LOADER)
    done = subprocess.run([sys.executable, str(script), start], capture_output=True, text=True, timeout=120, env=environment())
    assert done.returncode == 0 and done.stdout.strip() == "equal", done.stderr


ORDERS = {"ours first": "import fastbptt, torch, fastbptt.torch as ours", "theirs first": "import torch, fastbptt.torch as ours",
          "threads first": "import fastbptt; fastbptt.set_num_threads(2); import torch, fastbptt.torch as ours"}


@pytest.mark.parametrize("order", ORDERS)
def test_threads_of_both_in_one_process(order):
    """PyTorch's threads and ours work in turn, in whatever order they were started."""
    code = f"""
{ORDERS[order]}
torch.manual_seed(0)
module, linear = ours.LSTM(64, 64), torch.nn.Linear(64, 512)
x = torch.randn(50, 32, 64)
first = None
for _ in range(3):
    module.zero_grad()
    linear(module(x)[0]).square().mean().backward()
    grads = [p.grad.clone() for p in module.parameters()]
    first = first or grads
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-9) for a, b in zip(first, grads))
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          env=environment(NUMBA_NUM_THREADS="2"))
    assert done.returncode == 0 and done.stdout.strip() == "done", done.stderr


@pytest.fixture
def two_threads():
    """PyTorch's and our numbers of threads come back as they were."""
    before, own = torch.get_num_threads(), fb.get_num_threads()
    yield
    torch.set_num_threads(before)
    fb.set_num_threads(own)


def test_the_threads_of_pytorch_are_a_limit(two_threads, monkeypatch):
    """torch.set_num_threads(1) means one thread for our kernels as well, in forward and backward, and for that call alone."""
    if fb.get_num_threads() < 2:
        pytest.skip("this process may use one thread only")
    seen = []
    for name in ("forward", "backward"):
        original = getattr(fb, name)
        monkeypatch.setattr(f"fastbptt.torch.scans.{name}",
                            lambda *a, original=original, **k: seen.append(fb.get_num_threads()) or original(*a, **k))
    module, x = ours.GRU(3, 4), torch.randn(5, 2, 3)
    torch.set_num_threads(1)
    module(x)[0].sum().backward()
    assert seen == [1, 1] and fb.get_num_threads() >= 2
    torch.set_num_threads(2)
    module(x)[0].sum().backward()
    assert seen[2:] == [2, 2]


def test_the_number_comes_back_after_an_error(two_threads):
    before = fb.get_num_threads()
    torch.set_num_threads(1)
    with pytest.raises(KeyError), as_many_threads():
        raise KeyError
    assert fb.get_num_threads() == before


def test_python_threads_share_a_module():
    """Forward and backward in four threads at once: each gets what it would get alone."""
    module = ours.LSTM(8, 32)
    inputs = [torch.randn(20, 16, 8, generator=torch.Generator().manual_seed(i)) for i in range(4)]

    def run(x):
        return torch.autograd.grad(module(x)[0].sum(), list(module.parameters()))
    want, found = [run(x) for x in inputs], [None] * 4

    def work(i):
        for _ in range(10):
            found[i] = run(inputs[i])
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(want, found, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))
