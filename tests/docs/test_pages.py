"""The code of the README and of the pages runs, and prints what they say."""
from __future__ import annotations

import contextlib
import io
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import fastbptt as fb

ROOT = Path(__file__).resolve().parents[2]
DOCS, README = ROOT / "docs", ROOT / "README.md"
PAIR = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
FIGURES = 0.02      # of a printed number: its last digit differs from one kind of processor to another
EXTRAS = pytest.mark.skipif(not all(map(find_spec, ("sklearn", "safetensors"))), reason="needs scikit-learn and safetensors")


def same(said: str, promised: str) -> bool:
    """The same words, and the same numbers to FIGURES."""
    if NUMBER.sub("#", said) != NUMBER.sub("#", promised):
        return False
    pairs = zip(map(float, NUMBER.findall(said)), map(float, NUMBER.findall(promised)), strict=True)
    return all(a == pytest.approx(b, rel=FIGURES) for a, b in pairs)


TASK = re.compile(r"^\| `(\w+)` \| .* \| ([\d.]+) \| ([\d.]*) ?\|$", re.MULTILINE)


def test_the_table_of_tasks_says_what_their_docstrings_say():
    rows = TASK.findall((DOCS / "estimators-and-tasks.md").read_text(encoding="utf-8"))
    assert sorted(name for name, _, _ in rows) == sorted(set(fb.tasks.__all__) - {"TaskBatch"})
    for name, loss, accuracy in rows:
        text = " ".join(getattr(fb.tasks, name).__doc__.split())
        assert f"Chance level: a loss of {loss}" in text and f"an accuracy of {accuracy}" * bool(accuracy) in text


@pytest.mark.parametrize("said, promised, equal", [
    ("h = 1.00e-03 x", "h = 1.01e-03 x", True), ("h = 1.00e-03 x", "h = 1.04e-03 x", False), ("h = 1", "h = -1", False),
    ("a 1", "b 1", False), ("a 1\n", "a 1\na 1\n", False)])
def test_comparison_of_figures(said, promised, equal):
    assert same(said, promised) is equal


@pytest.mark.parametrize("page, least", [
    ("../README.md", 1), ("vanishing-gradient.md", 10), ("truncation-bias.md", 1), ("long-sequences.md", 1),
    ("when-something-goes-wrong.md", 1), ("busy-machines.md", 1), ("beyond-reverse-mode.md", 1), ("many-machines.md", 2),
    ("tutorial/first-gradient.md", 6), ("tutorial/truncation.md", 3), ("tutorial/gradient-flow.md", 4),
    ("tutorial/training.md", 5), pytest.param("estimators-and-tasks.md", 5, marks=EXTRAS)])
def test_a_page_says_what_its_code_prints(page, least):
    blocks = PAIR.findall((DOCS / page).read_text(encoding="utf-8"))
    assert len(blocks) >= least
    names = {"__name__": "page"}
    for code, promised in blocks:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, page, "exec"), names)
        assert same(out.getvalue(), promised), f"the page says\n{promised}its code prints\n{out.getvalue()}"


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))], ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_readme_names_every_public_name():
    named = set(re.findall(r"`(\w+)`", README.read_text(encoding="utf-8")))
    assert set(fb.__all__) <= named, set(fb.__all__) - named


def test_readme_is_short_and_has_one_test_command():
    text = README.read_text(encoding="utf-8")
    assert len(text.split()) <= 1400
    assert text.count('pip install ".[test]"') == 1      # .ci/run takes the command from this line
