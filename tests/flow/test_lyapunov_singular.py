"""Lyapunov exponents of singular Jacobians and of Jacobians of any scale, against 60 digits and against eigenvalues."""
from __future__ import annotations

from types import SimpleNamespace

import mpmath
import numpy as np
import pytest

import fastbptt as fb
from fastbptt import reference as ref
from fastbptt.flow.lyapunov import LONGEST, _growth, first_directions, growth_along
from fastbptt.flow.stack import linear_steps

ISSUE = np.array([[.6, .3, .1, .2], [.4, .2, -.5, .3], [.2, .1, .7, -.4], [.1, .05, .3, .5]])     # column 1 is half of column 0


def spectrum(W, T, k=None, **options):
    cell = fb.RNN(1, len(W), "identity")
    params = fb.RNNParams(np.zeros((len(W), 1)), np.array(W, float), np.zeros(len(W)))
    return fb.lyapunov_spectrum(cell, params, np.zeros((T, 1, 1)), k, **options)


def exact(J, begin, least=1e-40):
    """Exponents of Jacobians (T, S, S) with 60 digits: rows that lie in the span of those before them come last from then on."""
    with mpmath.workdps(60):
        rows = [mpmath.matrix(list(q)) for q in begin]
        logs, order = [mpmath.mpf(0)] * len(rows), list(range(len(rows)))
        fresh = np.random.default_rng(5)
        for step in J:
            M = mpmath.matrix(step.tolist())
            rows = [M * q for q in rows]
            whole = mpmath.sqrt(sum(mpmath.norm(q)**2 for q in rows))
            found, lost = [], []
            for i in order:
                rest = without(rows[i], [rows[j] for j in found])
                size = mpmath.norm(rest)
                if size <= whole * least:
                    logs[i], lost = -mpmath.inf, [*lost, i]
                    continue
                logs[i] += mpmath.log(size)
                rows[i], found = rest / size, [*found, i]
            for n, i in enumerate(lost):
                rest = without(mpmath.matrix(list(fresh.normal(size=len(step)))), [rows[j] for j in found + lost[:n]])
                rows[i] = rest / mpmath.norm(rest)
            order = found + lost
        return np.sort([float(v / len(J)) for v in logs])[::-1]


def without(row, basis):
    for _ in range(2):
        for q in basis:
            row = row - (q.T * row)[0] * q
    return row


def grown(J, k=None, transient=0, longest=LONGEST):
    """The exponents of Jacobians (T, S, S) by the loop of `lyapunov_spectrum`."""
    T, S = J.shape[:2]
    steps = SimpleNamespace(T=T, B=1, size=S, jvp=lambda at, rows: rows @ J[at, None].swapaxes(2, 3))
    logs = [found for _, found in _growth(steps, k or S, transient, longest)]
    return np.sort(np.sum(logs, axis=0)[0] / (T - transient))[::-1]


def singular(rng, S, rank, integers=True):
    """A random matrix of this rank: of eighths, exactly; or of real numbers, to rounding."""
    if integers:
        return rng.integers(-3, 4, (S, rank)) @ rng.integers(-3, 4, (rank, S)) / 8
    return rng.normal(size=(S, rank)) @ rng.normal(size=(rank, S))


def test_a_column_that_is_half_of_another():
    sizes = np.log(np.sort(np.abs(np.linalg.eigvals(ISSUE)))[:0:-1])      # without the smallest: 0, exactly or to rounding
    got = spectrum(ISSUE, 600)[0]
    np.testing.assert_allclose(got[:3], sizes, atol=2e-3)
    assert got[3] == -np.inf
    np.testing.assert_allclose(spectrum(ISSUE, 600, transient=300)[0, :3], sizes, atol=2e-3)
    assert spectrum(ISSUE, 600, transient=300)[0, 3] == -np.inf
    np.testing.assert_allclose(spectrum(ISSUE, 600, 3)[0], sizes, atol=5e-3)
    np.testing.assert_allclose(spectrum(ISSUE, 600, convergence=True)[0][0], got, atol=1e-9)
    np.testing.assert_allclose(ref.lyapunov(np.broadcast_to(ISSUE, (600, 1, 4, 4)))[0], got, atol=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_one_singular_matrix_again_and_again(seed):
    """As many finite exponents as eigenvalues that are not 0, each the logarithm of one."""
    rng = np.random.default_rng(seed)
    S = int(rng.integers(2, 9))
    W = singular(rng, S, int(rng.integers(1, S)), integers=seed % 2 == 0)
    with mpmath.workdps(60):
        values = mpmath.eig(mpmath.matrix(W.tolist()), left=False, right=False)
        sizes = np.sort([float(mpmath.log(abs(v))) if abs(v) > 1e-10 else -np.inf for v in values])[::-1]
    got = spectrum(W, 400)[0]
    assert np.array_equal(np.isinf(got), np.isinf(sizes)), (got, sizes)
    np.testing.assert_allclose(got[np.isfinite(got)], sizes[np.isfinite(sizes)], atol=0.05)


@pytest.mark.parametrize("integers", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_products_of_random_matrices_some_of_them_singular(seed, integers):
    """Two groups of units, each left to itself: the rows that are lost are not the last ones."""
    rng = np.random.default_rng(100 + seed)
    S, T, n = 6, 40, int(rng.integers(2, 5))
    J = np.zeros((T, S, S))
    for t in range(T):
        for part in (slice(0, n), slice(n, S)):
            size = part.stop - part.start
            J[t, part, part] = singular(rng, size, size if rng.random() < 0.8 else int(rng.integers(1, size + 1)), integers)
    lost = 1e-40 if integers else 1e-11
    got = grown(J)
    np.testing.assert_allclose(got, exact(J, np.eye(S), lost), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(grown(J, longest=1), got, rtol=1e-9, atol=1e-9)
    if integers:
        assert np.isfinite(got).sum() == rank_of_product(J)


@pytest.mark.parametrize("seed", range(6))
def test_fewer_exponents_than_units(seed):
    rng = np.random.default_rng(seed)
    S, T = int(rng.integers(3, 7)), 40
    J = np.stack([singular(rng, S, S if rng.random() < 0.7 else int(rng.integers(1, S + 1))) for _ in range(T)])
    want, begin = grown(J, S - 1), first_directions(S - 1, S)
    np.testing.assert_allclose(want, exact(J, begin), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ref.lyapunov(J[:, None], S - 1, begin=begin.T)[0], want, rtol=1e-8, atol=1e-8)


def rank_of_product(J):
    with mpmath.workdps(200):
        whole = mpmath.eye(J.shape[1])
        for step in J:
            whole = mpmath.matrix(step.tolist()) * whole
        values = mpmath.svd_r(whole, compute_uv=False)
        return sum(bool(v > values[0] * mpmath.mpf(10)**-150) for v in values)


def test_units_that_are_off_make_singular_jacobians():
    cell, rng = fb.RNN(2, 6, "relu"), np.random.default_rng(3)
    params = fb.RNNParams(rng.normal(size=(6, 2)), 0.7 * rng.normal(size=(6, 6)), 0.3 + rng.normal(size=6))
    x = rng.normal(size=(40, 1, 2))
    J = fb.jacobians(cell, params, fb.forward(cell, params, x))[:, 0]
    np.testing.assert_allclose(fb.lyapunov_spectrum(cell, params, x)[0], exact(J, np.eye(6)), rtol=1e-9, atol=1e-9)


def test_rounding_that_a_small_remainder_makes_large_is_not_an_exponent():
    """Rows 0 and 1 are almost parallel; row 2 lies in their plane: its remainder is 10⁹ times the rounding of a row."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        J = rng.normal(size=(5, 5))
        J[:, 1] = J[:, 0] + 1e-9 * rng.normal(size=5)
        J[:, 2] = J[:, 0] * rng.normal() + (J[:, 1] - J[:, 0]) * 1e9 * rng.normal()
        assert np.isinf(grown(J[None])).sum() == 1


@pytest.mark.parametrize("scale", [1e-308, 1e-300, 1e-160, 1e155, 1e300])
def test_any_scale(scale):
    """log |cA| = log c + log |A|, for whatever c that float64 has."""
    rng = np.random.default_rng(1)
    for W in (ISSUE, rng.normal(size=(3, 3)), np.eye(2)):
        np.testing.assert_allclose(spectrum(scale * W, 20), spectrum(W, 20) + np.log(scale), rtol=1e-12)
        np.testing.assert_allclose(spectrum(scale * W, 20, 2), spectrum(W, 20, 2) + np.log(scale), rtol=1e-12)


def test_scales_that_change_from_step_to_step():
    rng = np.random.default_rng(2)
    scales = rng.choice([1e-300, 1e-170, 1.0, 1.0, 1.0, 1.0, 1e170, 1e300], 60)
    J = rng.normal(size=(60, 4, 4))
    np.testing.assert_allclose(grown(J * scales[:, None, None]), grown(J) + np.log(scales).mean(), rtol=1e-9)


def test_growth_along_a_trajectory_of_any_scale():
    cell, W = fb.RNN(1, 3, "identity"), np.random.default_rng(0).normal(size=(3, 3))
    def logs(scale):
        params = fb.RNNParams(np.zeros((3, 1)), scale * W, np.zeros(3))
        return growth_along(linear_steps(cell, params, fb.forward(cell, params, np.zeros((8, 2, 1)))))
    for scale in (1e-300, 1e155, 1e300):
        np.testing.assert_allclose(logs(scale), logs(1.0) + np.log(scale), rtol=1e-12)
