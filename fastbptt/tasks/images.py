"""Images read pixel by pixel."""
from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import check_choice, check_dtype, check_up_to
from .batch import TaskBatch, begin, counted

TRAINED = 1500      # of the 1,797 images, the first ones


@lru_cache(maxsize=1)
def _images() -> tuple[Array, Array]:
    """(n, 64) pixels in 0 … 1, row by row, and (n,) digits."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("digits: expected scikit-learn to be installed, which has the images, got none; "
                          "install it with: pip install 'fastbptt[sklearn]'") from error
    pixels, labels = load_digits(return_X_y=True)
    return pixels / 16, labels.astype(np.int64)


def digits(batch: int, part: str = "train", seed: int = 0, dtype: Any = np.float32) -> TaskBatch:
    """Which digit is it, after the last of its 64 pixels? The images are scikit-learn's, of 8 × 8 pixels, read row by row.

    Parameters
    ----------
    batch : int
        B different images, at most as many as the part has.
    part : {"train", "test"}
        The first 1,500 images, or the other 297.
    seed : int
    dtype : float32 or float64

    Returns
    -------
    TaskBatch
        x : (64, B, 1) in 0 … 1; y : ids (64, B), of which the last step counts. Model: input_size = 1, output_size = 10,
        softmax_cross_entropy.

    Chance level: a loss of 2.303 = log 10, an accuracy of 0.102: the digits are nearly equally frequent.

    Raises
    ------
    ImportError
        If scikit-learn, the extra `sklearn`, is not installed.
    TypeError, ValueError
        If a number is not an integer in its range, or part or dtype is another one.

    Examples
    --------
    >>> import fastbptt as fb
    >>> x, y, weights = fb.tasks.digits(297, part="test", seed=0)
    >>> x.shape, y[-1, :5].tolist()
    ((64, 297, 1), [3, 1, 5, 1, 0])

    References
    ----------
    E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI machine learning repository, 1998; the task:
    Q. V. Le, N. Jaitly, G. E. Hinton, "A simple way to initialize recurrent networks of rectified linear units",
    arXiv:1504.00941, 2015.
    """
    batch, rng = begin(batch, seed)
    check_choice("part", part, ("train", "test"))
    dtype = check_dtype("dtype", dtype)
    pixels, labels = (array[:TRAINED] if part == "train" else array[TRAINED:] for array in _images())
    check_up_to("batch", batch, len(labels), f"a number of images that the part {part!r} has")
    rows = rng.choice(len(labels), batch, replace=False)
    x = pixels[rows].T[:, :, None].astype(dtype)
    return TaskBatch(x, np.tile(labels[rows], (len(x), 1)), counted(len(x), batch, len(x) - 1, dtype))
