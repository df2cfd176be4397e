"""Influence balancing: the bias on paper is the bias measured, and its sign decides what becomes of a learner."""
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import fastbptt as fb

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("influence_balancing", ROOT / "examples" / "influence_balancing.py")
balancing = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = balancing          # where its dataclass looks up its own annotations
SPEC.loader.exec_module(balancing)

FORMS = {"window": (fb.Truncation, 41), "chunks": (fb.Truncation.chunks, 110),
         "mixture": (lambda h: fb.Truncation(max(h, 100), 100), 107)}


def test_every_lag_is_its_binomial_sum():
    on_paper = balancing.influence()
    np.testing.assert_allclose(balancing.measured_influence(), on_paper, rtol=0, atol=1e-15)
    assert (on_paper[:10] == 1).all() and on_paper[19] == 0 and (on_paper[20:80] < 0).all()
    assert on_paper.sum() == pytest.approx(-6, abs=1e-12) == balancing.measured(balancing.PAST, 1)


@pytest.mark.parametrize("name", FORMS)
def test_the_sign_changes_at_the_horizon_found_on_paper(name):
    form, least = FORMS[name]
    assert balancing.threshold(form) == least == balancing.threshold(form, balancing.measured)


@pytest.mark.parametrize(("horizon", "stride"), [(1, 1), (19, 1), (50, 3), (30, 30), (107, 100), (200, 7)])
def test_a_truncation_sees_the_mean_over_the_steps_between_two_ends(horizon, stride):
    assert balancing.measured(horizon, stride) == pytest.approx(balancing.reached(horizon, stride), abs=1e-13)


@pytest.mark.parametrize(("truncation", "converges"), [
    (None, True), (fb.Truncation(30), False), (fb.Truncation(50), True), (fb.Truncation.chunks(60), False),
    (fb.Truncation.chunks(150), True), (fb.Truncation(160, 100), True)], ids=str)
def test_the_sign_decides(truncation, converges):
    course = balancing.learn("", truncation, steps=1500 if truncation is None or truncation.stride == 1 else 9000)
    assert course.converges == converges
    assert course.last < 0.4 if converges else course.last > 4


def test_a_short_window_within_the_chain_is_worse_than_none():
    assert balancing.reached(19, 1) > 16 * balancing.reached(1, 1)


def test_the_page_shows_what_the_sign_says():
    page = (ROOT / "docs" / "truncation-bias.md").read_text(encoding="utf-8")
    table = page.split("<!-- table: horizons -->")[1].split("<!-- end of table: horizons -->")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.strip().splitlines()[2:]]
    names = ["full", *(f"window {h}" for h in balancing.WINDOWS), *(f"chunks {k}" for k in balancing.CHUNKS),
             *(f"mixture {h}; {s}" for h, s in balancing.MIXTURES)]
    assert [row[0] for row in rows] == names
    for _, on_paper, measured, last, verdict in rows:
        assert on_paper == measured and (float(on_paper) < 0) == (float(last) < 1) == (verdict == "converges")
    for name, (_, least) in FORMS.items():
        assert any(line.startswith(f"| {name}") and line.endswith(f"| {least} |") for line in page.splitlines())
    assert (ROOT / "docs" / "truncation-bias.png").stat().st_size > 10_000


def test_the_command_writes_table_and_picture(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    (tmp_path / "tables.py").write_bytes((ROOT / "docs" / "tables.py").read_bytes())
    page = tmp_path / "truncation-bias.md"
    page.write_text("before\n<!-- table: horizons -->\n<!-- end of table: horizons -->\nafter\n")
    monkeypatch.setattr(balancing, "DOCS", tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    balancing.main(["--steps", "600"])
    shown = capsys.readouterr().out
    assert "windows: the right sign from horizon 41 on paper, 41 measured" in shown and "| window 19 |" in shown
    assert "window 19" not in page.read_text()
    balancing.main(["--steps", "300", "--write"])
    shorter = capsys.readouterr().out
    assert shorter != shown and shorter.splitlines()[-1] in page.read_text() and page.read_text().endswith("after\n")
    assert (tmp_path / "truncation-bias.png").stat().st_size > 10_000


@pytest.mark.evidence
def test_the_sign_decides_for_every_horizon_of_the_page():
    for course in balancing.courses():
        cut = course.truncation
        assert course.converges == (cut is None or balancing.reached(cut.horizon, cut.stride) < 0), course.name
