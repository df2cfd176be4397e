"""Gram–Schmidt against LAPACK: ragged sizes, nearly dependent rows, rows lost to rounding."""
from __future__ import annotations

import numpy as np
import pytest

from fastbptt.engine.orthogonal import gram_schmidt


@pytest.mark.parametrize(("B", "k", "S"), [(1, 1, 1), (3, 5, 7), (2, 37, 37), (1, 64, 64), (2, 6, 100)])
def test_equals_qr(B, k, S):
    A = np.random.default_rng(k).normal(size=(B, k, S))
    before = A.copy()
    basis, norms = gram_schmidt(A)
    Q, R = np.linalg.qr(A.swapaxes(1, 2))
    np.testing.assert_allclose(norms, np.abs(np.einsum("bii->bi", R)), rtol=1e-10)
    np.testing.assert_allclose(np.abs(np.einsum("bij,bji->bi", basis, Q)), 1, rtol=1e-10)
    np.testing.assert_allclose(basis @ basis.swapaxes(1, 2), np.broadcast_to(np.eye(k), (B, k, k)), atol=1e-11)
    assert np.array_equal(A, before)


def test_lengths_of_rows_that_differ_by_many_orders():
    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.normal(size=(20, 20)))[0] for _ in range(2))
    A = (U * np.logspace(0, -9, 20)) @ V
    norms = gram_schmidt(A[None])[1][0]
    want = np.abs(np.diag(np.linalg.qr(A.T)[1]))
    np.testing.assert_allclose(norms, want, rtol=1e-6)


def test_dependent_rows_have_length_0():
    A = np.random.default_rng(1).normal(size=(1, 4, 9))
    A[0, 2] = A[0, 0] - 2 * A[0, 1]
    norms = gram_schmidt(A)[1][0]
    assert norms[2] == 0 and (norms[[0, 1, 3]] > 0.1).all()
    basis, norms = gram_schmidt(np.zeros((1, 2, 3)))
    assert np.array_equal(norms, [[0, 0]]) and np.isfinite(basis).all()
