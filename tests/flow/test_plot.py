"""What the pictures show, and the page."""
from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

import fastbptt as fb

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure  # noqa: E402

from fastbptt.flow import plot  # noqa: E402
from fastbptt.flow.page import html_page  # noqa: E402


def a_report(w=0.5, T=12):
    cell, params = fb.RNN(1, 1, "identity"), fb.RNNParams(np.ones((1, 1)), np.full((1, 1), w), np.zeros(1))
    tape = fb.forward(cell, params, np.ones((T, 1, 1)))
    dh = np.zeros_like(tape.h)
    dh[-1] = 1
    return fb.gradient_flow(cell, params, tape, dh)


def test_by_lag_draws_the_norms_and_the_bound():
    report = a_report()
    axes = plot.by_lag(report, Figure().subplots())
    lines = axes.get_lines()
    np.testing.assert_allclose(lines[0].get_ydata(), 0.5 ** np.arange(12))
    assert axes.get_yscale() == "log" and "0.5 per step" in lines[-1].get_label()


def test_reach_draws_powers_and_vanished_products():
    axes = plot.reach(a_report(0.1), Figure().subplots())
    values = np.asarray(axes.collections[0].get_array())
    assert values[0, 6] == pytest.approx(-6) and np.ma.is_masked(axes.collections[0].get_array()[6, 0])
    assert np.asarray(plot.reach(a_report(0.0), Figure().subplots()).collections[0].get_array())[0, 3] == -1


def test_steps_draws_a_line_for_each_moment():
    axes = plot.steps({"before": np.array([1.0, 2.0]), "after": np.array([0.0, 3.0])}, Figure().subplots())
    assert [line.get_label() for line in axes.get_lines()] == ["before", "after"]
    assert np.isnan(axes.get_lines()[1].get_ydata()[0])


def test_steps_shows_at_least_a_decade():
    low, high = plot.steps({"": np.array([1.0, 1.1, 0.9])}, Figure().subplots()).get_ylim()
    assert low < 0.2 and high >= 1.1
    low, high = plot.steps({"": np.array([1.0, 1e-6])}, Figure().subplots()).get_ylim()
    assert 1e-8 < low < 1e-6 and high < 10


def test_exponents_counts_those_at_minus_infinity():
    axes = plot.exponents(np.array([[0.1, -0.2, -np.inf]]), Figure().subplots())
    assert "1 more at −∞" in axes.get_title(loc="left")
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), [0.1, -0.2])


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_whole_and_fetches_nothing():
    report = a_report()
    report.cell = "<b>RNN</b>"
    text = html_page(report, np.zeros((1, 1)))
    page = Tags()
    page.feed(text)
    assert not page.open and "&lt;b&gt;RNN" in text and report.verdict in text
    assert all(tag not in ("script", "link") for tag, _ in page.seen) and "http" not in text
    images = [attrs for tag, attrs in page.seen if tag == "img"]
    assert len(images) == 4 and all(a["src"].startswith("data:image/png;base64,iVBOR") and a["alt"] for a in images)
    for remedy, why in report.remedies:
        assert why.split("'")[0] in text and remedy.split('"')[0] in text
