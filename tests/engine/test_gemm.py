"""Products on packed panels against NumPy, at every tile shape; nothing outside an array is touched."""
from __future__ import annotations

import numpy as np
import pytest

from fastbptt.engine import gemm, panels, simd
from fastbptt.engine.jit import kernel


@kernel
def rows_product(C, A, W, M, K, N, add):
    vectors = panels.vectors_in(panels.padded(N, A), A)
    B = np.zeros(K * vectors * simd.lanes(A), A.dtype)
    panels.pack_transposed(B, 0, K, vectors, 0, W, 0, N, K)
    gemm.rows_times_panels(C, 0, panels.padded(N, A), A, 0, K, M, K, B, 0, vectors, add)


@kernel
def columns_product(C, A, X, M, K, N):
    vectors = panels.vectors_in(panels.padded(N, A), A)
    B = np.zeros(K * vectors * simd.lanes(A), A.dtype)
    panels.pack_rows(B, 0, K, 0, X, 0, K, K, N, vectors)
    gemm.columns_times_panels(C, 0, panels.padded(N, A), A, 0, M, M, K, B, 0, vectors)


def padded(n, dtype):
    unit = max(simd.lane_count(np.dtype(dtype)), 4)
    return -(-n // unit) * unit


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("M", [1, 2, 3, 4, 5, 6, 7, 8, 13, 37, 100])
def test_products(dtype, M):
    rng = np.random.default_rng(M)
    tolerance = 1e-4 if dtype == np.float32 else 1e-12
    for K, N in ((1, 1), (7, 37), (64, 64), (37, 100), (5, 33), (130, 9)):
        A, W = rng.normal(size=(M, K)).astype(dtype), rng.normal(size=(N, K)).astype(dtype)
        for add in (False, True):
            C = np.ones((M, padded(N, dtype)), dtype)
            rows_product(C.reshape(-1), A.reshape(-1), W.reshape(-1), M, K, N, add)
            np.testing.assert_allclose(C[:, :N], A @ W.T + add, rtol=tolerance, atol=tolerance)
        wide = -(-M // 4) * 4
        A, X = rng.normal(size=(K, wide)).astype(dtype), rng.normal(size=(K, N)).astype(dtype)
        C = np.ones((wide, padded(N, dtype)), dtype)
        columns_product(C.reshape(-1), A.reshape(-1), X.reshape(-1), wide, K, N)
        np.testing.assert_allclose(C[:, :N], A.T @ X + 1, rtol=tolerance, atol=tolerance)
