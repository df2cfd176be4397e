"""The demo: a character model trained on real text with full and with truncated gradients, side by side."""
from __future__ import annotations

from collections.abc import Callable

from .growth import measure_growth
from .report import Report
from .sample import generate
from .text import Corpus, default_text, read_text
from .train import train

__all__ = ["Corpus", "Report", "default_text", "read_text", "run_demo"]


def run_demo(corpus: Corpus, seconds: float, tell: Callable[[str, float], None]) -> Report:
    """Train for `seconds`, measure how the cost of the gradients grows with T, and generate text with the model.

    `tell` is called with a description of the current activity and the fraction of the training time spent, 0 … 1.
    """
    tell("compiling", 0.0)
    trained = train(corpus, seconds, tell)
    tell("measuring how the cost grows with T", 1.0)
    growth = measure_growth(trained.model, trained.courses[0].params, corpus.train)
    tell("writing", 1.0)
    return Report(corpus, trained, growth, generate(trained.model, trained.courses[0].params, corpus))
