"""Whole products against NumPy: ragged sizes, several blocks, no rows, NaN, any number of threads."""
from __future__ import annotations

import numpy as np
import pytest

from fastbptt.engine.products import over_rows, times


def draw(N, K, M, dtype):
    rng = np.random.default_rng([N, K, M])
    return [rng.standard_normal(shape).astype(dtype) for shape in ((N, K), (K, M), (N, M))]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("N", "K", "M"), [(0, 3, 2), (1, 1, 1), (5, 37, 3), (31, 8, 100), (400, 33, 65), (5000, 20, 5),
                                           (3000, 64, 40)])
def test_equal_numpy(N, K, M, dtype):
    A, B, C = draw(N, K, M, dtype)
    tolerance = {"rtol": 1e-12, "atol": 1e-11} if dtype == np.float64 else {"rtol": 1e-4, "atol": 2e-3}
    for got, want in ((times(A, B), A @ B), (times(A, np.asfortranarray(B)), A @ B), (over_rows(A, C), A.T @ C)):
        assert got.shape == want.shape and got.dtype == want.dtype and got.flags.c_contiguous
        np.testing.assert_allclose(got, want, **tolerance)


def test_nan_stays_where_it_belongs():
    A, B, C = draw(70, 9, 5, np.float64)
    A[3, 2] = np.nan
    assert np.flatnonzero(np.isnan(times(A, B)).any(axis=1)).tolist() == [3]
    assert np.flatnonzero(np.isnan(over_rows(A, C)).any(axis=1)).tolist() == [2]
