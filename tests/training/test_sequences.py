"""Characters as ids and back; padding is tested beside the model."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastbptt as fb


@given(st.text(st.characters(), min_size=1, max_size=50))
def test_decode_undoes_encode(text):
    vocabulary = fb.Vocabulary.from_text(text)
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int64 and ids.shape == (len(text),) and ids.max() < len(vocabulary)
    assert vocabulary.decode(ids) == text
    assert [vocabulary.characters[i] for i in ids] == list(text)


def test_characters_are_sorted_and_unique():
    assert fb.Vocabulary.from_text("deep sea\U0001f600").characters == " adeps\U0001f600"
    assert fb.Vocabulary.from_text("ab") == fb.Vocabulary("ab") == fb.Vocabulary.from_text("baba")


def test_nothing_is_a_text_too():
    vocabulary = fb.Vocabulary("ab")
    assert vocabulary.encode("").shape == (0,) and vocabulary.decode([]) == "" and vocabulary.decode(np.array([1], ">u2")) == "b"


@pytest.mark.parametrize(("call", "message"), [
    (lambda v: v.encode("abc"), "text: expected characters of this vocabulary of 2, got 'c' at position 2; make"),
    (lambda v: v.encode("A"), "got 'A' at position 0"),
    (lambda v: v.encode(b"a"), "text: expected a str, got bytes"),
    (lambda v: v.decode([0, 2]), "ids: expected a sequence of ids in 0 … 1, got values from 0 to 2"),
    (lambda v: v.decode([-1]), "got values from -1"),
    (lambda v: v.decode([0.0]), "ids: .* float64; pass one sequence, as integers"),
    (lambda v: v.decode([[0]]), "2 dimensions"),
    (lambda v: v.decode(None), "ids: .*None"),
    (lambda v: fb.Vocabulary(""), "characters: expected at least one"),
    (lambda v: fb.Vocabulary("ba"), "sorted and each once, got 'ba'; use Vocabulary.from_text"),
    (lambda v: fb.Vocabulary("aa"), "each once"),
    (lambda v: fb.Vocabulary(["a", "b"]), "characters: expected a str, got list"),
    (lambda v: fb.Vocabulary.from_text(""), "characters: expected at least one"),
])
def test_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(fb.Vocabulary("ab"))
