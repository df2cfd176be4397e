"""The commands as a user types them."""
from __future__ import annotations

import json
import subprocess
import sys

import pytest

import fastbptt as fb
from fastbptt.commands.compile import FORMS


def run(*arguments):
    command = [sys.executable, "-W", "error", "-m", "fastbptt", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("arguments", [(), ("fly",), ("bench", "--threads", "two"), ("bench", "--cells", "cnn"),
                                       ("bench", "--out", "x.txt"), ("bench", "--threads", "0"), ("gradcheck", "--seed", "-1"),
                                       ("compile", "--cells", "CNN"), ("compile", "--dtype", "float16")])
def test_bad_arguments_are_one_line_and_status_2(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_info():
    done = run("info")
    assert done.returncode == 0 and "vector width" in done.stdout and "cache" in done.stdout


def test_gradcheck():
    done = run("gradcheck")
    assert done.returncode == 0 and done.stdout.count("relative difference") == 11


def test_compile_takes_the_cells_and_dtypes_that_it_is_given():
    done = run("compile", "--cells", "GRU", "--dtype", "float64")
    assert done.returncode == 0, done.stderr
    expected = [f"GRU reset {form} float64 {kind}" for kind in ("vectors", "ids") for form in ("after", "before")]
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == expected


def test_compile_knows_every_form_of_every_cell():
    made = {fb.cells.CELLS[cell](1, 1, **options).params_type for cell, forms in FORMS.items() for options in forms.values()}
    assert made == {fb.RNNParams, fb.GRUParams, fb.GRUBeforeParams, fb.LSTMParams, fb.LSTMPeepholeParams}
    assert set(FORMS) == set(fb.cells.CELLS)


def test_bench_writes_what_it_measured(tmp_path):
    done = run("bench", "--peers", "numpy", "--classes", "S", "--seconds", "0.1", "--out", tmp_path / "b.json")
    assert done.returncode == 0, done.stderr
    assert all(f"{cell}-float32-S" in done.stdout for cell in ("rnn", "gru", "lstm"))
    assert json.loads((tmp_path / "b.json").read_text())
