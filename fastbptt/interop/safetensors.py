"""Weights from safetensors files of PyTorch models, without PyTorch. The extra `interop` has the library that reads them."""
from __future__ import annotations

import os

import numpy as np

from ..arrays import Array
from ..errors import FileError, check_text, printable
from ..training.safetensors import open_safetensors

READABLE = (np.float32, np.float64)


def read(path: str | os.PathLike[str], prefix: str = "") -> dict[str, Array]:
    """The arrays of a file whose names begin with a prefix, by the rest of their names.

    They are what `fastbptt.interop.torch.from_state_dict` takes, if the prefix is the name of the module in the model, with a
    dot. Only these arrays are read.

    Parameters
    ----------
    path : path
    prefix : str
        Such as "encoder.lstm."; all arrays by default.

    Returns
    -------
    dict of str to array
        float32 or float64, as in the file; in memory of their own.

    Raises
    ------
    FileError
        A ValueError: no name begins with the prefix, an array is neither float32 nor float64, or the file is damaged.
    ImportError
        If the library safetensors is not installed.
    OSError
        If the file cannot be opened.

    Examples
    --------
    >>> import tempfile, os, numpy as np, fastbptt as fb
    >>> from safetensors.numpy import save_file
    >>> cell = fb.RNN(2, 3)
    >>> weights = {"lstm." + name: a for name, a in fb.interop.torch.to_state_dict(cell, cell.init(seed=0)).items()}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file({**weights, "head.weight": np.ones((5, 3))}, os.path.join(folder, "m.safetensors"))
    ...     found = fb.interop.safetensors.read(os.path.join(folder, "m.safetensors"), "lstm.")
    >>> np.array_equal(fb.interop.torch.from_state_dict(cell, found).W, cell.init(seed=0).W)
    True
    """
    check_text("prefix", prefix)
    with open_safetensors(path, "a safetensors file") as file:
        names = [name for name in file.members if name.startswith(prefix)]
        if not names:
            found = printable(", ".join(file.members)) or "none"
            raise FileError(f"expected arrays whose names begin with {prefix!r}, got {found}")
        for name in names:
            if file.members[name].dtype not in READABLE:
                raise FileError(f"{printable(name)}: expected float32 or float64, got {file.members[name].dtype}; "
                                "convert it with .float() before it is saved")
        return {name.removeprefix(prefix): file.read(name) for name in names}
