"""The example of agreement at a distance: small by default; the whole of it, with its claims, under the mark `evidence`."""
from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import fastbptt as fb

FILE = Path(__file__).resolve().parents[2] / "examples" / "agreement.py"
SPEC = importlib.util.spec_from_file_location("agreement", FILE)
agreement = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(agreement)


def test_only_the_first_word_tells_the_number():
    words, number = agreement.sentences(np.random.default_rng(0), 7, 400)
    assert words.shape == (8, 400)
    np.testing.assert_array_equal(words[0], number)
    assert set(words[-1]) == {agreement.VERB} and set(words[1:-1].ravel()) == set(range(2, agreement.VERB))
    assert abs(np.corrcoef((words[1:-1] == 3).sum(axis=0), number)[0, 1]) < 0.15


def test_gradient_that_stops_one_step_short_cannot_tell_the_forms_apart():
    network = agreement.networks(6, hidden=5)["orthogonal-cut"]
    model = fb.SequenceModel(network.cell, 2, mode="many_to_one")
    params = agreement.first_weights(model, network, seed=0)
    np.testing.assert_array_equal(params.cell.U[:, 0], params.cell.U[:, 1])
    words, number = agreement.sentences(np.random.default_rng(0), 6, 8)
    for truncation in (fb.Truncation.chunks(6), fb.Truncation(6, 1)):
        cut = model.loss_and_grad(params, words, number, truncation=truncation)[1]
        assert not cut.cell.U[:, :2].any() and cut.cell.U[:, 2:].any()
    full = model.loss_and_grad(params, words, number, truncation=fb.Truncation(7, 1))[1]
    assert (full.cell.U[:, 0] != full.cell.U[:, 1]).all()


def test_at_a_small_distance(capsys):
    arguments = ["--distance", "6", "--seeds", "2", "--updates", "300", "--networks", "orthogonal", "orthogonal-cut"]
    found = agreement.main(arguments)
    assert min(found["orthogonal"]) > 0.95 and max(found["orthogonal-cut"]) < 0.55
    table = capsys.readouterr().out.splitlines()
    assert table[0].count("seed") == 2 and "horizon 6" in table[3] and "| 300 |" in table[3] and len(table) == 4
    assert min(agreement.main([*arguments, "--apart"])["orthogonal-cut"]) > 0.95


def test_options_reach_the_training(monkeypatch):
    calls = []

    def train(network, *rest):
        calls.append((network.cell.hidden_size, *rest))
        return 0.5, 1

    monkeypatch.setattr(agreement, "train", train)
    agreement.main(["--distance", "9", "--seeds", "1", "--updates", "3", "--hidden", "5", "--networks", "gru"])
    agreement.main(["--networks", "gru", "--apart"])
    assert calls == [(5, 9, 3, 0, False), *((32, 100, 2000, seed, True) for seed in range(5))]


def test_bad_arguments(capsys):
    with pytest.raises(SystemExit) as stop:
        agreement.main(["--distance", "1"])
    assert stop.value.code == 2 and "a distance of at least 2" in capsys.readouterr().err


@pytest.mark.evidence
def test_claims_of_the_page():
    """D = 100, seeds 0 … 4: docs/agreement.md. Chance has a standard deviation of 0.011 over 2000 sequences."""
    found = agreement.main([])
    for name in ("orthogonal", "identity", "lstm", "gru"):
        assert len(found[name]) == 5 and min(found[name]) >= 0.95, name
    for name in ("small", "orthogonal-cut", "lstm-cut", "gru-cut"):
        assert len(found[name]) == 5 and max(abs(a - 0.5) for a in found[name]) < 0.05, name
