"""The example of neurogym, with a small environment of the same form: that library is not needed."""
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

FILE = Path(__file__).resolve().parents[2] / "examples" / "neurogym_task.py"
SPEC = importlib.util.spec_from_file_location("neurogym_task", FILE)
example = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(example)


class Environment:
    """Go to the side where the light was, when the fixation point goes out, after a delay of 1 to 5 steps."""

    observation_space = SimpleNamespace(shape=(3,))
    action_space = SimpleNamespace(n=3)

    def __init__(self):
        self.unwrapped = self
        self.seed(0)

    def seed(self, seed):
        self.rng = np.random.default_rng(seed)

    def new_trial(self):
        side, delay = int(self.rng.integers(2)), int(self.rng.integers(1, 6))
        self.ob, self.gt = np.zeros((delay + 2, 3)), np.zeros(delay + 2, int)
        self.ob[:-1, 0], self.ob[0, 1 + side], self.gt[-1] = 1, 1, 1 + side


def test_trials_are_batches():
    batch = example.trials(Environment(), 50)
    lengths = batch["lengths"]
    assert batch["x"].shape == (7, 50, 3) and batch["x"].dtype == np.float32 and set(lengths) == {3, 4, 5, 6, 7}
    last = batch["y"][lengths - 1, np.arange(50)]
    assert np.array_equal(last, 1 + batch["x"][0, :, 2]) and batch["y"].sum() == last.sum()


def test_learns(monkeypatch, capsys):
    made = []
    module = ModuleType("neurogym")
    module.make = lambda task, dt: made.append((task, dt)) or Environment()
    monkeypatch.setitem(sys.modules, "neurogym", module)
    before, after = example.main(["--task", "Light-v0", "--dt", "20", "--hidden", "16", "--updates", "300"])
    assert made == [("Light-v0", 20)] and before < 0.7 and after > 0.95
    said = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in said[:3]] == ["100 updates", "200 updates", "300 updates"]
    assert said[3] == f"Light-v0: {before:.0%} of the trials right before training, {after:.0%} after"


def test_without_neurogym(monkeypatch):
    monkeypatch.setitem(sys.modules, "neurogym", None)
    with pytest.raises(SystemExit, match="pip install neurogym torch"):
        example.main([])
