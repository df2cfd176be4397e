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


def test_a_lost_row_is_taken_from_no_other_and_comes_last_the_next_time():
    A = np.random.default_rng(2).normal(size=(3, 5, 7))
    A[1, 1] = -2 * A[1, 0]
    A[2, 3] = A[2, 0] + A[2, 2]
    A[2, 4] = 0
    order = np.tile(np.arange(5), (3, 1))
    basis, norms = gram_schmidt(A, order)
    assert order.tolist() == [[0, 1, 2, 3, 4], [0, 2, 3, 4, 1], [0, 1, 2, 3, 4]]
    assert np.argwhere(norms == 0).tolist() == [[1, 1], [2, 3], [2, 4]]
    for b, kept in ((1, [0, 2, 3, 4]), (2, [0, 1, 2])):
        alone, lengths = gram_schmidt(A[b:b + 1, kept])
        np.testing.assert_allclose(basis[b, kept], alone[0], atol=1e-14)
        np.testing.assert_allclose(norms[b, kept], lengths[0], rtol=1e-14)
    np.testing.assert_allclose(basis @ basis.swapaxes(1, 2), np.broadcast_to(np.eye(5), (3, 5, 5)), atol=1e-14)
    again, lengths = gram_schmidt(A, order)            # row 1 after row 4
    assert lengths[1, 1] == 0 and order[1].tolist() == [0, 2, 3, 4, 1]
    np.testing.assert_allclose(again @ again.swapaxes(1, 2), np.broadcast_to(np.eye(5), (3, 5, 5)), atol=1e-14)


@pytest.mark.parametrize("gap", [1e-4, 1e-7, 1e-10])
def test_rounding_through_a_small_remainder_is_no_length(gap):
    """Row 2 lies in the plane of rows 0 and 1, which differ by `gap`: the rounding of row 1 reaches it 1 / gap times as large."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        A = rng.normal(size=(1, 4, 6))
        A[0, 1] = A[0, 0] + gap * rng.normal(size=6)
        A[0, 2] = rng.normal() * A[0, 0] + (A[0, 1] - A[0, 0]) / gap
        basis, norms = gram_schmidt(A)
        assert np.flatnonzero(norms[0] == 0).tolist() == [2], norms
        np.testing.assert_allclose(basis[0] @ basis[0, 2], [0, 0, 1, 0], atol=1e-14)


@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-300, 1e-160, 1e155, 1e300, 1e307])
def test_rows_of_any_scale(scale):
    A = np.random.default_rng(3).integers(1, 8, (2, 4, 5)) * np.array([1.0, scale])[:, None, None]
    basis, norms = gram_schmidt(A)
    want, lengths = gram_schmidt(A / np.array([1.0, scale])[:, None, None])
    np.testing.assert_allclose(basis, want, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(norms[1], lengths[1] * scale, rtol=1e-12, atol=5e-324)
