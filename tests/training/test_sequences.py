"""Characters as ids and back; padding of ids, real numbers and vectors."""
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


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4"])
def test_real_sequences_stay_real(dtype):
    vectors = [np.arange(6.0).reshape(3, 2).astype(dtype), np.full((1, 2), 0.5, dtype)]
    padded, lengths = fb.pad(vectors, value=-1.5)
    assert padded.shape == (3, 2, 2) and padded.dtype == np.dtype(dtype).newbyteorder("=") and lengths.tolist() == [3, 1]
    np.testing.assert_array_equal(padded[:, 0], vectors[0])
    np.testing.assert_array_equal(padded[:, 1], [[0.5, 0.5], [-1.5, -1.5], [-1.5, -1.5]])
    numbers, _ = fb.pad([v[:, 0] for v in vectors], max_len=2)
    np.testing.assert_array_equal(numbers, [[0, 0.5], [2, 0]])


def test_lists_of_numbers_are_padded_as_what_they_are():
    np.testing.assert_array_equal(fb.pad([[0.5, 1.7], [2.9]])[0], [[0.5, 2.9], [1.7, 0]])
    np.testing.assert_array_equal(fb.pad([[1, 2], [0.5]])[0], [[1, 0.5], [2, 0]])
    assert fb.pad([[1, 2], np.array([0.5], np.float32)])[0].dtype == np.float32
    assert fb.pad([np.array([1, 2], np.uint8), [3]], value=-1)[0].tolist() == [[1, 3], [2, -1]]
    assert fb.pad(iter([range(2), (4,)]))[0].tolist() == [[0, 4], [1, 0]]
    assert fb.pad(np.ones((3, 2, 4)))[0].shape == (2, 3, 4)


def test_padded_vectors_run_as_each_alone():
    rng = np.random.default_rng(0)
    cell, alone = fb.RNN(3, 4), [rng.normal(size=(n, 3)) for n in (4, 2, 5)]
    params, (x, lengths) = cell.init(dtype=np.float64), fb.pad(alone)
    h = fb.forward(cell, params, x, lengths=lengths).h
    for b, one in enumerate(alone):
        np.testing.assert_allclose(h[:len(one), b], fb.forward(cell, params, one[:, None]).h[:, 0], rtol=1e-12)


@pytest.mark.parametrize(("call", "kind", "message"), [
    (lambda: fb.pad(["12", "345"]), TypeError, r"^sequences\[0\]: expected a sequence \(T,\) or \(T, I\) of numbers, got .*<U2"),
    (lambda: fb.pad([["a"], ["b"]]), TypeError, r"^sequences\[0\]: .*<U1"),
    (lambda: fb.pad("ab"), TypeError, r"^sequences\[0\]: .*<U1"),
    (lambda: fb.pad([[1], [True]]), TypeError, r"^sequences\[1\]: .*bool"),
    (lambda: fb.pad([[1], None]), TypeError, r"^sequences\[1\]: .*None"),
    (lambda: fb.pad([[1j]]), TypeError, r"^sequences\[0\]: .*complex"),
    (lambda: fb.pad([[2**70]]), TypeError, r"^sequences\[0\]: .*object"),
    (lambda: fb.pad([[2**63]]), ValueError, "^sequences: expected ids of at most 9223372036854775807"),
    (lambda: fb.pad([np.zeros(2, np.float16)]), TypeError, r"^sequences\[0\]: .*float16"),
    (lambda: fb.pad([[[1, 2], [3]]]), ValueError, r"^sequences\[0\]: .*unequal lengths; every step must have as many numbers$"),
    (lambda: fb.pad([np.zeros((2, 3)), [[1, 2]]]), ValueError, r"^sequences\[1\]: expected \(T, 3\) as the first, got \(1, 2\)"),
    (lambda: fb.pad([[1], [[1]]]), ValueError, r"^sequences\[1\]: expected \(T,\) as the first, got \(1, 1\)"),
    (lambda: fb.pad([1, 2]), ValueError, r"^sequences\[0\]: .*got \(\); pass a list of sequences"),
    (lambda: fb.pad(np.zeros((2, 2, 2, 2))), ValueError, r"^sequences\[0\]: .*got \(2, 2, 2\)"),
    (lambda: fb.pad(5), TypeError, "^sequences: expected a list of sequences, got int"),
    (lambda: fb.pad([[1, 2]], value=0.5), TypeError, "^value: expected an integer, got 0.5"),
    (lambda: fb.pad([[1, 2]], value=2**64), ValueError, "^value: expected an integer"),
    (lambda: fb.pad([[1.0]], value=True), TypeError, "^value: expected a real number, got True"),
    (lambda: fb.pad([[1.0]], value="0"), TypeError, "^value: expected a real number, got '0'"),
    (lambda: fb.pad([np.zeros((0, 3))]), ValueError, "^sequences: expected at least one sequence and none of length 0"),
    (lambda: fb.pad([np.zeros((3, 0))]), ValueError, "^sequences"),
])
def test_what_is_no_sequence_of_numbers_is_not_padded(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
