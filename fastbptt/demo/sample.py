"""Text that the model generates."""
from __future__ import annotations

from itertools import islice

from ..training.model import ModelParams, SequenceModel
from ..training.sampling import sample
from .text import Corpus

PROMPT, LENGTH, TEMPERATURE = 24, 280, 0.6


def generate(model: SequenceModel, params: ModelParams, corpus: Corpus, seed: int = 0) -> tuple[str, str]:
    """The beginning of the held-out text, and the model's continuation: characters drawn one by one, ∝ probability^(1/0.6)."""
    prompt = corpus.held_out[:PROMPT]
    written = list(islice(sample(model, params, prompt, temperature=TEMPERATURE, seed=seed), LENGTH))
    return corpus.vocabulary.decode(prompt), corpus.vocabulary.decode(written)
