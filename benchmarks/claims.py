"""Speed compared with what one would write without this library: `python -m benchmarks.claims [NAME …]` prints Markdown rows.

lengths: an LSTM over sequences of different lengths, against PyTorch's PackedSequence and against as many valid steps without
lengths. truncation: chunks and the sliding window, against PyTorch with detached states. flow: Jacobians and lags, against
torch.func and the rate of NumPy's product. lyapunov: against a loop of np.linalg.qr, to be run with OPENBLAS_NUM_THREADS=1.
budget: exact BPTT of a million steps within a memory budget. Medians of interleaved runs, after the results were compared;
run it with nothing else running.
"""
from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

import fastbptt as fb
from benchmarks.limits import product_rate


def medians(sides: dict[str, Callable[[], object]], turns: int = 9, seconds: float = 0.05) -> dict[str, float]:
    """Median seconds of a call of each side, in turns of so many seconds, or of one call where that takes longer."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side()
    for _ in range(turns):
        for name, side in sides.items():
            end = time.perf_counter() + seconds
            while True:
                start = time.perf_counter()
                side()
                taken[name].append(time.perf_counter() - start)
                if time.perf_counter() > end:
                    break
    return {name: float(np.median(values)) for name, values in taken.items()}


def row(what: str, ours: float, *others: str) -> None:
    print(f"| {what} | {ours * 1e3:.3g} ms | {' | '.join(others)} |", flush=True)


def lengths() -> None:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    T, B, I, H = 500, 16, 32, 64  # noqa: E741
    rng = np.random.default_rng(0)
    steps = rng.integers(1, T + 1, B)
    module = torch.nn.LSTM(I, H)
    cell = fb.LSTM(I, H)
    params = fb.interop.torch.from_state_dict(cell, module.state_dict())
    x, dh = rng.normal(size=(T, B, I)).astype(np.float32), rng.normal(size=(T, B, H)).astype(np.float32)
    dh[np.arange(T)[:, None] >= steps] = 0
    even = int(np.ceil(steps.sum() / B))
    tx, tdh = torch.tensor(x, requires_grad=True), torch.tensor(dh)

    def packed() -> object:
        module.zero_grad()
        tx.grad = None
        out, _ = module(pack_padded_sequence(tx, torch.tensor(steps), enforce_sorted=False))
        pad_packed_sequence(out, total_length=T)[0].backward(tdh)
        return module.weight_hh_l0.grad

    def ours() -> fb.Grads:
        return fb.backward(cell, params, fb.forward(cell, params, x, lengths=steps), dh)

    def without() -> fb.Grads:
        return fb.backward(cell, params, fb.forward(cell, params, x[:even]), dh[:even])

    np.testing.assert_allclose(ours().params.W, packed().numpy(), rtol=1e-3, atol=1e-2)
    t = medians({"ours": ours, "without": without, "packed": packed})
    row(f"LSTM, T = {T}, B = {B}, I = {I}, H = {H}, lengths uniform in 1 … T", t["ours"],
        f"PackedSequence: {t['packed'] / t['ours']:.1f} times as long",
        f"{t['ours'] / t['without']:.2f} of the time of as many valid steps ({even} × {B}) without lengths")


def truncation() -> None:
    import torch

    T, I, H, k = 1024, 16, 64, 32  # noqa: E741
    rng = np.random.default_rng(0)
    cell, module = fb.RNN(I, H), torch.nn.RNN(I, H)
    params = fb.interop.torch.from_state_dict(cell, module.state_dict())
    x, dh = rng.normal(size=(T, 1, I)).astype(np.float32), rng.normal(size=(T, 1, H)).astype(np.float32)
    tx, tdh = torch.tensor(x), torch.tensor(dh)

    def ours(cut: fb.Truncation | None) -> Callable[[], fb.Grads]:
        return lambda: fb.backward(cell, params, fb.forward(cell, params, x), dh, cut)

    def detached() -> torch.Tensor:
        """Backward over every k steps, the state detached between them."""
        module.zero_grad()
        h = torch.zeros(1, 1, H)
        for first in range(0, T, k):
            out, h = module(tx[first:first + k], h.detach())
            out.backward(tdh[first:first + k])
        return module.weight_hh_l0.grad

    def rerun() -> torch.Tensor:
        """For every t, from the detached state k steps before it once more, and backward from h_t alone."""
        module.zero_grad()
        with torch.no_grad():
            states = torch.cat([torch.zeros(1, 1, H), module(tx)[0]])
        for t in range(1, T + 1):
            first = max(0, t - k)
            out, _ = module(tx[first:t], states[first][None])
            out[-1].backward(tdh[t - 1])
        return module.weight_hh_l0.grad

    chunks, window = ours(fb.Truncation.chunks(k)), ours(fb.Truncation(k))
    for mine, theirs in ((chunks, detached), (window, rerun)):
        np.testing.assert_allclose(mine().params.W, theirs().numpy(), rtol=1e-3, atol=1e-2)
    t = medians({"full": ours(None), "chunks": chunks, "window": window, "detached": detached}, 15)
    slow = medians({"rerun": rerun}, 3)["rerun"]
    what = f"RNN, T = {T}, B = 1, I = {I}, H = {H}"
    row(f"{what}, chunks of {k}", t["chunks"],
        f"PyTorch, detached every {k} steps: {t['detached'] / t['chunks']:.0f} times as long",
        f"{t['chunks'] / t['full']:.2f} of full BPTT")
    row(f"{what}, window of {k}", t["window"], f"PyTorch, run again for every t: {slow / t['window']:.0f} times as long",
        f"{t['window'] / t['full']:.2f} of full BPTT")

    T, H = 4096, 128
    rate = 1e9 * product_rate(np.float32)
    cell = fb.RNN(I, H)
    params = cell.init()
    tape = fb.forward(cell, params, rng.normal(size=(T, 1, I)).astype(np.float32))
    dh = rng.normal(size=(T, 1, H)).astype(np.float32)
    t = medians({str(cut): lambda cut=cut: fb.backward(cell, params, tape, dh, cut)
                 for cut in (None, fb.Truncation.chunks(k), fb.Truncation(k))}, 15)
    full = t["None"]
    products = {str(fb.Truncation.chunks(k)): 1, str(fb.Truncation(k)): k}
    for name, per_step in products.items():
        flops = 2 * T * H * (per_step * H + H + 2 * I)      # δW; dW, dU, dx
        row(f"RNN, T = {T}, B = 1, I = {I}, H = {H}, backward, {name}", t[name],
            f"{100 * flops / t[name] / rate:.0f} % of NumPy's large product ({rate / 1e9:.0f} GFLOP/s)",
            f"{t[name] / full:.2f} of full BPTT")


def flow() -> None:
    import torch

    T, B, I, H = 200, 16, 32, 64  # noqa: E741
    rng = np.random.default_rng(0)
    cell, module = fb.RNN(I, H), torch.nn.RNNCell(I, H)
    params = cell.init()
    with torch.no_grad():
        module.weight_ih.copy_(torch.tensor(params.U))
        module.weight_hh.copy_(torch.tensor(params.W))
        module.bias_ih.zero_()
        module.bias_hh.zero_()
    x = rng.normal(size=(T, B, I)).astype(np.float32)
    tape = fb.forward(cell, params, x)
    before = torch.tensor(np.concatenate([tape.initial.h[None], tape.h[:-1]]).reshape(-1, H))
    inputs = torch.tensor(x.reshape(-1, I))
    some = 200

    def by_autograd() -> torch.Tensor:
        return torch.stack([torch.autograd.functional.jacobian(lambda h, i=i: module(inputs[i:i + 1], h[None])[0], before[i])
                            for i in range(some)])

    def by_vmap() -> torch.Tensor:
        return torch.func.vmap(torch.func.jacrev(lambda h, x: module(x[None], h[None])[0]))(before, inputs)

    J = fb.jacobians(cell, params, tape).reshape(-1, H, H)
    np.testing.assert_allclose(J, by_vmap().detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(J[:some], by_autograd().numpy(), rtol=1e-4, atol=1e-5)
    t = medians({"ours": lambda: fb.jacobians(cell, params, tape), "write": lambda: np.ones((T, B, H, H), np.float32),
                 "vmap": by_vmap}, 5)
    each = medians({"autograd": by_autograd}, 3)["autograd"] * T * B / some
    row(f"all Jacobians, T = {T}, B = {B}, H = {H}", t["ours"],
        f"functional.jacobian for each (t, b): {each / t['ours']:.0f} times as long, vmap(jacrev): {t['vmap'] / t['ours']:.1f}",
        f"{t['ours'] / t['write']:.2f} of writing such an array once")

    T, B, lags = 1024, 4, 64
    rate = 1e9 * product_rate(np.float32)
    cell = fb.RNN(H, H)
    params = cell.init()
    tape = fb.forward(cell, params, rng.normal(size=(T, B, H)).astype(np.float32))
    dh = rng.normal(size=(T, B, H)).astype(np.float32)
    seconds = medians({"ours": lambda: fb.lag_gradients(cell, params, tape, dh, lags)}, 7)["ours"]
    flops = lags * 2 * T * B * H * (H + H + H)      # δW, dW, dU
    row(f"{lags} lags, T = {T}, B = {B}, I = H = {H}", seconds,
        f"{100 * flops / seconds / rate:.0f} % of NumPy's large product ({rate / 1e9:.0f} GFLOP/s)", "")


def lyapunov() -> None:
    T, H = 2000, 64
    rng = np.random.default_rng(0)
    cell = fb.RNN(4, H)
    params = cell.init(dtype=np.float64, gain=1.5)
    x = 0.1 * rng.normal(size=(T, 1, 4))
    given = fb.jacobians(cell, params, fb.forward(cell, params, x))[:, 0]

    def loop() -> np.ndarray:
        Q, total = np.eye(H), np.zeros(H)
        for each in given:
            Q, R = np.linalg.qr(each @ Q)
            total += np.log(np.abs(np.diag(R)))
        return np.sort(total / T)[::-1]

    np.testing.assert_allclose(fb.lyapunov_spectrum(cell, params, x)[0], loop(), atol=1e-6)
    t = medians({"ours": lambda: fb.lyapunov_spectrum(cell, params, x), "loop": loop}, 3)
    row(f"Lyapunov exponents, k = H = {H}, T = {T}, forward pass included", t["ours"],
        f"np.linalg.qr(J[t] @ Q) on given Jacobians: {t['loop'] / t['ours']:.1f} times as long", "")


def budget() -> None:
    T, I, H = 1_000_000, 16, 64  # noqa: E741
    rng = np.random.default_rng(0)
    cell = fb.RNN(I, H)
    params = cell.init()
    x, dh = rng.normal(size=(T, 1, I)).astype(np.float32), rng.normal(size=(T, 1, H)).astype(np.float32)

    def run(limit: str | None) -> fb.Grads:
        return fb.backward(cell, params, fb.forward(cell, params, x, memory_budget=limit), dh)

    limit = 2**23
    kept, whole = run("8 MiB"), run(None)
    assert all(np.array_equal(a, b) for a, b in zip(kept.params, whole.params, strict=True))
    t = medians({"kept": lambda: run("8 MiB"), "whole": lambda: run(None)}, 3)
    tracemalloc.start()
    run("8 MiB")
    peak = tracemalloc.get_traced_memory()[1] - x.nbytes - sum(a.nbytes for a in params)
    tracemalloc.stop()
    row(f"RNN, T = {T:,}, B = 1, I = {I}, H = {H}, memory_budget=\"8 MiB\"", t["kept"],
        f"{t['kept'] / t['whole']:.2f} of the time without a budget",
        f"peak memory, inputs and results excluded: {peak / limit:.2f} of the budget")


CLAIMS = {f.__name__: f for f in (lengths, truncation, flow, lyapunov, budget)}


def main(names: list[str]) -> None:
    print("| what | fastbptt | compared with | |\n| --- | ---: | --- | --- |")
    for name in names or CLAIMS:
        CLAIMS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
