"""What the benchmark needs of a side: a library, and one way of using it.

Every side computes the same thing: forward, then the gradients of L = Σ h·dh with respect to U, W, b (b_hn), x and the
initial state. A side keeps its own kind of arrays between ``setup`` and ``run``, so conversions are never timed.
"""

from __future__ import annotations

from typing import Any, Protocol

from .cases import Array, Arrays, Case


class Side(Protocol):
    """One library, used in one way; the constructor takes ``threads``, of which None leaves the library its default.

    ``name`` begins with the package that it needs: ``torch`` and ``torch-function`` are two ways of using PyTorch.
    """

    name: str
    setting: str = ""
    """What `tune` chose, in words."""

    def supports(self, case: Case) -> bool:
        """Whether users of this side have a recipe for the case."""

    def setup(self, case: Case, arrays: Arrays) -> None:
        """Prepares a case; the first ``run`` after it may still compile."""

    def tune(self) -> None:
        """Chooses the fastest of several forms, of a side that has several."""
        return None

    def run(self) -> Any:
        """One forward and one backward pass, complete when it returns."""

    def gradients(self, result: Any) -> dict[str, Array]:
        """The gradients in what ``run`` returned, as NumPy arrays named U, W, b, b_hn, x, h0, c0."""

    def close(self) -> None:
        """Gives back what ``threads`` changed."""


def package_of(side: str) -> str:
    """The package that a side of this name needs.

    Examples
    --------
    >>> package_of("torch-function")
    'torch'
    """
    return side.split("-")[0]
