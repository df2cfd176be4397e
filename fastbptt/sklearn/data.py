"""X, y and sample weights as scikit-learn's users have them: arrays, frames, lists of sequences."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from ..arrays import Array
from ..errors import check_sequence_array, check_sequences_finite, check_variables, refuse_masked
from ..training.sequences import common_dtype, pad, read_sequences

FLOATS = (np.float64, np.float32)       # the first is what integers become


@dataclass(frozen=True)
class Sequences:
    """Sequences of one number of variables: of equal lengths as one array, or of lengths of their own."""

    arrays: Any
    """(n, T, I), which may be a memory map, or a list of n arrays (T_i, I)."""
    dtype: Any
    variables: int
    """I."""

    def __len__(self) -> int:
        return len(self.arrays)

    def batch(self, rows: Array, dtype: Any) -> tuple[Array, Array]:
        """x (T, B, I) of some sequences, time-major in a dtype, and their lengths."""
        if isinstance(self.arrays, list):
            x, lengths = pad([self.arrays[row] for row in rows])
            return x.astype(dtype, copy=False), lengths
        x = np.asarray(self.arrays[rows].swapaxes(0, 1), dtype, order="C")
        return x, np.full(len(rows), len(x))


def read_X(estimator: Any, X: Any, reset: bool) -> Sequences:
    """X as sequences. With `reset`, the estimator keeps how many features X has; else X is compared with that.

    A table (n, T) has T features, as everywhere in scikit-learn, so another T is refused; nested lists of numbers are one if they
    are equally long. A list of arrays and (n, T, I) have I, whatever their lengths.
    """
    refuse_masked("X", X)
    listed = _as_list(X)
    if listed is not None:
        sequences = _ragged(listed)
    else:
        array = check_array(X, dtype=FLOATS, allow_nd=True, estimator=estimator, input_name="X")
        sequences = Sequences(check_sequence_array("X", array), array.dtype, 1 if array.ndim == 2 else array.shape[2])
        if array.ndim == 2 and (reset or hasattr(estimator, "_table")):
            validate_data(estimator, X, reset=reset, skip_check_array=True)
            estimator._table = True
            return sequences
    if reset:
        for name in ("feature_names_in_", "_table"):
            vars(estimator).pop(name, None)
        estimator.n_features_in_ = sequences.variables
    else:
        check_variables(type(estimator).__name__, sequences.variables, estimator.model_.cell.input_size)
    return sequences


def _as_list(X: Any) -> list[Any] | None:
    """The sequences of a list, or of a 1-D array or column of objects; None if X is none of these, or a table as nested lists."""
    if not isinstance(X, list | tuple) and not (getattr(X, "ndim", 0) == 1 and X.dtype == object):
        return None
    sequences = list(X)
    if not sequences or not all(isinstance(s, list | tuple) or getattr(s, "ndim", 0) > 0 for s in sequences):
        return None
    plain = all(isinstance(s, list | tuple) and not any(np.ndim(step) for step in s[:1]) for s in sequences)
    return None if plain and len({len(s) for s in sequences}) == 1 else sequences


def _ragged(sequences: list[Any]) -> Sequences:
    """Lists of sequences (T_i,) or (T_i, I); integers become float64."""
    arrays = read_sequences(sequences, "X")
    dtype = common_dtype(arrays)
    dtype = dtype if dtype.kind == "f" else np.dtype(np.float64)
    arrays = check_sequences_finite("X", [np.asarray(a if a.ndim == 2 else a[:, None], dtype) for a in arrays])
    return Sequences(arrays, dtype, arrays[0].shape[1])
