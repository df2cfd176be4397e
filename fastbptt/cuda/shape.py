"""How a scan lies on a block: threads, what each has of W, and what of that stays in its registers."""
from __future__ import annotations

from typing import NamedTuple

LARGEST = 128            # units of a block
THREADS = 512            # of a block, each of which has 128 registers of four bytes
HELD_WORDS = 64          # of them for weights,
OWN_WORDS = 8            # … where a unit's own parameters and their gradients need no more than this;
HELD_BESIDE_OWN = 48     # … else so many


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


def shape_for(H: int, gates: int, itemsize: int, own: int = 0, split: int | None = None) -> Shape:
    """The shape of the scans of a cell with so many gates in W, and so many parameters of a unit's own.

    The fewest lanes for a unit, from four on, with which all of W is in registers; else as many as a block of 512 threads has.
    What a compiler makes of these numbers is checked for every cell (tests/cuda/test_machine_code.py).
    """
    words = HELD_WORDS if 2 * own * itemsize // 4 <= OWN_WORDS else HELD_BESIDE_OWN
    if split is None:
        options = [n for n in (4, 8) if padded(H, n) * n <= THREADS]
        fitting = [n for n in options if words_of(H, gates, itemsize, n) <= words]
        split = fitting[0] if fitting else options[-1]
    return Shape(H, split, padded(H, split), min(gates, words // words_of(H, 1, itemsize, split)))


def padded(H: int, split: int) -> int:
    """H, rounded up to whole warps and groups of four weights for each lane."""
    unit = max(32 // split, 4 * split)
    return -(-H // unit) * unit


def words_of(H: int, gates: int, itemsize: int, split: int) -> int:
    """What so many gates of W take of a thread's registers."""
    return gates * padded(H, split) // split * (itemsize // 4)
