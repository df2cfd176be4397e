"""Parts of the scans: tuples from and to arrays, and a thread's share of the products with W."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .shape import Shape
from .target import cuda, device, operations

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

    The vector of gate q lies at `at + q * stride` in shared memory. A gate has one sum; a single gate two, sums[0] and sums[1],
    so that an addition need not wait for the one before.

    Held weights in parts, none of which is longer than what the compiler unrolls: an index that is not constant would put w into
    memory. The others in a loop whose length the compiler does not know: it would load them all at once, and have no registers
    left for it.
    """
    held = min(max(shape.held, first), stop)
    parts = -(-(held - first) * shape.weights // UNROLLED)
    cuts = [shape.weights * part // parts // 4 * 4 for part in range(parts)] + [shape.weights]
    pieces = [_from_registers(first, held, stop, begin, end, shape, dtype) for begin, end in zip(cuts, cuts[1:], strict=False)]
    if held < stop:
        pieces.append(_from_memory(first, held, stop, shape, dtype))
    return _chain(pieces)


def _from_registers(first: int, held: int, stop: int, begin: int, end: int, shape: Shape, dtype: str) -> Any:
    """Weights begin … end−1 of the gates that are held."""
    K, split = shape.weights, shape.split
    fma, alone = operations(dtype)[0].fma, stop - first == 1

    def multiply(sums, w, packed, vector, at, stride, s, tid):
        for k in range(begin, end):
            i = at + (k // 4 * split + s) * 4 + k % 4
            for q in range(first, held):
                n = k % 2 if alone else q - first
                sums[n] = fma(w[q * K + k], vector[i + q * stride], sums[n])
    return device(multiply)


def _from_memory(first: int, held: int, stop: int, shape: Shape, dtype: str) -> Any:
    """All weights of the other gates."""
    K, split, threads = shape.weights, shape.split, shape.threads
    fma, alone = operations(dtype)[0].fma, stop - first == 1

    def multiply(sums, w, packed, vector, at, stride, s, tid):
        for m in range(cuda.blockDim.x // (4 * split * split)):       # K // 4
            for c in range(4):
                i = at + (m * split + s) * 4 + c
                for q in range(held, stop):
                    n = c % 2 if alone else q - first
                    sums[n] = fma(packed[((q * K // 4 + m) * threads + tid) * 4 + c], vector[i + q * stride], sums[n])
    return device(multiply)


def _chain(functions: list[Any]) -> Any:
    """One after the other; nothing for none."""
    if len(functions) < 2:
        return functions[0] if functions else device(lambda sums, w, packed, vector, at, stride, s, tid: None)
    one, rest = functions[0], _chain(functions[1:])

    def both(sums, w, packed, vector, at, stride, s, tid):
        one(sums, w, packed, vector, at, stride, s, tid)
        rest(sums, w, packed, vector, at, stride, s, tid)
    return device(both)
