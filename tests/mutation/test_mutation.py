"""Mutants: what they change; and the whole run, under the mark `evidence`."""
from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
import plan  # noqa: E402
import run  # noqa: E402
from mutants import mutants_of  # noqa: E402


@pytest.mark.parametrize(("source", "wanted"), [
    ("a < b", {"(a <= b)"}), ("a is None", {"(a is not None)"}), ("a + b", {"(a - b)"}), ("a // b", {"(a * b)"}),
    ("a and b", {"(a or b)"}), ("not a", {"(a)"}), ("-a", {"(a)"}), ("3", {"4", "2"}), ("True", {"False"}), ("0.0", {"1.0"}),
    ("0.5", {"1.0"}), ("a if b else c", {"(a if not b else c)"}), ("f()", {"pass"}), ("a += b", {"a -= b", "pass"}),
    ("a = b", set()), ('"a text"', set()), ("raise ValueError(3)", set()), ("f'{a + b}'", set()), ("import a", set())])
def test_changes(source, wanted):
    assert {m.applied(source) for m in mutants_of("x", source)} == wanted


def test_annotations_and_decorators_stay():
    source = '@cache(maxsize=1)\ndef f(a: Literal[1] = 2) -> Literal[3]:\n    """4"""\n    return a  # 5\n'
    assert [m.before for m in mutants_of("x", source)] == ["2", "2"]


@pytest.mark.parametrize("room", run.ROOMS)
def test_mutants_differ_and_can_be_read(room):
    for path in run.files_of(room):
        source = (run.PACKAGE / path).read_text(encoding="utf-8")
        for mutant in mutants_of(path, source)[::25]:
            changed = mutant.applied(source)
            assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))
        assert plan.stages_of(path)


def test_a_draw_takes_from_every_file_and_repeats():
    drawn = run.draw("python", 40, 3)
    assert drawn == run.draw("python", 40, 3) != run.draw("python", 40, 4)
    assert {m.path for m in drawn} == set(run.files_of("python")) and len(drawn) == 40


@pytest.mark.evidence
def test_explanations_are_of_lines_that_exist():
    for path, before, after in plan.SURVIVORS:
        source = (run.PACKAGE / path).read_text(encoding="utf-8")
        assert (before, after) in {m.lines(source) for m in mutants_of(path, source)}


@pytest.mark.evidence
def test_every_mutant_is_killed_or_explained():
    assert run.main([]) == 0
