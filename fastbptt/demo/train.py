"""The same model trained with full and with truncated gradients in parallel: the same initial weights, the same batches."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from ..arrays import Array
from ..bptt.truncation import Truncation
from ..cells.rnn import RNN
from ..training.clip import clip_by_norm
from ..training.model import ModelParams, SequenceModel
from ..training.optim import Adam
from ..training.sequences import pad
from ..tree import leaves
from .text import SEQUENCE, Corpus

BATCH, HIDDEN, HORIZON = 16, 96, 8
RATE, LARGEST_NORM = 0.005, 1.0
FORMS: dict[str, Truncation | None] = {
    "full": None, f"chunks of {HORIZON}": Truncation.chunks(HORIZON), f"window of {HORIZON}": Truncation(HORIZON)}
CHECKS = (0.02, 0.05, 0.1, 0.17, 0.25, 0.35, 0.5, 0.65, 0.82)       # fractions of the time, in addition to its start and its end
PIECES = 32


@dataclass
class Course:
    """One way to compute the gradient, and the history of the model trained with it."""

    name: str
    truncation: Truncation | None
    params: ModelParams
    opt_state: Any
    bits: list[float] = field(default_factory=list)
    """Held-out bits per character at every check."""
    cosine: list[float] = field(default_factory=list)
    """Cosine of this gradient with the full one, at the weights trained with full gradients, at every check."""
    seconds: list[float] = field(default_factory=list)
    """Time of every gradient."""


@dataclass
class Trained:
    """All courses, and the updates after which they were checked."""

    model: SequenceModel
    courses: list[Course]
    updates: list[int] = field(default_factory=list)


def train(corpus: Corpus, seconds: float, tell: Callable[[str, float], None]) -> Trained:
    """Update every course in turn for `seconds`; the first call, which compiles, is not counted."""
    size = len(corpus.vocabulary)
    model, optimizer = SequenceModel(RNN(size, HIDDEN), size), Adam(RATE)
    start = model.init(seed=0)
    trained = Trained(model, [Course(name, cut, start, optimizer.init(start)) for name, cut in FORMS.items()])
    rng = np.random.default_rng(0)
    fixed, checks = batch(corpus.train, rng), [*CHECKS, 1.0]
    model.loss_and_grad(start, *fixed)
    check(trained, corpus, fixed, 0)
    begin, done = perf_counter(), 0
    while checks:
        x, y = batch(corpus.train, rng)
        for course in trained.courses:
            before = perf_counter()
            _, grads = model.loss_and_grad(course.params, x, y, truncation=course.truncation, reduction="mean")
            course.seconds.append(perf_counter() - before)
            grads, _ = clip_by_norm(grads, LARGEST_NORM)
            course.params, course.opt_state = optimizer.update(course.params, grads, course.opt_state)
        done += 1
        spent = (perf_counter() - begin) / seconds
        if spent >= checks[0]:
            checks = [c for c in checks if c > spent]
            check(trained, corpus, fixed, done)
        tell(f"training, {trained.courses[0].bits[-1]:.2f} bits per held-out character", min(1.0, spent))
    return trained


def batch(ids: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Sequences from random positions, (T, B), and for each character the next one."""
    first = rng.integers(0, ids.size - SEQUENCE, BATCH)
    windows = ids[first + np.arange(SEQUENCE + 1)[:, None]]
    return windows[:-1], windows[1:]


def check(trained: Trained, corpus: Corpus, fixed: tuple[Array, Array], done: int) -> None:
    """Held-out bits of every course, and the cosines on a fixed batch of the text trained on."""
    trained.updates.append(done)
    full = None
    for course in trained.courses:
        course.bits.append(held_out_bits(trained.model, course.params, corpus.held_out))
        _, grads = trained.model.loss_and_grad(trained.courses[0].params, *fixed, truncation=course.truncation)
        # The readout's gradient is never truncated, so it would only raise the cosine.
        flat = np.concatenate([np.ravel(a) for a in leaves(grads.cell)]).astype(np.float64)
        full = flat if full is None else full
        course.cosine.append(float(flat @ full / (np.linalg.norm(flat) * np.linalg.norm(full))))


def held_out_bits(model: SequenceModel, params: ModelParams, ids: Array) -> float:
    """Bits per character: the text in up to 32 pieces in parallel, each from a zero state, every character but the first."""
    cuts = np.linspace(0, ids.size - 1, min(PIECES, (ids.size - 1) // SEQUENCE + 1) + 1).astype(int)
    x, lengths = pad([ids[a:b].tolist() for a, b in zip(cuts[:-1], cuts[1:], strict=True)])
    y, _ = pad([ids[a + 1:b + 1].tolist() for a, b in zip(cuts[:-1], cuts[1:], strict=True)])
    return model.loss(params, x, y, lengths, reduction="mean") / float(np.log(2))
