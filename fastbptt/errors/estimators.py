"""Estimators: their data and settings."""
from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import as_array, shape_text
from .values import check_choice, check_fraction, check_integer, check_number, check_positive

Array = np.ndarray[Any, Any]


def refuse_masked(name: str, value: Any) -> None:
    """A mask would be lost on the way to an array."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected (n, T, I), (n, T) or a list of sequences, got a masked array; pass plain numbers, and "
                        "sequences of unequal lengths as a list")


def check_sequence_array(name: str, array: Array) -> Array:
    """(n, T, I) with a step and a variable at least; (n, T) has one variable."""
    if array.ndim > 3 or array.size == 0:
        raise ValueError(f"{name}: expected (n, T, I), (n, T) or a list of sequences, with at least one step and one variable, "
                         f"got {shape_text(array.shape)}")
    return array if array.ndim == 3 else array[:, :, None]


def check_sequences_finite(name: str, arrays: list[Array]) -> list[Array]:
    """Sequences without NaN and Inf."""
    for i, array in enumerate(arrays):
        if not np.isfinite(array).all():
            step = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
            raise ValueError(f"{name}[{i}]: expected finite numbers, got NaN or Inf at step {step}; clean the data, "
                             "or leave the sequence out")
    return arrays


def check_variables(estimator: str, given: int, fitted: int) -> None:
    """As many variables at every step as the estimator was fitted with."""
    if given != fitted:
        raise ValueError(f"X: expected {fitted} variables at every step, as {estimator} was fitted with, got {given}; "
                         "pass (n, T, I) or sequences (T, I) of the same I")


def check_y_given(estimator: str, y: Any) -> Any:
    """Targets; in the words of scikit-learn, whose checks read them."""
    if y is None:
        raise ValueError(f"y: {estimator} requires y to be passed, but the target y is None; pass one for each sequence")
    return y


def check_sample_weight(sample_weight: Any, n: int) -> Array:
    """(n,) finite factors from 0 in float64, one above 0 at least; ones by default."""
    if sample_weight is None:
        return np.ones(n)
    given = np.asarray(sample_weight, np.int64) if getattr(sample_weight, "dtype", None) == np.dtype(bool) else sample_weight
    weights = np.asarray(as_array("sample_weight", given, f"expected ({n},)"), np.float64)
    if weights.shape != (n,):
        raise ValueError(f"sample_weight: expected ({n},), one for each sequence, got {shape_text(weights.shape)}")
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError("sample_weight: expected finite numbers from 0, got NaN, Inf or negative ones; 0 leaves a sequence out")
    if not weights.any():
        raise ValueError("sample_weight: expected one weight above zero at least, got only zeros; without it all weigh alike")
    return weights


def check_known_classes(y: Array, classes: Array) -> Array:
    """The positions of labels among the sorted classes."""
    places = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    unknown = y[classes[places] != y].tolist()
    if unknown:
        raise ValueError(f"y: expected labels among {classes.tolist()}, got {unknown[0]!r}; the first call of partial_fit takes "
                         "all of them: classes=…")
    return places


def check_classes_given(classes: Any, known: Any) -> None:
    """The first call of partial_fit says which classes there will be, and no later one says otherwise."""
    if classes is None and known is None:
        raise ValueError("classes: expected all labels in the first call of partial_fit, got None; pass np.unique(y) of all data")
    if classes is not None and known is not None and not np.array_equal(np.unique(classes), known):
        raise ValueError(f"classes: expected those of the first call, {known.tolist()}, got {np.unique(classes).tolist()}; "
                         "leave them out, or begin with a new estimator")


def check_no_early_stopping(early_stopping: bool) -> None:
    """partial_fit makes one pass over what it is given, and holds nothing out."""
    if early_stopping:
        raise ValueError("early_stopping: expected False for partial_fit, got True; use fit, or score held-out data yourself")


def check_dropout(dropout: Any, layers: int) -> float:
    """Dropout lies between layers."""
    if check_fraction("dropout", dropout) and layers == 1:
        raise ValueError(f"dropout: expected 0 for one layer, got {dropout}; it lies between layers: num_layers=2")
    return float(dropout)


def check_training(settings: dict[str, Any], cells: tuple[str, ...]) -> None:
    """The settings of an estimator that nothing behind it checks."""
    check_choice("cell", settings["cell"], cells)
    for name in ("num_layers", "batch_size", "max_iter", "n_iter_no_change"):
        check_integer(name, settings[name], 1, "pass a number above 0")
    check_positive("validation_fraction", settings["validation_fraction"])
    check_fraction("validation_fraction", settings["validation_fraction"])
    if check_number("tol", settings["tol"]) < 0:
        raise ValueError(f"tol: expected a number from 0, got {settings['tol']}")
    check_dropout(settings["dropout"], settings["num_layers"])


def check_cell_options(options: Any, cell: str, known: list[str]) -> dict[str, Any]:
    """Options of a cell by their names, None for none."""
    if options is not None and not isinstance(options, dict):
        raise TypeError(f"cell_options: expected a dict of options of the cell or None, got {type(options).__name__}")
    if unknown := [name for name in options or {} if name not in known]:
        raise ValueError(f"cell_options: expected options of {cell!r}, {', '.join(known)}, got {unknown[0]!r}")
    return options or {}


def check_held_out(n: int, held: int) -> int:
    """Sequences are left on both sides of a validation split."""
    if not 1 <= held < n:
        raise ValueError(f"early_stopping: expected sequences to train on and to hold out, got n_samples={n}, of which "
                         f"{held} would be held out; pass more sequences, or early_stopping=False")
    return held
