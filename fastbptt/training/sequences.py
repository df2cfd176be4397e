"""Sequences: padding, cutting, lengths; characters as ids."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import as_array, check_integer, shape_text

INT64 = np.iinfo(np.int64)


def pad(sequences: Iterable[Any], max_len: int | None = None, value: float = 0) -> tuple[Array, Array]:
    """Sequences of different lengths as one time-major array and their lengths; longer ones are cut to max_len.

    Parameters
    ----------
    sequences : iterable of sequences, none empty
        Ids (T_i,), real numbers (T_i,) such as weights, or vectors (T_i, I) of one I: lists or arrays.
    max_len : int, optional
        T; the longest sequence by default.
    value : number, default 0
        What stands in the padding, an integer where the sequences are. It is never read.

    Returns
    -------
    padded (T, B) or (T, B, I), lengths (B,)
        Integers as int64, real numbers in the dtype of the sequences; lists of them are float64.

    Raises
    ------
    TypeError
        If an entry is no sequence of numbers (strings, booleans, objects), or value is of another kind than they are.
    ValueError
        If there is no sequence, one of them is empty, or they differ in I.

    Examples
    --------
    >>> import fastbptt as fb
    >>> ids, lengths = fb.pad([[43, 96, 2, 78, 43], [11, 51, 9, 52, 6, 1, 75, 29]], max_len=7)
    >>> ids.T
    array([[43, 96,  2, 78, 43,  0,  0],
           [11, 51,  9, 52,  6,  1, 75]])
    >>> lengths
    array([5, 7])
    >>> fb.pad([[[0.5, 1.0], [1.5, 2.0]], [[2.5, 3.0]]])[0].shape
    (2, 2, 2)
    """
    arrays = read_sequences(sequences)
    dtype = common_dtype(arrays)
    if dtype.kind == "i":
        if check_integer("value", value, INT64.min, "pass an integer, as the sequences are") > INT64.max:
            raise ValueError(f"value: expected an integer of at most {INT64.max}, got {value}")
    elif isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"value: expected a real number, got {value!r}")
    sizes = [len(a) for a in arrays]
    T = max(sizes) if max_len is None else check_integer("max_len", max_len, 1, "pass the number of steps to keep")
    padded = np.full((T, len(arrays), *arrays[0].shape[1:]), value, dtype)
    lengths = np.minimum(sizes, T)
    for b, array in enumerate(arrays):
        padded[:lengths[b], b] = array[:T]
    return padded, lengths


def read_sequences(sequences: Any, name: str = "sequences") -> list[Array]:
    """Every sequence as an array (T_i,) or (T_i, I) of numbers, all of one I; `name` is that of the argument, for messages."""
    if not isinstance(sequences, Iterable):
        raise TypeError(f"{name}: expected a list of sequences, got {type(sequences).__name__}")
    expected = "expected a sequence (T,) or (T, I) of numbers"
    arrays = [as_array(f"{name}[{i}]", s, expected, "every step must have as many numbers") for i, s in enumerate(sequences)]
    if not arrays or any(a.size == 0 for a in arrays):
        raise ValueError(f"{name}: expected at least one sequence and none of length 0; leave empty ones out")
    for i, a in enumerate(arrays):
        if a.ndim not in (1, 2):
            raise ValueError(f"{name}[{i}]: {expected}, got {shape_text(a.shape)}; pass a list of sequences, one for each")
        if a.ndim != arrays[0].ndim or a.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(f"{name}[{i}]: expected {shape_text(('T', *arrays[0].shape[1:]))} as the first, "
                             f"got {shape_text(a.shape)}")
    return arrays


def common_dtype(arrays: list[Array]) -> np.dtype[Any]:
    """int64 of integers alone; else the widest of the real ones."""
    real = {a.dtype.newbyteorder("=") for a in arrays if a.dtype.kind == "f"}
    if real:
        return np.result_type(*real)
    if any(a.dtype.kind == "u" and a.size and a.max() > INT64.max for a in arrays):
        raise ValueError(f"sequences: expected ids of at most {INT64.max}, got larger ones")
    return np.dtype(np.int64)


@dataclass(frozen=True)
class Vocabulary:
    """Characters and their ids: the k-th of the sorted characters has the id k.

    Parameters
    ----------
    characters : str
        At least one, sorted by code point, each once; `Vocabulary.from_text` collects them.

    Raises
    ------
    TypeError, ValueError
        If `characters` is not a str, is empty, or is not sorted and free of repetitions.

    Examples
    --------
    >>> import fastbptt as fb
    >>> letters = fb.Vocabulary.from_text("deep")
    >>> letters
    Vocabulary(characters='dep')
    >>> letters.encode("deep")
    array([0, 1, 1, 2])
    >>> letters.decode([2, 1, 0])
    'ped'
    >>> len(letters)
    3
    """

    characters: str

    def __post_init__(self) -> None:
        _check_text("characters", self.characters)
        if not self.characters or list(self.characters) != sorted(set(self.characters)):
            raise ValueError(f"characters: expected at least one, sorted and each once, got {_short(self.characters)}; "
                             "use Vocabulary.from_text(text) to collect those of a text")

    @classmethod
    def from_text(cls, text: str) -> Vocabulary:
        """The vocabulary of all characters of a text; ValueError if it is empty."""
        return cls("".join(sorted(set(_check_text("text", text)))))

    def __len__(self) -> int:
        """The number of characters: I and O of a character model."""
        return len(self.characters)

    def encode(self, text: str) -> Array:
        """The ids (T,) of a text.

        Raises
        ------
        TypeError, ValueError
            If `text` is not a str, or has a character that the vocabulary lacks.
        """
        codes, known = _codes(_check_text("text", text)), _codes(self.characters)
        ids = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        if (unknown := np.flatnonzero(known[ids] != codes)).size:
            at = int(unknown[0])
            raise ValueError(f"text: expected characters of this vocabulary of {len(self)}, got {text[at]!r} at position {at}; "
                             "make the vocabulary from a text that has it, or replace it")
        return ids

    def decode(self, ids: Any) -> str:
        """The text that ids (T,) stand for.

        Raises
        ------
        TypeError, ValueError
            If the ids are not a sequence of integers in 0 … len − 1.
        """
        expected = f"expected a sequence of ids in 0 … {len(self) - 1}"
        array = as_array("ids", ids, expected)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise TypeError(f"ids: {expected}, got {array.ndim} dimensions of {array.dtype}; pass one sequence, as integers")
        if array.size and not 0 <= array.min() <= array.max() < len(self):
            raise ValueError(f"ids: {expected}, got values from {array.min()} to {array.max()}; they are of another vocabulary")
        return "".join(self.characters[i] for i in array.astype(np.int64))


def _check_text(name: str, text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{name}: expected a str, got {type(text).__name__}; decode bytes first")
    return text


def _short(text: str) -> str:
    return repr(text) if len(text) <= 20 else repr(text[:20]) + " …"


def _codes(text: str) -> Array:
    """Code points; "surrogatepass" since a str may hold halves of pairs."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
