"""Text that the model writes."""
from __future__ import annotations

import numpy as np

from ..bptt.passes import step
from ..training.losses import predictions
from ..training.model import ModelParams, SequenceModel
from ..training.readout import readout_forward
from .text import Corpus

PROMPT, LENGTH, TEMPERATURE = 24, 280, 0.6


def generate(model: SequenceModel, params: ModelParams, corpus: Corpus, seed: int = 0) -> tuple[str, str]:
    """The beginning of the held-out text, and how the model goes on: characters drawn one by one, ∝ probability^(1/0.6)."""
    rng = np.random.default_rng(seed)
    prompt = corpus.held_out[:PROMPT]
    state, written = None, list[int]()
    for k in range(len(prompt) + LENGTH - 1):
        given = int(prompt[k]) if k < len(prompt) else written[-1]
        state = step(model.cell, params.cell, np.array([given]), state)
        if k >= len(prompt) - 1:
            z = readout_forward(params.readout, state.h).astype(np.float64) / TEMPERATURE
            p = predictions(model.loss_name, z)[0]
            written.append(int(rng.choice(p.size, p=p / p.sum())))
    return corpus.vocabulary.decode(prompt), corpus.vocabulary.decode(written)
