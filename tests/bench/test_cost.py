"""The curves of cost: every form is what it says, and the figures are of the run they name."""
from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from fastbptt.bench.cost import BUDGET, FORMS, LENGTHS, Cost, cost_case, cost_side, measure_cost, peak_of, seconds_of

ROOT = Path(__file__).resolve().parents[2]


def test_the_lengths_go_from_1024_to_16384():
    assert LENGTHS[0] == 1024 and LENGTHS[-1] == 16_384 and BUDGET == "2 MiB"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_makes_the_gradients_of_its_truncation(form):
    gradients = {name: side.gradients(side.run())["W"] for name, side in ((n, cost_side(n, 200)) for n in (form, "full"))}
    assert np.array_equal(gradients[form], gradients["full"]) == (form in ("full", "checkpointed"))
    horizon = {"chunks of 32": (32, 32), "window of 32": (32, 1)}.get(form)
    assert cost_case(form, 200).truncation == horizon


def test_memory_grows_with_the_tape_and_not_past_the_budget():
    def peak(form, T):
        side = cost_side(form, T)
        return min(peak_of(side) for _ in range(4))      # what other threads make meanwhile, or is made once, is not the call's

    full, bounded = ([peak(form, T) for T in (4096, 32_768)] for form in ("full", "checkpointed"))
    assert full[1] - full[0] == pytest.approx(4 * 64 * (32_768 - 4096), rel=0.01) and max(bounded) <= 2 * 2**20 < full[1]


def test_seconds_are_medians_by_name():
    class Side:
        def __init__(self):
            self.runs = 0

        def run(self):
            self.runs += 1

    sides = {"a": Side(), "b": Side()}
    assert set(seconds_of(sides, 3)) == {"a", "b"} and sides["a"].runs == sides["b"].runs == 3


def test_table_shows_nanoseconds_a_step_and_mebibytes():
    cost = Cost((1000, 2000), {"full": [1e-3, 4e-3]}, {"full": [2**20, 2**21]})
    assert cost.markdown().splitlines()[2:] == ["| full: time per step | 1000 ns | 2000 ns |",
                                                "| full: peak memory | 1.00 MiB | 2.00 MiB |"]
    small = measure_cost((40, 70), 1)
    assert set(small.seconds) == set(FORMS) and all(len(found) == 2 and min(found) > 0 for found in small.seconds.values())


def test_picture_draws_every_form(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    spec = importlib.util.spec_from_file_location("cost_pictures", ROOT / "docs" / "cost_pictures.py")
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    assert set(pictures.COLOURS) == set(FORMS)
    pictures.draw(Cost((1024, 2048), {form: [1e-3, 2e-3] for form in FORMS}, {form: [2**20, 2**21] for form in FORMS}),
                  tmp_path / "cost.png")
    assert (tmp_path / "cost.png").stat().st_size > 10_000
