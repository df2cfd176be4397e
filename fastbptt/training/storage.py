"""Weights on disk: npz or safetensors, without pickle, checked before they are read, replaced in one piece."""
from __future__ import annotations

import base64
import json
import math
import os
import zlib
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np

from ..bptt.stack import Stack
from ..cells import CELLS
from ..errors import FileError, check_output_params, printable
from ..tree import leaves
from .model import ModelParams, SequenceModel
from .npz import LARGEST_JSON, Npz, open_npz, write_npz
from .readout import ReadoutParams
from .safetensors import Safetensors, is_safetensors, open_safetensors, write_safetensors
from .sequences import Vocabulary

FORMAT, VERSION = "fastbptt-model", 1
HEADER, VOCABULARY = "header", "vocabulary"
BUILDERS: dict[str, Any] = {**CELLS, "Stack": Stack}


class SavedModel(NamedTuple):
    """What a model file holds."""

    model: SequenceModel
    params: ModelParams
    vocabulary: Vocabulary | None
    """What the ids of a character model stand for; None where the file has none."""


def save_model(path: str | os.PathLike[str], model: SequenceModel, params: ModelParams,
               vocabulary: Vocabulary | None = None) -> None:
    """Write a model and its parameters to a file, under its final name only when it is complete.

    Parameters
    ----------
    path : path
        A safetensors file if it ends in ".safetensors" (the extra `interop`), else an npz file. Replaced if it exists, where a
        symbolic link leads if it is one; written beside it first, so that a full disk leaves the old file as it was.
    model : SequenceModel
    params : ModelParams
        Of this model: what `load_model` would refuse is not written.
    vocabulary : Vocabulary, optional
        What the ids of a character model stand for: as many characters as the model has inputs.

    Raises
    ------
    TypeError, ValueError
        If the parameters or the vocabulary are not those of the model, or the path is that of a pipe or a device.
    ImportError
        If the path ends in ".safetensors" and that library is not installed.
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
    params = check_output_params(model, params)
    _check_vocabulary(model, vocabulary)
    characters = np.array([] if vocabulary is None else [ord(c) for c in vocabulary.characters], np.uint32)
    header = {"format": FORMAT, "version": VERSION, **_described(model.cell),
              "output_size": model.output_size, "loss": model.loss_name, "mode": model.mode, "characters": characters.size}
    cell: dict[str, Any] = {f"cell.{name}": array for name, array in zip(model.cell.shapes, leaves(params.cell), strict=True)}
    readout = {f"readout.{name}": array for name, array in params.readout._asdict().items()}
    arrays = {**cell, **readout, **({VOCABULARY: characters} if characters.size else {})}
    text = json.dumps(header)
    raw = np.frombuffer(text.encode(), np.uint8)
    if raw.size > LARGEST_JSON:
        raise ValueError(f"model: expected masks and signs that are packed into {LARGEST_JSON:,} bytes, got {raw.size:,}; "
                         "save the weights by numpy.savez")
    if is_safetensors(path):
        write_safetensors(path, arrays, text)
    else:
        write_npz(path, {HEADER: raw, **arrays})


def _check_vocabulary(model: SequenceModel, vocabulary: Any) -> None:
    """Refuse a vocabulary with which the ids of the model would mean something else."""
    if vocabulary is not None and not isinstance(vocabulary, Vocabulary):
        raise TypeError(f"vocabulary: expected a fastbptt.Vocabulary or None, got {type(vocabulary).__name__}")
    if vocabulary is not None and len(vocabulary) != model.cell.input_size:
        raise ValueError(f"vocabulary: expected {model.cell.input_size} characters, as many as the inputs of the model, "
                         f"got {len(vocabulary)}; pass the vocabulary that encoded its texts")


def load_model(path: str | os.PathLike[str]) -> SavedModel:
    """The model, the parameters and the vocabulary of a file that `save_model` wrote: ".safetensors", else npz.

    Names, shapes and dtypes are read from the headers and compared with the model's before any array is allocated.

    Raises
    ------
    FileError
        A ValueError: the file is truncated, of another format or a newer version, or its arrays are not those of its model.
    ImportError
        If the path ends in ".safetensors" and that library is not installed.
    OSError
        If the file cannot be opened.
    """
    wanted = "a model that fastbptt saved"
    with open_safetensors(path, wanted) if is_safetensors(path) else open_npz(path, wanted) as archive:
        return _read(archive)


def _described(cell: Any) -> dict[str, Any]:
    """A cell as it stands in the header."""
    options = {field.name: _plain(getattr(cell, field.name)) for field in fields(cell)}
    if isinstance(cell, Stack):
        options["cells"] = [_described(layer) for layer in cell.cells]
    return {"cell": type(cell).__name__, "cell_options": options}


def _plain(option: Any) -> Any:
    """An option for the header; arrays of small integers, such as masks, are packed."""
    if not isinstance(option, np.ndarray):
        return option
    packed = zlib.compress(option.astype(np.int8).tobytes())
    return {"shape": option.shape, "int8": base64.b64encode(packed).decode()}


def _option(packed: dict[str, Any], hidden: int) -> Any:
    """The reverse of `_plain`: an array of the size of a state or of W, of which no more is unpacked than that."""
    shape = tuple(packed["shape"])
    if shape not in ((hidden,), (hidden, hidden)):
        raise FileError(f"{HEADER}: expected masks ({hidden}, {hidden}) and signs ({hidden},), got one of {shape}")
    raw = zlib.decompressobj().decompress(base64.b64decode(packed["int8"]), math.prod(shape) + 1)
    return np.frombuffer(raw, np.int8).reshape(shape)


def _built(described: dict[str, Any], arrays: bool, known: dict[str, Any] = BUILDERS) -> Any:
    """The cell of a header, with its masks and signs or, for its shapes alone, without; the layers of a stack are no stacks."""
    name, options = described["cell"], dict(described["cell_options"])
    if name not in known:
        raise FileError(f"expected one of the cells {', '.join(known)}, got {name!r}; update fastbptt to read it")
    if "cells" in options:
        options["cells"] = [_built(layer, arrays, CELLS) for layer in options["cells"]]
    packed = {key: value for key, value in options.items() if isinstance(value, dict)}
    cell = known[name](**{key: value for key, value in options.items() if key not in packed})
    if not arrays or not packed:
        return cell
    return known[name](**{**options, **{key: _option(value, cell.hidden_size) for key, value in packed.items()}})


def _read(archive: Npz | Safetensors) -> SavedModel:
    header = _read_header(archive)
    cell = _built(header, arrays=False)
    output_size, characters = header["output_size"], header["characters"]
    shapes = {f"cell.{name}": shape for name, shape in cell.shapes.items()}
    shapes |= {"readout.V": (output_size, cell.hidden_size), "readout.c": (output_size,)}
    _check_shapes(archive, shapes, characters)
    model = SequenceModel(_built(header, arrays=True), output_size, header["loss"], header["mode"])
    arrays = {name: archive.read(name) for name in shapes}
    weights = {name: arrays[f"cell.{name}"] for name in cell.shapes}
    params = cell.params_of(weights)
    vocabulary = Vocabulary("".join(map(chr, archive.read(VOCABULARY)))) if characters else None
    _check_vocabulary(model, vocabulary)
    return SavedModel(model, ModelParams(params, ReadoutParams(arrays["readout.V"], arrays["readout.c"])), vocabulary)


def _check_shapes(archive: Npz | Safetensors, shapes: dict[str, tuple[int, ...]], characters: Any) -> None:
    """Refuse arrays of other names, shapes or dtypes by their headers alone."""
    expected, found = {*shapes} | ({VOCABULARY} if characters else set()), {*archive.members} - {HEADER}
    if found != expected:
        wanted, given = (", ".join(sorted(names)) for names in (expected, found))
        raise FileError(f"expected the arrays {wanted}, got {printable(given)}")
    dtypes = set()
    for name, shape in shapes.items():
        member = archive.members[name]
        if member.shape != shape or member.dtype not in (np.float32, np.float64):
            raise FileError(f"{name}: expected {shape} of float32 or float64, got {member.shape} of {member.dtype}")
        dtypes.add(member.dtype)
    if len(dtypes) > 1:
        raise FileError(f"expected arrays of one dtype, got {', '.join(sorted(map(str, dtypes)))}")
    codes = archive.members[VOCABULARY] if characters else None
    if codes is not None and (codes.shape, codes.dtype) != ((characters,), np.dtype(np.uint32)):
        raise FileError(f"{VOCABULARY}: expected {characters} code points as uint32, got something else")


def _read_header(archive: Npz | Safetensors) -> dict[str, Any]:
    header = archive.read_json(HEADER)
    if header.get("format") != FORMAT:
        raise FileError(f"expected the format {FORMAT!r}, got a file of something else")
    if header.get("version") != VERSION:
        raise FileError(f"expected version {VERSION}, got {header.get('version')!r}; update fastbptt to read it")
    return header
