"""How a scan lies on a block: threads, what each has of W, and what of that stays in its registers."""
from __future__ import annotations

from typing import NamedTuple

LARGEST = 128            # units of a block
THREADS = 1024           # of a block, at most
HELD_WORDS = 64          # of weights in the registers of a thread, where a block has at most HALF threads: it has 128 registers
HALF = 512


class Shape(NamedTuple):
    """The work of one thread and the size of its block."""

    H: int
    split: int
    """Neighbouring lanes that share the products of a unit."""
    Hp: int
    """Units, padded to whole warps and groups of four weights."""
    held: int
    """Gates of W that are kept in registers."""

    @property
    def weights(self) -> int:
        """Of a thread, for each gate."""
        return self.Hp // self.split

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.Hp * self.split


def shape_for(H: int, gates: int, itemsize: int, split: int | None = None) -> Shape:
    """The shape of the scans of a cell with so many gates in W.

    The fewest lanes for a unit, from four on, with which all of W is in registers; else as many as a block of 512 threads has.
    """
    if split is None:
        options = [n for n in (4, 8) if padded(H, n) * n <= HALF]
        fitting = [n for n in options if held_gates(H, gates, itemsize, n) == gates]
        split = fitting[0] if fitting else options[-1] if options else 4
    return Shape(H, split, padded(H, split), held_gates(H, gates, itemsize, split))


def padded(H: int, split: int) -> int:
    """H, rounded up to whole warps and groups of four weights for each lane."""
    unit = max(32 // split, 4 * split)
    return -(-H // unit) * unit


def held_gates(H: int, gates: int, itemsize: int, split: int) -> int:
    """Gates whose weights fit the registers."""
    Hp = padded(H, split)
    if Hp * split > HALF:
        return 0
    return min(gates, HELD_WORDS // (Hp // split * (itemsize // 4)))
