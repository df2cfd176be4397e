"""The text of the demo, and which part of it is held out."""
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..arrays import Array
from ..training.documentation import documentation
from ..training.sequences import Vocabulary
from ..training.text import TextFile

SEQUENCE = 128      # characters that a training sequence predicts


@dataclass(frozen=True)
class Corpus:
    """A text as ids: the first nine tenths to train on, the last tenth held out.

    The vocabulary is that of the whole text, so that a character that occurs only in the held-out part has an id too: the model
    has never seen it, and its cost is counted.
    """

    name: str
    vocabulary: Vocabulary
    train: Array
    held_out: Array

    @classmethod
    def from_text(cls, text: str, name: str) -> Corpus:
        """Split a text; ValueError if less than one sequence is left to train on, or all its characters are the same."""
        kept = len(text) - len(text) // 10
        if kept <= SEQUENCE:
            raise ValueError(f"text: expected at least {SEQUENCE * 10 // 9 + 1} characters, one more than a sequence of "
                             f"{SEQUENCE} beside the tenth held out, got {len(text)} in {name}; choose a longer text")
        vocabulary = Vocabulary.from_text(text)
        if len(vocabulary) < 2:
            raise ValueError(f"text: expected at least two different characters, got {text[0]!r} alone in {name}; "
                             "choose a text with something to predict")
        ids = vocabulary.encode(text)
        return cls(name, vocabulary, ids[:kept], ids[kept:])

    def sizes(self) -> str:
        """One sentence on the sizes."""
        new = len(set(self.held_out.tolist()) - set(self.train.tolist()))
        return (f"{self.name}: {self.train.size + self.held_out.size:,} characters, {len(self.vocabulary)} different ones; "
                f"{self.train.size:,} to train on, the last {self.held_out.size:,} held out ({new} characters occur only there)")


def default_text() -> Corpus:
    """Python's own documentation."""
    return Corpus.from_text(documentation(), "Documentation topics of Python")


def read_text(path: str | os.PathLike[str]) -> Corpus:
    """A UTF-8 file.

    Raises
    ------
    ValueError
        If the file is not UTF-8, or shorter than a sequence.
    OSError
        If it cannot be read.
    """
    return Corpus.from_text(TextFile(path).text(), Path(path).name)
