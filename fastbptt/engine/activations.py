"""tanh, sigmoid, relu, leaky_relu and identity on scalars and on `Vec`, each beside its derivative from the output.

Branch-free, and the same operations on float32, float64 and `Vec`, so that every lane holds bit for bit what the scalar
function returns.  They are called from nopython code (a kernel of this package or any `@njit` function) and, with
floats, from Python, where the first call of a function compiles it:

>>> from fastbptt.engine import activations
>>> activations.tanh(0.0), activations.sigmoid(0.0), activations.relu(-2.0)
(0.0, 0.5, -0.0)
"""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core.errors import NumbaTypeError
from numba.extending import overload

from . import simd
from .jit import njit

NAMES = ("tanh", "sigmoid", "relu", "leaky_relu", "identity")
SLOPE = 0.01         # of the leaky ReLU below zero
LOG2E = 1.4426950408889634


class _Format(NamedTuple):
    """What differs between float32 and float64."""

    magic: float             # 1.5 * 2**23 or 1.5 * 2**52: adding it rounds to an integer, see simd.exponent
    ln2: float               # log(2) rounded …
    ln2_rest: float          # … and what the rounding left
    exp: tuple[float, ...]
    tanh: tuple[float, ...]
    tanh_middle: float
    tanh_one: float          # from here on tanh rounds to 1
    sigmoid_zero: float      # from -x = here on sigmoid is below the normal range, and 0


# `exp`: P of exp(r) = 1 + r + r**2 * P(r) for |r| <= log(2) / 2; `tanh`: P of tanh(x) = x + x**3 * P(x**2) for
# |x| <= tanh_middle. Minimax in the relative error of exp and tanh (Remez exchange in 50 digits, on 0.1 % and 2 % more than
# these intervals), then rounded to the format.
_FLOAT32 = _Format(
    12582912.0, 0.6931471824645996, -1.904654299957768e-09,
    (0.49999994, 0.1666652, 0.041668396, 0.008368797, 0.0013814435),
    (-0.33333313, 0.1333248, -0.053840518, 0.021020554, -0.006198723),
    0.55, 10.0, 87.33)
_FLOAT64 = _Format(
    6755399441055744.0, 0.6931471805599453, 2.3190468138462996e-17,
    (0.5000000000000011, 0.1666666666666641, 0.04166666666652894, 0.008333333333495927, 0.0013888888943997624,
     0.00019841269504286563, 2.480149267672062e-05, 2.755758760387752e-06, 2.763041194112886e-07, 2.4999936076420472e-08),
    (-0.33333333333331905, 0.1333333333311073, -0.05396825384800541, 0.021869485311994858, -0.008863185694184934,
     0.0035916492722896268, -0.0014528712395066729, 0.0005781190199044772, -0.00020865004033320458, 4.98862033750836e-05),
    0.55, 20.0, 708.39)


def _format(x: Any) -> _Format:
    """The constants for the float type of x."""
    raise NotImplementedError


@overload(_format)
def _format_nopython(x):  # type: ignore[no-untyped-def]
    dtype = x.dtype if isinstance(x, simd.Vec) else x
    if dtype not in (types.float32, types.float64):
        raise NumbaTypeError(f"x: expected a float32, a float64 or a simd.Vec, got {x}; convert it to a float first")
    constants = _FLOAT32 if dtype == types.float32 else _FLOAT64
    return lambda x: constants


def _polynomial(x: Any, c: Any) -> Any:
    """c[0] + c[1] x + c[2] x**2 + …, halves joined by powers of x (Estrin): a short chain of dependent operations."""
    raise NotImplementedError


@overload(_polynomial)
def _polynomial_nopython(x, c):  # type: ignore[no-untyped-def]
    if len(c) == 1:
        return lambda x, c: simd.const(x, c[0])
    half = 1 << ((len(c) - 1).bit_length() - 1)
    return lambda x, c: simd.fma(_power(x, half), _polynomial(x, c[half:]), _polynomial(x, c[:half]))


def _power(x: Any, n: int) -> Any:
    """x**n for n = 1, 2, 4, 8, … by squaring."""
    raise NotImplementedError


@overload(_power, prefer_literal=True)
def _power_nopython(x, n):  # type: ignore[no-untyped-def]
    half = n.literal_value // 2
    if half == 0:
        return lambda x, n: x
    return lambda x, n: _power(x, half) * _power(x, half)


@njit(forceinline=True)
def tanh(x):  # type: ignore[no-untyped-def]
    f = simd.const
    c = _format(x)
    a = simd.vabs(x)
    m = simd.vmin(f(x, c.tanh_one), a)
    z = simd.fma(m, f(x, 2 * LOG2E), f(x, c.magic))
    r = simd.fma(z - f(x, c.magic), f(x, -c.ln2), m + m)
    s = simd.fma(r * r, _polynomial(r, c.exp), r)
    scale = simd.exponent(z)
    large = f(x, 1.0) - f(x, 2.0) / simd.fma(scale, s, f(x, 1.0) + scale)
    x2 = x * x
    small = simd.fma(a, x2 * _polynomial(x2, c.tanh), a)
    return simd.copysign(simd.select(a < f(x, c.tanh_middle), small, large), x)


@njit(forceinline=True)
def tanh_grad(y):  # type: ignore[no-untyped-def]
    return simd.fma(-y, y, simd.const(y, 1.0))


@njit(forceinline=True)
def sigmoid(x):  # type: ignore[no-untyped-def]
    f = simd.const
    c = _format(x)
    m = simd.vmin(f(x, c.sigmoid_zero), simd.vmax(f(x, -c.sigmoid_zero), -x))
    z = simd.fma(m, f(x, LOG2E), f(x, c.magic))
    n = z - f(x, c.magic)
    r = simd.fma(n, f(x, -c.ln2_rest), simd.fma(n, f(x, -c.ln2), m))
    s = simd.fma(r * r, _polynomial(r, c.exp), r)
    scale = simd.exponent(z)
    one = simd.select(x > f(x, -c.sigmoid_zero), f(x, 1.0), f(x, 0.0))
    return one / simd.fma(scale, s, f(x, 1.0) + scale)


@njit(forceinline=True)
def sigmoid_grad(y):  # type: ignore[no-untyped-def]
    return simd.fma(-y, y, y)


@njit(forceinline=True)
def relu(x):  # type: ignore[no-untyped-def]
    return simd.vmax(simd.const(x, 0.0), x)


@njit(forceinline=True)
def relu_grad(y):  # type: ignore[no-untyped-def]
    return simd.select(y > simd.const(y, 0.0), simd.const(y, 1.0), simd.const(y, 0.0))


@njit(forceinline=True)
def leaky_relu(x):  # type: ignore[no-untyped-def]
    return simd.vmax(simd.const(x, SLOPE) * x, x)


@njit(forceinline=True)
def leaky_relu_grad(y):  # type: ignore[no-untyped-def]
    return simd.select(y > simd.const(y, 0.0), simd.const(y, 1.0), simd.const(y, SLOPE))


@njit(forceinline=True)
def identity(x):  # type: ignore[no-untyped-def]
    return x


@njit(forceinline=True)
def identity_grad(y):  # type: ignore[no-untyped-def]
    return simd.const(y, 1.0)


_FORWARD = (tanh, sigmoid, relu, leaky_relu, identity)
_GRAD = (tanh_grad, sigmoid_grad, relu_grad, leaky_relu_grad, identity_grad)


def _chosen(table: tuple[Any, ...], code: Any) -> Any:
    if not isinstance(code, types.IntegerLiteral):
        raise NumbaTypeError(f"code: expected a literal integer, an index of {NAMES}, got {code}; branch on it outside the loop")
    if not 0 <= code.literal_value < len(table):
        raise NumbaTypeError(f"code: expected 0 … {len(table) - 1}, an index of {NAMES}, got {code.literal_value}")
    return table[code.literal_value]


def activate(code: int, x: Any) -> Any:
    """The activation number `code` of x."""
    return _FORWARD[code](x)


def activate_grad(code: int, y: Any) -> Any:
    """The derivative of the activation number `code`, from its output y."""
    return _GRAD[code](y)


@overload(activate, prefer_literal=True)
def _activate_nopython(code, x):  # type: ignore[no-untyped-def]
    function = _chosen(_FORWARD, code)
    return lambda code, x: function(x)


@overload(activate_grad, prefer_literal=True)
def _activate_grad_nopython(code, y):  # type: ignore[no-untyped-def]
    function = _chosen(_GRAD, code)
    return lambda code, y: function(y)
