"""The kernels against gradients that share no code with them: three steps unrolled on paper, and the complex step."""
from __future__ import annotations

import numpy as np
import pytest

import fastbptt as fb

# σ′ from the pre-activation, written out here once more on purpose.
SIGMA = {
    "tanh": (np.tanh, lambda a: 1 / np.cosh(a) ** 2),
    "sigmoid": (lambda a: 1 / (1 + np.exp(-a)), lambda a: np.exp(-a) / (1 + np.exp(-a)) ** 2),
    "relu": (lambda a: np.maximum(a, 0), lambda a: (a > 0) * 1.0),
    "leaky_relu": (lambda a: np.where(a > 0, a, 0.01 * a), lambda a: np.where(a > 0, 1.0, 0.01)),
    "identity": (lambda a: a, np.ones_like),
}


@pytest.mark.parametrize("activation", SIGMA)
def test_three_steps_by_hand(activation):
    """∂L₃/∂W = ∂L₃/∂h₃ (∂⁺h₃/∂W + J₃ ∂⁺h₂/∂W + J₃ J₂ ∂⁺h₁/∂W), and ∂L₃/∂U likewise; L₁ and L₂ in the same way."""
    rng = np.random.default_rng(0)
    cell, sigma, slope = fb.RNN(3, 4, activation), *SIGMA[activation]
    U, W, b = (rng.normal(size=s) for s in cell.shapes.values())
    x1, x2, x3 = rng.normal(size=(3, 3))
    h0, e1, e2, e3 = rng.normal(size=(4, 4))
    a1 = U @ x1 + W @ h0 + b
    h1 = sigma(a1)
    a2 = U @ x2 + W @ h1 + b
    h2 = sigma(a2)
    a3 = U @ x3 + W @ h2 + b
    s1, s2, s3 = (np.diag(slope(a)) for a in (a1, a2, a3))
    J2, J3 = s2 @ W, s3 @ W                     # ∂h₂/∂h₁, ∂h₃/∂h₂
    explicit = lambda s, right: np.einsum("pq,r->pqr", s, right)  # noqa: E731  ∂⁺h_p/∂W_qr = σ′(a_p) right_r if p = q
    along = lambda matrix, tensor: np.einsum("ps,sqr->pqr", matrix, tensor)  # noqa: E731
    total = {}
    for name, (r1, r2, r3) in {"W": (h0, h1, h2), "U": (x1, x2, x3)}.items():
        d1 = explicit(s1, r1)
        d2 = explicit(s2, r2) + along(J2, d1)
        d3 = explicit(s3, r3) + along(J3, explicit(s2, r2)) + along(J3 @ J2, d1)
        total[name] = sum(np.einsum("p,pqr->qr", e, d) for e, d in ((e1, d1), (e2, d2), (e3, d3)))
    tape = fb.forward(cell, fb.RNNParams(U, W, b), np.array([x1, x2, x3])[:, None], fb.RNNState(h0[None]))
    grads = fb.backward(cell, fb.RNNParams(U, W, b), tape, np.array([e1, e2, e3])[:, None])
    np.testing.assert_allclose(grads.params.W, total["W"], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(grads.params.U, total["U"], rtol=1e-12, atol=1e-12)
    # The last loss alone, with a horizon of two steps: the term that passes two Jacobians is gone.
    cut = fb.backward(cell, fb.RNNParams(U, W, b), tape, np.array([0 * e1, 0 * e2, e3])[:, None], fb.Truncation(2))
    two = explicit(s3, h2) + along(J3, explicit(s2, h1))
    np.testing.assert_allclose(cut.params.W, np.einsum("p,pqr->qr", e3, two), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "identity"])
def test_complex_step(activation):
    """∂L/∂θ · v = Im L(θ + i ε v) / ε without cancellation, wherever σ is analytic: to 1e-13, with ε = 1e-30."""
    rng = np.random.default_rng(1)
    cell, sigma = fb.RNN(5, 7, activation), SIGMA[activation][0]
    arrays = [rng.normal(size=s) / 2 for s in (*cell.shapes.values(), (12, 3, 5), (3, 7))]
    dh = rng.normal(size=(12, 3, 7))
    directions = [rng.normal(size=a.shape) for a in arrays]
    U, W, b, x, h = (a + 1e-30j * v for a, v in zip(arrays, directions, strict=True))
    loss = 0j
    for t in range(12):
        h = sigma(x[t] @ U.T + h @ W.T + b)
        loss += (h * dh[t]).sum()
    params = fb.RNNParams(*arrays[:3])
    grads = fb.backward(cell, params, fb.forward(cell, params, arrays[3], fb.RNNState(arrays[4])), dh)
    parts = [float((g * v).sum()) for g, v in zip((*grads.params, grads.x, grads.state.h), directions, strict=True)]
    assert sum(parts) == pytest.approx(loss.imag / 1e-30, rel=1e-13, abs=1e-13 * sum(map(abs, parts)))


def test_gradient_is_linear_in_dh_for_every_form():
    rng = np.random.default_rng(2)
    cell = fb.RNN(4, 6)
    params = cell.init(seed=2, dtype=np.float64)
    tape = fb.forward(cell, params, rng.normal(size=(11, 3, 4)))
    one, two = rng.normal(size=(2, 11, 3, 6))
    for truncation in (None, fb.Truncation.chunks(4), fb.Truncation(4), fb.Truncation(5, 2)):
        both, first, second = (fb.backward(cell, params, tape, e, truncation) for e in (2 * one - 3 * two, one, two))
        for got, a, b in zip((*both.params, both.x, both.state.h), (*first.params, first.x, first.state.h),
                             (*second.params, second.x, second.state.h), strict=True):
            np.testing.assert_allclose(got, 2 * a - 3 * b, rtol=1e-11, atol=1e-12)
