"""What this machine allows: `python -m benchmarks.limits` prints the limits that docs/performance.md compares with, as Markdown.

Medians of many repetitions; run it with nothing else running. Every product is compared with NumPy's before it is timed.
"""
from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

import fastbptt as fb
from fastbptt.engine import gemm, panels, simd
from fastbptt.engine.jit import kernel


@kernel
def pack(out, W):
    """W (N, K) as panels of its transpose."""
    N, K = W.shape
    panels.pack_transposed(out, 0, K, panels.vectors_in(N, out), 0, simd.flat(W), 0, N, K)


@kernel
def repeat_product(C, A, B, rows, K, N, times):
    """C (rows, N) = A (rows, K) B, again and again."""
    for _ in range(times):
        gemm.rows_times_panels(C, 0, N, A, 0, K, rows, K, B, 0, panels.vectors_in(N, C), False)


def median_seconds(call: Callable[[], object], repetitions: int = 31) -> float:
    call()
    taken = []
    for _ in range(repetitions):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def tile_seconds(rows: int, K: int, dtype: type, N: int | None = None) -> float:
    """Of one product of `rows` rows of K with a packed (K, N) matrix, on one thread; N is K unless it is given."""
    N = K if N is None else N
    rng = np.random.default_rng(0)
    A, W = rng.normal(size=(rows, K)).astype(dtype), rng.normal(size=(N, K)).astype(dtype)
    B, C = np.empty(K * N, dtype), np.empty(rows * N, dtype)
    pack(B, W)
    times = max(1, int(2e6 / (rows * K * N)))
    seconds = median_seconds(lambda: repeat_product(C, A.ravel(), B, rows, K, N, times)) / times
    np.testing.assert_allclose(C.reshape(rows, N), A @ W.T, rtol=1e-3, atol=1e-3)
    return seconds


def product_rate(dtype: type) -> float:
    """GFLOP/s of NumPy's large product, all threads."""
    a = np.ones((2048, 2048), dtype)
    rate = 2e-9 * 2048**3 / median_seconds(lambda: a @ a, 7)
    time.sleep(0.5)      # its threads keep a core busy for a while
    return rate


def step_seconds(H: int, dtype: type) -> tuple[float, float]:
    """Of one step forward and one step back of one sequence, products outside the recurrence included."""
    cell = fb.RNN(H, H)
    params, T = cell.init(dtype=dtype), 2000
    x = np.zeros((T, 1, H), dtype)
    tape = fb.forward(cell, params, x)
    ahead = median_seconds(lambda: fb.forward(cell, params, x))
    back = median_seconds(lambda: fb.backward(cell, params, tape, x))
    return ahead / T, back / T


def main() -> None:
    print("| limit | float32 | float64 |\n| --- | ---: | ---: |")
    rows = []
    for dtype in (np.float32, np.float64):
        large = product_rate(dtype)
        column = [f"{large:.0f} GFLOP/s"]
        for H in (64, 128, 256):
            column.append(f"{2e-9 * 24 * H * H / tile_seconds(24, H, dtype):.0f} GFLOP/s")
        for H in (32, 64, 128, 256):
            seconds = tile_seconds(1, H, dtype)
            column.append(f"{1e9 * seconds:.0f} ns, {H * H * np.dtype(dtype).itemsize / seconds / 1e9:.0f} GB/s")
        fb.set_num_threads(1)
        for H in (32, 64, 128):
            forward, backward = step_seconds(H, dtype)
            column.append(f"{1e9 * forward:.0f} + {1e9 * backward:.0f} ns")
        rows.append(column)
    names = ["NumPy 2048³, all threads", *(f"our tile, one thread, 24 rows, H = {H}" for H in (64, 128, 256)),
             *(f"one row times W, H = {H}: time, bytes of W" for H in (32, 64, 128, 256)),
             *(f"a step forward + back, one thread, B = 1, I = H = {H}" for H in (32, 64, 128))]
    for name, single, double in zip(names, *rows, strict=True):
        print(f"| {name} | {single} | {double} |")


if __name__ == "__main__":
    main()
