"""Weights on disk: npz without pickle, checked before it is read, replaced in one piece."""
from __future__ import annotations

import base64
import json
import math
import os
import zipfile
import zlib
from dataclasses import fields
from pathlib import Path
from typing import IO, Any, NamedTuple
from uuid import uuid4

import numpy as np
from numpy.lib import format as npy

from ..arrays import Array
from ..bptt.stack import Stack
from ..cells import CELLS
from ..errors import FileError, check_output_params, is_stack
from ..tree import leaves
from .model import ModelParams, SequenceModel
from .readout import ReadoutParams
from .sequences import Vocabulary

FORMAT, VERSION = "fastbptt-model", 1
HEADER, VOCABULARY = "header", "vocabulary"
LARGEST_HEADER = 2**22
BUILDERS: dict[str, Any] = {**CELLS, "Stack": Stack}
DAMAGED = (zipfile.BadZipFile, ValueError, TypeError, KeyError, EOFError, OSError, NotImplementedError, MemoryError,
           OverflowError, RecursionError, zlib.error)


class SavedModel(NamedTuple):
    """What a model file holds."""

    model: SequenceModel
    params: ModelParams
    vocabulary: Vocabulary | None
    """What the ids of a character model stand for; None where the file has none."""


def save_model(path: str | os.PathLike[str], model: SequenceModel, params: ModelParams,
               vocabulary: Vocabulary | None = None) -> None:
    """Write a model and its parameters to an npz file, under its final name only when it is complete.

    Parameters
    ----------
    path : path
        Replaced if it exists; written beside it first, so that a full disk leaves the old file as it was.
    model : SequenceModel
    params : ModelParams
        Of this model: what `load_model` would refuse is not written.
    vocabulary : Vocabulary, optional
        What the ids of a character model stand for.

    Raises
    ------
    TypeError, ValueError
        If the parameters are not those of the model.
    OSError
        If the folder cannot be written or the disk is full.

    Examples
    --------
    >>> import tempfile, os, fastbptt as fb
    >>> model = fb.SequenceModel(fb.RNN(3, 4), output_size=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fb.save_model(os.path.join(folder, "model.npz"), model, model.init(seed=0))
    ...     saved = fb.load_model(os.path.join(folder, "model.npz"))
    >>> saved.model == model, saved.params.cell.W.shape, saved.vocabulary
    (True, (4, 4), None)
    """
    path = Path(path)
    params = check_output_params(model, params)
    characters = np.array([] if vocabulary is None else [ord(c) for c in vocabulary.characters], np.uint32)
    header = {"format": FORMAT, "version": VERSION, **_described(model.cell),
              "output_size": model.output_size, "loss": model.loss_name, "mode": model.mode, "characters": characters.size}
    cell: dict[str, Any] = {f"cell.{name}": array for name, array in zip(model.cell.shapes, leaves(params.cell), strict=True)}
    readout = {f"readout.{name}": array for name, array in params.readout._asdict().items()}
    arrays = {HEADER: np.frombuffer(json.dumps(header).encode(), np.uint8), **cell, **readout}
    if characters.size:
        arrays[VOCABULARY] = characters
    write_arrays(path, arrays)


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """An npz file that has its name only when it is complete: written beside it, flushed to the disk, renamed."""
    temporary = path.with_name(f"{path.name}.{uuid4().hex}.tmp")       # unlike those of tempfile, with the user's umask
    try:
        with open(temporary, "xb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load_model(path: str | os.PathLike[str]) -> SavedModel:
    """The model, the parameters and the vocabulary of a file that `save_model` wrote.

    Names, shapes and dtypes are read from the headers and compared with the model's before any array is allocated.

    Raises
    ------
    FileError
        A ValueError: the file is truncated, of another format or a newer version, or its arrays are not those of its model.
    OSError
        If the file cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return _read(archive)
        except FileError as error:
            raise FileError(f"{path}: {error}") from None
        except DAMAGED as error:
            raise FileError(f"{path}: expected a model that fastbptt saved, got a damaged or foreign file ({error})") from None


def _described(cell: Any) -> dict[str, Any]:
    """A cell as it stands in the header."""
    options = {field.name: _plain(getattr(cell, field.name)) for field in fields(cell)}
    if is_stack(cell):
        options["cells"] = [_described(layer) for layer in cell.cells]
    return {"cell": type(cell).__name__, "cell_options": options}


def _plain(option: Any) -> Any:
    """An option for the header; arrays of small integers, such as masks, are packed."""
    if not isinstance(option, np.ndarray):
        return option
    packed = zlib.compress(option.astype(np.int8).tobytes())
    return {"shape": option.shape, "int8": base64.b64encode(packed).decode()}


def _option(plain: Any) -> Any:
    """The reverse of `_plain`; no more is unpacked than the shape says."""
    if not isinstance(plain, dict):
        return plain
    size = math.prod(plain["shape"])
    raw = zlib.decompressobj().decompress(base64.b64decode(plain["int8"]), size + 1)
    return np.frombuffer(raw, np.int8).reshape(plain["shape"])


def _built(described: Any, known: dict[str, Any] = BUILDERS) -> Any:
    """The cell of a header; the layers of a stack are no stacks."""
    name, options = described["cell"], {key: _option(value) for key, value in described["cell_options"].items()}
    if name not in known:
        raise FileError(f"expected one of the cells {', '.join(known)}, got {name!r}; update fastbptt to read it")
    if "cells" in options:
        options["cells"] = [_built(layer, CELLS) for layer in options["cells"]]
    return known[name](**options)


def _read(archive: zipfile.ZipFile) -> SavedModel:
    header = _read_header(archive)
    cell = _built(header)
    model = SequenceModel(cell, header["output_size"], header["loss"], header["mode"])
    shapes = {f"cell.{name}": shape for name, shape in cell.shapes.items()}
    shapes |= {"readout.V": (model.output_size, cell.hidden_size), "readout.c": (model.output_size,)}
    characters = _read_shapes(archive, shapes, header["characters"])
    arrays = {name: _array(archive, name) for name in shapes}
    weights = {name: arrays[f"cell.{name}"] for name in cell.shapes}
    params = cell.params_of(weights) if is_stack(cell) else cell.params_type(**weights)
    vocabulary = Vocabulary("".join(map(chr, _array(archive, VOCABULARY)))) if characters else None
    return SavedModel(model, ModelParams(params, ReadoutParams(arrays["readout.V"], arrays["readout.c"])), vocabulary)


def _read_shapes(archive: zipfile.ZipFile, shapes: dict[str, tuple[int, ...]], characters: int) -> bool:
    """Refuse arrays of other names, shapes or dtypes by their headers alone; whether there is a vocabulary."""
    expected = {HEADER, *shapes} | ({VOCABULARY} if characters else set())
    found = {name.removesuffix(".npy") for name in archive.namelist()}
    if found != expected:
        wanted, given = (", ".join(sorted(names - {HEADER})) for names in (expected, found))
        raise FileError(f"expected the arrays {wanted}, got {given}")
    dtypes = set()
    for name, shape in shapes.items():
        size, dtype = _shape_and_dtype(archive, name)
        if size != shape or dtype not in (np.float32, np.float64):
            raise FileError(f"{name}: expected {shape} of float32 or float64, got {size} of {dtype}")
        dtypes.add(dtype)
    if len(dtypes) > 1:
        raise FileError(f"expected arrays of one dtype, got {', '.join(sorted(map(str, dtypes)))}")
    if characters and _shape_and_dtype(archive, VOCABULARY) != ((characters,), np.dtype(np.uint32)):
        raise FileError(f"{VOCABULARY}: expected {characters} code points as uint32, got something else")
    return bool(characters)


def _read_header(archive: zipfile.ZipFile) -> dict[str, Any]:
    shape, dtype = _shape_and_dtype(archive, HEADER)
    if dtype != np.uint8 or len(shape) != 1 or shape[0] > LARGEST_HEADER:
        raise FileError("expected a header of at most 4 MiB, got something else")
    header = json.loads(_array(archive, HEADER).tobytes())
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise FileError(f"expected the format {FORMAT!r}, got a file of something else")
    if header.get("version") != VERSION:
        raise FileError(f"expected version {VERSION}, got {header.get('version')!r}; update fastbptt to read it")
    return header


def _shape_and_dtype(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with archive.open(f"{name}.npy") as stream:
        return _array_header(stream)


def _array_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    read = npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype


def _array(archive: zipfile.ZipFile, name: str) -> Array:
    with archive.open(f"{name}.npy") as stream:
        return np.ascontiguousarray(npy.read_array(stream, allow_pickle=False))
