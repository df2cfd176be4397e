"""The flip-flop network: its task, and the fixed points of one that was trained."""
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

SPEC = importlib.util.spec_from_file_location("flip_flop", Path(__file__).resolve().parents[2] / "examples" / "flip_flop.py")
flip_flop = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = flip_flop
SPEC.loader.exec_module(flip_flop)


def test_outputs_are_the_signs_of_the_last_pulses():
    x, y = flip_flop.flip_flop(np.random.default_rng(0), 30, 4)
    held = np.zeros((4, 3))
    for t in range(30):
        held = np.where(x[t] != 0, x[t], held)
        assert np.array_equal(y[t], held) and (held != 0).all()
    assert set(np.unique(x)) == {-1.0, 0.0, 1.0} and 0.1 < (x[1:] != 0).mean() < 0.2


@pytest.mark.evidence
def test_eight_stable_points_hold_the_triples_of_bits(tmp_path):
    learned = flip_flop.train()
    found = flip_flop.points_of(learned)
    bits = flip_flop.bits_of(learned, found)
    assert learned.correct > 0.999 and len(bits) == 8 and len(set(map(tuple, bits.tolist()))) == 8
    assert "stable fixed points: 8, which hold 8 different triples" in flip_flop.summary(learned, found)
    flip_flop.draw(learned, found, tmp_path / "flip-flop.png")
    assert (tmp_path / "flip-flop.png").stat().st_size > 10_000
