"""tanh, sigmoid, relu, leaky_relu and identity on scalars and on `Vec`, each beside its derivative from the output.

Branch-free, with the same operations for float32, float64 and `Vec`: every lane holds bit for bit what the scalar function
returns. All may be called from nopython code, a kernel of this package or any `@njit` function, and from Python with floats,
where the first call compiles. (Python gets a Python float back: pass np.float32 to compute in float32.)

>>> import numpy as np
>>> from numba import njit
>>> from fastbptt.engine import activations
>>> @njit
... def squash(h):
...     for i in range(h.size):
...         h[i] = activations.tanh(h[i])
>>> h = np.array([-0.5, 0.0, np.inf]); squash(h); h
array([-0.46211716,  0.        ,  1.        ])
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from numba import NumbaTypeError, types

from . import simd
from .jit import njit, overload

SLOPE = 0.01         # of the leaky ReLU below zero
LOG2E = 1.4426950408889634


class _Format(NamedTuple):
    """What differs between float32 and float64."""

    magic: float                 # 1.5 * 2**23 or 1.5 * 2**52: adding it rounds to an integer, see simd.exponent
    ln2: float                   # log(2), rounded
    ln2_high: float              # log(2) in so few bits that n * ln2_high is exact, and
    ln2_low: float               # … the rest of it
    exp: tuple[float, ...]       # P of exp(r) = 1 + r + r² P(r), |r| <= log(2) / 2
    tanh: tuple[float, ...]      # P of tanh(x) = x + x³ P(x²), |x| < tanh_small
    tanh_small: float
    tanh_one: float              # tanh rounds to 1 before this
    sigmoid_zero: float          # sigmoid(-sigmoid_zero) lies below the normal range


# The polynomials are minimax in the relative error of exp and of tanh: Remez exchange in 50 digits on |r| <= 0.347 and
# 0 <= x <= 0.56, then rounded to the format. Errors, as powers of two: exp 28.3 and 57.9, tanh 29.5 and 54.9.
_FLOAT32 = _Format(
    magic=12582912.0, ln2=0.6931472, ln2_high=0.693145751953125, ln2_low=1.4286068e-06,
    exp=(0.49999994, 0.1666652, 0.041668396, 0.008368797, 0.0013814435),
    tanh=(-0.33333313, 0.1333248, -0.053840518, 0.021020554, -0.006198723),
    tanh_small=0.55, tanh_one=10.0, sigmoid_zero=87.34)
_FLOAT64 = _Format(
    magic=6755399441055744.0, ln2=0.6931471805599453, ln2_high=0.6931471803691238, ln2_low=1.9082149292705877e-10,
    exp=(0.5000000000000011, 0.1666666666666641, 0.04166666666652894, 0.008333333333495927, 0.0013888888943997624,
         0.00019841269504286563, 2.480149267672062e-05, 2.755758760387752e-06, 2.763041194112886e-07, 2.4999936076420472e-08),
    tanh=(-0.33333333333331905, 0.1333333333311073, -0.05396825384800541, 0.021869485311994858, -0.008863185694184934,
          0.0035916492722896268, -0.0014528712395066729, 0.0005781190199044772, -0.00020865004033320458, 4.98862033750836e-05),
    tanh_small=0.55, tanh_one=20.0, sigmoid_zero=708.4)


# ---------------------------------------------------------------------------------------------- helpers of nopython code

def _format(x: Any) -> _Format:
    """The constants for the float type of x."""
    raise NotImplementedError


@overload(_format)
def _format_nopython(x):
    dtype = x.dtype if isinstance(x, simd.Vec) else x
    if dtype not in (types.float32, types.float64):
        raise NumbaTypeError(f"x: expected a float32, a float64 or a simd.Vec, got {x}; convert it to a float first")
    constants = _FLOAT32 if dtype == types.float32 else _FLOAT64
    return lambda x: constants


# ---------------------------------------------------------------------------------------------- activations
# Results do not decrease between neighbouring floats because every operation that follows the reduction of the argument
# is monotone itself, and the small corrections are added to the large terms last, in one rounding.

@njit(python=True, forceinline=True)
def tanh(x):
    """tanh(x), to 1.4 ULP (float64: 1.6); odd, monotone, signed zero kept, exactly ±1 from |x| = 9.02 (19.1) on, NaN for NaN.

    x + x³ P(x²) near 0, else 1 - 2 / (1 + exp(2 |x|)) with exp(2 |x|) = 2ⁿ (1 + s) and s = exp(r) - 1, r = 2 |x| - n log 2.

    >>> round(tanh(0.5), 6), tanh(-40.0)
    (0.462117, -1.0)
    """
    c, f = _format(x), simd.const
    a = simd.vabs(x)
    m = simd.vmin(f(x, c.tanh_one), a)
    z = simd.fma(m, f(x, 2.0 * LOG2E), f(x, c.magic))
    # One step of reduction is enough: where n is large, 2 / (1 + exp) is small. And r is large compared with its own last
    # bit, so s may be summed in two parts, a dependency chain one operation shorter than in `sigmoid`.
    r = simd.fma(z - f(x, c.magic), f(x, -c.ln2), m + m)
    r2 = r * r
    s = simd.fma(r2 * r2, simd.polynomial(r, c.exp[2:]), simd.fma(r2, simd.polynomial(r, c.exp[:2]), r))
    scale = simd.exponent(z)
    large = f(x, 1.0) - f(x, 2.0) / simd.fma(scale, s, f(x, 1.0) + scale)
    x2 = x * x
    small = simd.fma(a, x2 * simd.polynomial(x2, c.tanh), a)
    return simd.copysign(simd.select(a < f(x, c.tanh_small), small, large), x)


@njit(python=True, forceinline=True)
def tanh_grad(y):
    """The derivative of tanh from its output: 1 - y², rounded once.

    >>> tanh_grad(0.5)
    0.75
    """
    return simd.fma(-y, y, simd.const(y, 1.0))


@njit(python=True, forceinline=True)
def sigmoid(x):
    """1 / (1 + exp(-x)), to 2.5 ULP or 2⁻¹²⁶ (float64: 2.6, 2⁻¹⁰²²); monotone, ½ at 0, exactly 0 and 1 far out, NaN for NaN.

    exp(-x) = 2ⁿ (1 + s) with s = exp(r) - 1 and r = -x - n log 2.

    >>> sigmoid(0.0), sigmoid(-800.0), sigmoid(40.0)
    (0.5, 0.0, 1.0)
    """
    c, f = _format(x), simd.const
    m = simd.vmin(f(x, c.sigmoid_zero), simd.vmax(f(x, -c.sigmoid_zero), x))
    z = simd.fma(m, f(x, -LOG2E), f(x, c.magic))
    n = z - f(x, c.magic)
    r = simd.fma(n, f(x, -c.ln2_low), simd.fma(n, f(x, -c.ln2_high), -m))
    s = simd.fma(r * r, simd.polynomial(r, c.exp), r)
    scale = simd.exponent(z)
    numerator = simd.select(m > f(x, -c.sigmoid_zero), f(x, 1.0), f(x, 0.0))
    return numerator / simd.fma(scale, s, f(x, 1.0) + scale)


@njit(python=True, forceinline=True)
def sigmoid_grad(y):
    """The derivative of the sigmoid from its output: y - y² = y (1 - y), rounded once.

    >>> sigmoid_grad(0.5)
    0.25
    """
    return simd.fma(-y, y, y)


@njit(python=True, forceinline=True)
def relu(x):
    """x where it is positive, else 0; NaN for NaN.

    >>> relu(2.0), relu(-2.0)
    (2.0, 0.0)
    """
    return simd.vmax(simd.const(x, 0.0), x)


@njit(python=True, forceinline=True)
def relu_grad(y):
    """The derivative of relu from its output: 1 where y > 0, else 0.

    >>> relu_grad(2.0), relu_grad(0.0)
    (1.0, 0.0)
    """
    return simd.select(y > simd.const(y, 0.0), simd.const(y, 1.0), simd.const(y, 0.0))


@njit(python=True, forceinline=True)
def leaky_relu(x):
    """x where it is positive, else 0.01 x; NaN for NaN.

    >>> leaky_relu(2.0), leaky_relu(-2.0)
    (2.0, -0.02)
    """
    return simd.vmax(simd.const(x, SLOPE) * x, x)


@njit(python=True, forceinline=True)
def leaky_relu_grad(y):
    """The derivative of leaky_relu from its output: 1 where y > 0, else 0.01.

    >>> leaky_relu_grad(2.0), leaky_relu_grad(0.0)
    (1.0, 0.01)
    """
    return simd.select(y > simd.const(y, 0.0), simd.const(y, 1.0), simd.const(y, SLOPE))


@njit(python=True, forceinline=True)
def identity(x):
    """x itself.

    >>> identity(2.0)
    2.0
    """
    return x


@njit(python=True, forceinline=True)
def identity_grad(y):
    """The derivative of the identity: 1.

    >>> identity_grad(2.0)
    1.0
    """
    return simd.const(y, 1.0)


# ---------------------------------------------------------------------------------------------- the table


class Activation(NamedTuple):
    """An activation σ; to add one, write σ and its derivative above and give it a row in the table."""

    name: str
    forward: Any
    """σ(x)."""
    grad: Any
    """σ′(x) from y = σ(x)."""
    steepest: float
    """γ = max σ′."""
    saturates: bool
    """Whether σ is flat towards its ends."""


TABLE = (
    Activation("tanh", tanh, tanh_grad, 1.0, True),
    Activation("sigmoid", sigmoid, sigmoid_grad, 0.25, True),
    Activation("relu", relu, relu_grad, 1.0, False),
    Activation("leaky_relu", leaky_relu, leaky_relu_grad, 1.0, False),
    Activation("identity", identity, identity_grad, 1.0, False),
)
"""The activations; `activate` and `activate_grad` take the index of a row as a code."""
NAMES = tuple(row.name for row in TABLE)


# ---------------------------------------------------------------------------------------------- chosen by code

_CODES = ", ".join(f"{code} {name}" for code, name in enumerate(NAMES))


def _check(code: int, error: type[Exception]) -> None:
    if code not in range(len(NAMES)):
        raise error(f"code: expected one of {_CODES}, got {code}")


def activate(code: int, x: Any) -> Any:
    """The activation NAMES[code] of x.

    In nopython code `code` must be a literal or a global constant: the choice is made by the compiler and costs nothing.
    A kernel that gets it as an argument branches outside its loop: ``if code == 0: for …: activate(0, …)``.

    Raises
    ------
    ValueError
        If `code` is not an index of `NAMES`; in nopython code Numba's TypingError.

    >>> activate(1, 0.0)
    0.5
    """
    _check(code, ValueError)
    return TABLE[code].forward(x)


def activate_grad(code: int, y: Any) -> Any:
    """The derivative of the activation NAMES[code] from its output y; for `code` see `activate`.

    >>> activate_grad(1, 0.5)
    0.25
    """
    _check(code, ValueError)
    return TABLE[code].grad(y)


def _literal(code: types.Type) -> int:
    """The value of the literal integer type `code`."""
    if not isinstance(code, types.IntegerLiteral):
        raise NumbaTypeError(f"code: expected a literal integer ({_CODES}), got {code}; branch on it and pass the literal")
    _check(code.literal_value, NumbaTypeError)
    return int(code.literal_value)


@overload(activate, prefer_literal=True)
def _activate_nopython(code, x):
    function = TABLE[_literal(code)].forward
    return lambda code, x: function(x)


@overload(activate_grad, prefer_literal=True)
def _activate_grad_nopython(code, y):
    function = TABLE[_literal(code)].grad
    return lambda code, y: function(y)


def _chosen(functions: Sequence[Any]) -> Any:
    """function(code, x), the function of that code: one well-predicted branch per vector."""
    first, others = functions[0], functions[1:]
    if not others:
        return njit(lambda code, x: first(x), forceinline=True)
    rest = _chosen(others)
    return njit(lambda code, x: first(x) if code == 0 else rest(code - 1, x), forceinline=True)


activate_any = _chosen([row.forward for row in TABLE])
"""`activate` for a code known only at run time; for nopython code."""
activate_grad_any = _chosen([row.grad for row in TABLE])
"""`activate_grad` for a code known only at run time; for nopython code."""
