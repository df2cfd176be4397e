"""Tuples by their address: fields, nested tuples, fields by number; only where the arrays are sure to live."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from numba.core.errors import LoweringError, TypingError

from fastbptt.engine.compat import PLAIN
from fastbptt.engine.jit import kernel, njit
from fastbptt.engine.tuples import named, refer


class Pair(NamedTuple):
    a: Any
    b: Any


class Job(NamedTuple):
    factor: float
    pair: Any
    n: int


@njit
def weighted(job):
    """factor · Σ_k (k+1) Σ pair[k][: n], and a field is the array itself, not a copy."""
    total = 0.0
    for k in range(len(job.pair)):
        for i in range(job.n):
            total += (k + 1) * job.pair[k][i]
    job.pair.a[0] = -1.0
    return job.factor * total


@njit
def two_jobs(a, b, n):
    """Written anew in every turn of a loop; one holds the address of another."""
    total = 0.0
    for k in range(3):
        pair = refer(Pair(a, b))
        total += weighted(refer(Job(k + 1.0, pair, n)))
    return total


@kernel
def of_plain(pair, n):
    return two_jobs(named(pair, Pair).a, named(pair, Pair).b, n)


def test_fields_of_nested_tuples_are_read_where_they_lie():
    a, b = np.arange(4.0) + 1, np.ones(4)
    want = sum((k + 1) * ((x[:3]).sum() + 2 * b[:3].sum()) for k, x in enumerate(([1, 2, 3], [-1, 2, 3], [-1, 2, 3]))
               for x in [np.array(x, float)])
    assert of_plain((a, b), 3) == want and a[0] == -1


def test_a_block_that_counts_references_makes_no_address():
    @kernel
    def counts(a, b):
        return weighted(refer(Job(1.0, Pair(a, b), 1)))
    if PLAIN:       # every block counts them, and tuples are passed by value
        assert counts(np.ones(2), np.ones(2)) == 3
        return
    with pytest.raises(LoweringError, match="expected a block that does not count references"):
        counts(np.ones(2), np.ones(2))


def test_fields_of_different_types_have_no_number_and_others_no_name():
    @njit
    def by_number(job, k):
        return job[k]

    @njit
    def unknown(job):
        return job.nothing

    @kernel
    def number(values, k):
        return by_number(named(values, Job), k)

    @kernel
    def name(values):
        return unknown(named(values, Job))
    with pytest.raises(TypingError):
        number((1.0, (1, 2), 3), 0)
    with pytest.raises(TypingError):
        name((1.0, (1, 2), 3))
