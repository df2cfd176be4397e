"""engine/activations.py: against high precision, over every float32 (marked `evidence`), and scalar against vector.

An error of 3 ULP is the contract; LARGEST is what the docstrings promise, for float32 just above what the run over all
inputs finds, for float64 above what dense samples find (1.54 and 2.47), so that a change for the worse is seen. Where a
result lies below the normal range, 2**-126 (2**-1022) absolute is enough.
"""
from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from fastbptt.engine import activations, simd
from fastbptt.engine.compat import PLAIN

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DTYPES = (np.float32, np.float64)
SMOOTH = ("tanh", "sigmoid")
LARGEST = {("tanh", np.float32): 1.4, ("sigmoid", np.float32): 2.5, ("tanh", np.float64): 1.6, ("sigmoid", np.float64): 2.6}
UINT = {np.float32: np.uint32, np.float64: np.uint64}
INFINITY = {np.float32: 0x7F800000, np.float64: 0x7FF << 52}     # bit patterns
SPECIAL = (0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 0.55, -0.55, 9.0, -88.0, 709.0, -745.0,
           1e-45, -1e-45, 1e-38, 1e-310, 1e30, -1e30)


def vector_kernel(function, code):
    """out = function(code, x) by vectors, for any size."""
    @njit
    def run(out, x):
        for i in range(0, x.size, simd.lanes(x)):
            simd.store_part(out, i, function(code, simd.load_part(x, i, x.size - i)), x.size - i)
    return run


def scalar_kernel(function, code):
    """out = function(code, x) by elements."""
    @njit
    def run(out, x):
        for i in range(x.size):
            out[i] = function(code, x[i])
    return run


VECTOR = {name: vector_kernel(activations.activate, code) for code, name in enumerate(activations.NAMES)}
SCALAR = {name: scalar_kernel(activations.activate, code) for code, name in enumerate(activations.NAMES)}
VECTOR_GRAD = {name: vector_kernel(activations.activate_grad, code) for code, name in enumerate(activations.NAMES)}
SCALAR_GRAD = {name: scalar_kernel(activations.activate_grad, code) for code, name in enumerate(activations.NAMES)}


def applied(kernel, x):
    out = np.empty_like(x)
    kernel(out, x)
    return out


def bits(x):
    return x.view(UINT[x.dtype.type])


def every_float(start, stop, dtype, negative=False):
    """The floats whose bit patterns are start … stop - 1; or their negatives, in ascending order too."""
    x = np.arange(start, stop, dtype=UINT[dtype]).view(dtype)
    return np.ascontiguousarray(-x[::-1]) if negative else x


def around(place, dtype, n=4096):
    """2 n consecutive floats around `place`, ascending."""
    middle = int(bits(np.array([abs(place)], dtype))[0])
    return every_float(max(middle - n, 0), min(middle + n, INFINITY[dtype]), dtype, negative=place < 0)


def boundaries(name, dtype):
    """Where the formula changes: another power of two in exp, the small argument, the ends; and powers of two."""
    steps, factor = (29, 2.0) if name == "tanh" else ((127, 1.0) if dtype is np.float32 else (1023, 1.0))
    places = [(n + 0.5) * math.log(2.0) / factor for n in range(steps)]
    places += [0.0, 0.55, 0.5, 10.0, 20.0, 17.0, 37.0, 87.34, 708.4] + [2.0**k for k in range(-30, 11)]
    return places + [-p for p in places if p > 0]


def sample(dtype, size, seed=0):
    """Numbers of every magnitude, most of them where the functions bend."""
    rng = np.random.default_rng(seed)
    wide = np.ldexp(rng.uniform(-2.0, 2.0, size // 2), rng.integers(-40, 11, size // 2))
    return np.concatenate([SPECIAL, rng.normal(0.0, 3.0, size // 2), wide]).astype(dtype)


# ---------------------------------------------------------------------------------------------- error and order

def worst_error(y, high, low=0.0):
    """Largest error of y in ULP of its format, against high + low; an error below the smallest normal number does not count."""
    error = np.abs((y - high) - low)
    ulp = np.spacing(np.abs(high.astype(y.dtype)))
    return float(np.max(error / ulp, where=error > np.finfo(y.dtype).tiny, initial=0.0))


def in_wide_format(name, x, wide):
    """The function in a format so wide that its own error does not count."""
    t = x.astype(wide)
    with np.errstate(over="ignore"):
        return np.tanh(t) if name == "tanh" else 1 / (1 + np.exp(-t))


def in_100_bits(name, x):
    """The function by mpmath, as a sum of two float64 arrays."""
    with mpmath.workprec(100):
        t = [mpmath.mpf(float(v)) for v in x]
        exact = [mpmath.tanh(v) if name == "tanh" else 1 / (1 + mpmath.exp(-v)) for v in t]
        return np.array([float(e) for e in exact]), np.array([float(e - mpmath.mpf(float(e))) for e in exact])


def worst_of_float32(name, x):
    """Largest error over ascending x, after checks that the results ascend and that scalars give the same bits."""
    y = applied(VECTOR[name], x)
    assert (np.diff(y) >= 0).all(), f"{name} descends between {x[0]} and {x[-1]}"
    assert np.array_equal(bits(y), bits(applied(SCALAR[name], x)))
    return worst_error(y, in_wide_format(name, x, np.float64))


@pytest.mark.parametrize("name", SMOOTH)
def test_float32_error_and_order_on_a_sample(name):
    starts = np.random.default_rng(1).integers(0, INFINITY[np.float32] - 4096, 300)
    blocks = [every_float(s, s + 4096, np.float32, negative) for s in starts for negative in (False, True)]
    blocks += [around(p, np.float32) for p in boundaries(name, np.float32)]
    assert 0.5 < max(worst_of_float32(name, x) for x in blocks) <= LARGEST[name, np.float32]


@pytest.mark.evidence
@pytest.mark.parametrize("name", SMOOTH)
def test_float32_error_and_order_on_all_inputs(name):
    chunk, top, worst, last = 1 << 16, INFINITY[np.float32], 0.0, -math.inf
    for negative in (True, False):
        for start in range(0, top + 1, chunk)[:: -1 if negative else 1]:
            x = every_float(start, min(start + chunk, top + 1), np.float32, negative)
            worst = max(worst, worst_of_float32(name, x))
            ends = applied(VECTOR[name], x[[0, -1]])
            assert ends[0] >= last, f"{name} descends at {x[0]}"
            last = ends[1]
        for start in range(top + 1, 1 << 31, chunk):
            x = every_float(start, min(start + chunk, 1 << 31), np.float32, negative)
            assert np.isnan(applied(VECTOR[name], x)).all() and np.isnan(applied(SCALAR[name], x)).all()
    print(f"{name}: largest error over all float32 {worst:.4f} ULP")
    assert worst <= LARGEST[name, np.float32]


@pytest.mark.parametrize("name", SMOOTH)
def test_float64_error_against_mpmath(name):
    rng = np.random.default_rng(2)
    near = [rng.choice(around(p, np.float64), 5) for p in boundaries(name, np.float64)[::7]]
    x = np.concatenate([sample(np.float64, 8000), rng.uniform(-2.0, 2.0, 4000), *near])
    x = x[np.isfinite(x)]
    assert 0.5 < worst_error(applied(VECTOR[name], x), *in_100_bits(name, x)) <= LARGEST[name, np.float64]


@pytest.mark.evidence
@pytest.mark.parametrize("name", SMOOTH)
def test_float64_error_on_dense_samples(name):
    assert np.finfo(np.longdouble).nmant >= 63, "this run needs a long double of 64 bits or more"
    rng, worst = np.random.default_rng(3), 0.0
    for low, high in ((-0.7, 0.7), (-3.0, 3.0), (-40.0, 40.0), (-709.0, 0.0), (0.55, 0.6), (-40.0, -33.0)):
        for _ in range(32):
            x = rng.uniform(low, high, 1 << 16)
            worst = max(worst, worst_error(applied(VECTOR[name], x), in_wide_format(name, x, np.longdouble)))
    print(f"{name}: largest error over {6 * 32 << 16} float64 {worst:.4f} ULP")
    assert worst <= LARGEST[name, np.float64]


@pytest.mark.parametrize("name", SMOOTH)
def test_float64_order_on_consecutive_runs(name):
    rng = np.random.default_rng(4)
    places = boundaries(name, np.float64) + list(rng.uniform(-1.2, 1.2, 500)) + list(rng.normal(0.0, 5.0, 500))
    for place in places:
        x = around(place, np.float64)
        assert (np.diff(applied(VECTOR[name], x)) >= 0.0).all(), f"{name} descends near {place}"


# ---------------------------------------------------------------------------------------------- exact values

@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_at_its_fixed_points(dtype):
    x = np.array([0.0, -0.0, math.inf, -math.inf, 1e30, -1e30, 19.1, -19.1], dtype)
    y = applied(VECTOR["tanh"], x)
    assert y.tolist() == [0.0, 0.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0]
    assert np.signbit(y).tolist() == np.signbit(x).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_is_odd(dtype):
    x = sample(dtype, 20000)
    x = x[~np.isnan(x)]
    assert np.array_equal(bits(applied(VECTOR["tanh"], -x)), bits(-applied(VECTOR["tanh"], x)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_at_its_fixed_points(dtype):
    x = np.array([0.0, -0.0, math.inf, -math.inf, 1e30, -1e30, 40.0, -800.0], dtype)
    assert applied(VECTOR["sigmoid"], x).tolist() == [0.5, 0.5, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_stays_normal_until_it_is_zero(dtype):
    """No denormal number, at which some CPUs slow down, except in the last percent before the end."""
    limit = 87.33 if dtype is np.float32 else 708.39
    assert applied(VECTOR["sigmoid"], np.array([-limit], dtype))[0] >= np.finfo(dtype).tiny
    assert applied(VECTOR["sigmoid"], np.array([-limit - 0.02], dtype))[0] == 0.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_rectifiers_and_identity(dtype):
    x = np.array([-2.0, -0.0, 0.0, 2.0, math.inf, -math.inf], dtype)
    slope = dtype(0.01)
    assert applied(VECTOR["relu"], x).tolist() == [0.0, 0.0, 0.0, 2.0, math.inf, 0.0]
    assert applied(VECTOR["leaky_relu"], x).tolist() == [-2.0 * slope, 0.0, 0.0, 2.0, math.inf, -math.inf]
    assert np.array_equal(applied(VECTOR["identity"], x), x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", activations.NAMES)
def test_nan_stays_nan_in_its_own_lane(name, dtype):
    x = np.full(64, 0.25, dtype)
    x[5::9] = math.nan
    assert np.array_equal(np.isnan(applied(VECTOR[name], x)), np.isnan(x))
    assert np.array_equal(np.isnan(applied(SCALAR[name], x)), np.isnan(x))


# ---------------------------------------------------------------------------------------------- derivatives

@pytest.mark.parametrize("dtype", DTYPES)
def test_smooth_derivatives_are_rounded_once(dtype):
    y = np.concatenate([np.random.default_rng(5).uniform(0.0, 1.0, 3000), [0.0, 1.0, 0.5, 1e-30, 1 - 2.0**-24]]).astype(dtype)
    for name, formula in (("tanh", lambda v: 1 - v * v), ("sigmoid", lambda v: v - v * v)):
        got = applied(VECTOR_GRAD[name], y)
        for a, d in zip(y, got, strict=True):
            want = formula(Fraction(float(a)))
            assert abs(Fraction(float(d)) - want) <= Fraction(float(np.spacing(dtype(float(want))))) / 2 + Fraction(2) ** -1074
    assert applied(VECTOR_GRAD["tanh"], -y).tolist() == applied(VECTOR_GRAD["tanh"], y).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_derivatives_with_a_kink(dtype):
    y = np.array([-0.5, -0.0, 0.0, 1e-30, 3.0, math.inf], dtype)
    slope = float(dtype(0.01))
    assert applied(VECTOR_GRAD["relu"], y).tolist() == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    assert applied(VECTOR_GRAD["leaky_relu"], y).tolist() == [slope, slope, slope, 1.0, 1.0, 1.0]
    assert applied(VECTOR_GRAD["identity"], y).tolist() == [1.0] * 6


@pytest.mark.parametrize("name", activations.NAMES)
def test_derivative_from_the_output_is_the_slope(name):
    x = np.array([-3.0, -1.0, -0.3, 0.2, 0.9, 2.5])
    slope = (applied(VECTOR[name], x + 1e-6) - applied(VECTOR[name], x - 1e-6)) / 2e-6
    np.testing.assert_allclose(applied(VECTOR_GRAD[name], applied(VECTOR[name], x)), slope, rtol=1e-7, atol=1e-9)


# ---------------------------------------------------------------------------------------------- scalars, widths, callers

@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", activations.NAMES)
def test_every_lane_holds_the_scalar_result(name, dtype):
    x = sample(dtype, 20001)
    y = applied(VECTOR[name], x)
    assert np.array_equal(bits(y), bits(applied(SCALAR[name], x)))
    assert np.array_equal(bits(applied(VECTOR_GRAD[name], y)), bits(applied(SCALAR_GRAD[name], y)))


def fingerprint():
    """Bytes of tanh and sigmoid on one sample, of vectors, both formats."""
    return "".join(applied(VECTOR[name], sample(dtype, 2000)).tobytes().hex() for name in SMOOTH for dtype in DTYPES)


def test_narrow_vectors_give_the_same_bits():
    width = "128" if simd.BITS != 128 else "256"
    code = "import test_activations as t; print(t.simd.BITS, t.fingerprint())"
    env = {**os.environ, "FASTBPTT_SIMD_BITS": width, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE)))}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [width, fingerprint()]


@pytest.mark.skipif(PLAIN, reason="there LLVM decides what is inlined")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SMOOTH)
def test_the_compiler_inlines_everything(name, dtype):
    """The machine code holds no call in its loop: after optimisation only LLVM's own operations are called."""
    kernel = vector_kernel(activations.activate, activations.NAMES.index(name))
    applied(kernel, np.zeros(8, dtype))
    body = re.search(r"^define .*?^}", next(iter(kernel.inspect_llvm().values())), re.M | re.S).group()
    operations = re.findall(r"call [^\n]*?@([\w.]+)", body)
    width = simd.lane_count(np.dtype(dtype))
    assert sum(f"llvm.fmuladd.v{width}" in name for name in operations) >= 8
    assert [name for name in operations if not name.startswith("llvm.")] == []


def test_called_from_python():
    for dtype in DTYPES:
        assert activations.tanh(dtype(0.3)) == applied(VECTOR["tanh"], np.array([0.3], dtype))[0]
    for code, name in enumerate(activations.NAMES):
        assert activations.activate(code, 0.3) == getattr(activations, name)(0.3)
        assert activations.activate_grad(code, 0.3) == getattr(activations, name + "_grad")(0.3)


@pytest.mark.parametrize("code", (-1, len(activations.NAMES), "tanh"))
def test_unknown_codes_are_refused(code):
    with pytest.raises(ValueError, match="code: expected one of 0 tanh, 1 sigmoid"):
        activations.activate(code, 0.5)
    with pytest.raises(ValueError, match="code: expected one of 0 tanh, 1 sigmoid"):
        activations.activate_grad(code, 0.5)


def test_a_code_that_the_compiler_does_not_know_is_refused():
    @njit
    def by_argument(code, x):
        return activations.activate(code, x)

    @njit
    def out_of_range(x):
        return activations.activate_grad(99, x)
    with pytest.raises(TypingError, match="code: expected a literal integer"):
        by_argument(0, 0.5)
    with pytest.raises(TypingError, match="code: expected one of 0 tanh.* got 99"):
        out_of_range(0.5)


def test_integers_are_refused_by_name():
    with pytest.raises(TypingError, match="x: expected a float32, a float64 or a simd.Vec, got int64"):
        activations.tanh(1)
