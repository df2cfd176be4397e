"""Floating-point events: what underflows is 0 and what overflows is inf, without a warning or an error on the way."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def quiet(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function under a floating-point policy of its own, whatever `np.errstate` its caller has set.

    A probability that underflows is harmless, a loss that overflows is inf, and NaN is looked for where it matters.
    """
    @functools.wraps(function)
    def wrapped(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        with np.errstate(all="ignore"):
            return function(*arguments, **options)
    return wrapped
