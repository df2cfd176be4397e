"""Stacks: layers of cells, in one or in two directions.

    x^1 = x,   h^l = cell^l(x^l),   x^{l+1} = h^l ⊙ m^l                                      (m^l: dropout, 1 without a seed)

Two directions: h^l = (forward^l(x^l), reverse^l(x^l)), where the reverse direction reads the valid steps of each sequence from
the last to the first.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..arrays import Array
from ..errors import check_cells, check_flag, check_fraction


class Directions(NamedTuple):
    """The two directions of a layer: its Params, States or Tapes."""

    forward: Any
    reverse: Any


@dataclass(frozen=True)
class Stack:
    """Layers of cells, each reading the outputs of the one below, in one or in two directions: a configuration, no arrays.

    It can be used wherever a cell can: in `forward`, `backward`, `step`, `SequenceModel`. Its Params and States are tuples with
    one entry per layer: that of the layer's cell, or with two directions `Directions(forward, reverse)` of them. tape.h is the
    output of the last layer, (T, B, H), with two directions (T, B, 2H), forward first; at padded steps each direction repeats
    the state after its own last step. `tape.layers` has the tape of every layer.

    Truncation applies to the joint state of all layers: the pass of end e stops at e−h in every layer. Two directions refuse
    truncation and single steps.

    Parameters
    ----------
    cells : list of cells
        First layer first. From the second on, input_size is the output size of the layer below: H, with two directions 2H.
    bidirectional : bool
        Whether every layer has a second set of parameters that reads each sequence from its last valid step to the first.
    dropout : float
        Fraction of a layer's outputs that the next layer sees as 0, the others scaled by 1/(1−dropout), if `forward` is given
        a seed; drawn for every step, sequence and unit. Nothing is dropped after the last layer.

    Raises
    ------
    TypeError, ValueError
        If the sizes of successive cells do not match or an option is out of range.

    Examples
    --------
    >>> import numpy as np, fastbptt as fb
    >>> stack = fb.Stack([fb.RNN(3, 8), fb.RNN(8, 4)], dropout=0.5)
    >>> params = stack.init(seed=0)
    >>> tape = fb.forward(stack, params, np.ones((5, 2, 3), np.float32), seed=1)
    >>> grads = fb.backward(stack, params, tape, np.ones_like(tape.h))
    >>> tape.h.shape, grads.params[1].U.shape, grads.state[0].h.shape
    ((5, 2, 4), (4, 8), (2, 8))

    References
    ----------
    M. Schuster, K. K. Paliwal, "Bidirectional recurrent neural networks", IEEE Transactions on Signal Processing 45(11), 1997;
    W. Zaremba, I. Sutskever, O. Vinyals, "Recurrent neural network regularization", arXiv:1409.2329 (dropout between layers).
    """

    cells: tuple[Any, ...]
    bidirectional: bool = False
    dropout: float = 0.0

    direction_type: ClassVar[type] = Directions

    def __init__(self, cells: Any, bidirectional: bool = False, dropout: float = 0.0):
        object.__setattr__(self, "bidirectional", check_flag("bidirectional", bidirectional))
        object.__setattr__(self, "cells", check_cells(cells, self.bidirectional))
        object.__setattr__(self, "dropout", check_fraction("dropout", dropout))

    @property
    def input_size(self) -> int:
        """I of the first layer."""
        return int(self.cells[0].input_size)

    @property
    def hidden_size(self) -> int:
        """Size of the output: H of the last layer, with two directions 2H."""
        return int(self.cells[-1].hidden_size) * (2 if self.bidirectional else 1)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter, named by layer (0 …), direction and name, in the order of the arrays of Params."""
        return {prefix + name: shape for prefix, cell in self.parts for name, shape in cell.shapes.items()}

    @property
    def layers(self) -> tuple[Any, ...]:
        """The cell of every layer."""
        return self.cells

    @cached_property
    def scans(self) -> tuple[Any, ...]:
        """The cell of every scan of a call: layer by layer, with two directions forward before reverse."""
        return tuple(cell for cell in self.cells for _ in range(1 + self.bidirectional))

    @cached_property
    def scan_sizes(self) -> tuple[tuple[int, int, int], ...]:
        """The sizes of the cell of every scan."""
        return tuple(cell.sizes for cell in self.scans)

    @property
    def parts(self) -> list[tuple[str, Any]]:
        """(prefix of names, such as "0." or "0.reverse.", cell) for every layer and direction."""
        directions = ("forward.", "reverse.") if self.bidirectional else ("",)
        return [(f"{i}.{direction}", cell) for i, cell in enumerate(self.cells) for direction in directions]

    def flatten(self, entries: Any) -> list[Any]:
        """The entries of the layers as a list of one entry per scan, forward before reverse."""
        return [entry for layer in entries for entry in layer] if self.bidirectional else list(entries)

    def params_of(self, arrays: dict[str, Array]) -> Any:
        """The Params from arrays under the names of `shapes`."""
        return self.per_layer(cell.params_type(*[arrays[prefix + name] for name in cell.shapes]) for prefix, cell in self.parts)

    def per_layer(self, entries: Any) -> tuple[Any, ...]:
        """The inverse of `flatten`, for any iterable; for None every entry is None."""
        if entries is not None:
            entries = iter(entries)

        def entry() -> Any:
            return None if entries is None else next(entries)
        return tuple(Directions(entry(), entry()) if self.bidirectional else entry() for _ in self.cells)

    def init(self, seed: int = 0, dtype: Any = np.float32, **options: Any) -> Any:
        """Initial parameters: every cell's own, from seeds derived from `seed`; `options` go to every cell's init."""
        seeds = np.random.SeedSequence(seed).generate_state(len(self.parts), np.uint64)
        return self.per_layer(cell.init(seed=int(own), dtype=dtype, **options)
                              for own, (_, cell) in zip(seeds, self.parts, strict=True))

    def project(self, params: Any) -> Any:
        """The nearest parameters that the masks and signs of the cells allow."""
        return self.per_layer(cell.project(part) for cell, part in zip(self.scans, self.flatten(params), strict=True))
