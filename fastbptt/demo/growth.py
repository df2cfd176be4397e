"""How the cost of the same gradients grows with T."""
from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter, sleep

import numpy as np

from ..arrays import Array
from ..bptt.api import backward, forward
from ..training.model import ModelParams, SequenceModel
from .train import FORMS

LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
TURNS = 11
SETTLE = 0.3        # seconds: NumPy's threads spin for a while after a product, and would compete with ours


@dataclass(frozen=True)
class Growth:
    """Seconds of forward and backward through the cell, one sequence of T characters, by form and T."""

    lengths: tuple[int, ...]
    seconds: dict[str, list[float]]


def products_per_step(name: str) -> float:
    """Products δ W per step in a form's backward pass: horizon / stride, and one for full BPTT."""
    truncation = FORMS[name]
    return 1.0 if truncation is None else truncation.horizon / truncation.stride


def measure_growth(model: SequenceModel, params: ModelParams, ids: Array) -> Growth:
    """Medians of interleaved runs; a text that is too short is repeated. The readout, the same for all, is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in FORMS}
    sleep(SETTLE)
    for T in LENGTHS:
        x = np.resize(ids, (T, 1))
        dh = np.random.default_rng(T).standard_normal((T, 1, model.cell.hidden_size), np.float32)
        turns: dict[str, list[float]] = {name: [] for name in FORMS}
        for _ in range(TURNS):
            for name, truncation in FORMS.items():
                begin = perf_counter()
                backward(model.cell, params.cell, forward(model.cell, params.cell, x), dh, truncation)
                turns[name].append(perf_counter() - begin)
        for name, found in turns.items():
            seconds[name].append(float(np.median(found)))
    return Growth(LENGTHS, seconds)
