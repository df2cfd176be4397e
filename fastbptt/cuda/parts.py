"""Parts of the scans: tuples from and to arrays, and a thread's share of the products with W."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .shape import Shape
from .target import device, operations

UNROLLED = 64      # multiply-adds of a loop that the compiler still unrolls
_LOADS: tuple[Callable[..., Any], ...] = (
    lambda array, at, by: (),
    lambda array, at, by: (array[at],),
    lambda array, at, by: (array[at], array[at + by]),
    lambda array, at, by: (array[at], array[at + by], array[at + 2 * by]),
    lambda array, at, by: (array[at], array[at + by], array[at + 2 * by], array[at + 3 * by]))


def load(n: int) -> Any:
    """load(array, at, by): n numbers, `by` apart, as a tuple."""
    return device(_LOADS[n])


def store(n: int) -> Any:
    """store(array, at, by, values): the first n of them."""
    def put(array, at, by, values):
        if n > 0:
            array[at] = values[0]
        if n > 1:
            array[at + by] = values[1]
        if n > 2:
            array[at + 2 * by] = values[2]
        if n > 3:
            array[at + 3 * by] = values[3]
    return device(put)


def with_first(n: int) -> Any:
    """with_first(values, x): the n values with x as the first."""
    return device((lambda values, x: (x,), lambda values, x: (x, values[1]))[n - 1])


def product(first: int, stop: int, shape: Shape, dtype: str) -> Any:
    """product(sums, w, packed, vector, at, stride, s, tid): gates first … stop−1 of W times a lane's share of vectors.

    The vector of gate q lies at `at + q * stride` in shared memory. Each gate has two sums, so that additions need not wait.
    In parts, none of which is longer than what the compiler unrolls: an index that is not constant would put w into memory.
    """
    parts = -(-(stop - first) * shape.weights // UNROLLED) or 1
    cuts = [shape.weights * part // parts // 4 * 4 for part in range(parts)] + [shape.weights]
    multiply = None
    for begin, end in zip(cuts, cuts[1:], strict=False):
        multiply = _part(first, stop, begin, end, multiply, shape, dtype)
    return multiply


def _part(first: int, stop: int, begin: int, end: int, before: Any, shape: Shape, dtype: str) -> Any:
    """Weights begin … end−1 of every gate, after those of the part before."""
    K, split, threads = shape.weights, shape.split, shape.threads
    held, fma = min(max(shape.held, first), stop), operations(dtype)[0].fma

    def multiply(sums, w, packed, vector, at, stride, s, tid):
        for k in range(begin, end):
            i = at + (k // 4 * split + s) * 4 + k % 4
            for q in range(first, held):
                n = 2 * (q - first) + k % 2
                sums[n] = fma(w[q * K + k], vector[i + q * stride], sums[n])
            for q in range(held, stop):
                n = 2 * (q - first) + k % 2
                sums[n] = fma(packed[((q * K + k) // 4 * threads + tid) * 4 + k % 4], vector[i + q * stride], sums[n])
    if before is None:
        return device(multiply)
    own = device(multiply)

    def both(sums, w, packed, vector, at, stride, s, tid):
        before(sums, w, packed, vector, at, stride, s, tid)
        own(sums, w, packed, vector, at, stride, s, tid)
    return device(both)
