"""The public names: all of them listed before they are loaded, and what their modules say they are."""
from __future__ import annotations

import subprocess
import sys

import pytest

import fastbptt as fb


def test_all_are_listed_before_any_is_asked_for():
    code = """
import rlcompleter, sys
import fastbptt as fb
missing = set(fb.__all__) - set(dir(fb))
assert not missing, missing
assert "fastbptt.flow.lyapunov" not in sys.modules, "listing names must load nothing"
complete = rlcompleter.Completer({"fb": fb}).complete
assert complete("fb.lyap", 0).startswith("fb.lyapunov_spectrum")
assert "__version__" in dir(fb) and "__file__" in dir(fb)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", fb.__all__)
def test_every_listed_name_is_there(name):
    assert getattr(fb, name) is not None


@pytest.mark.parametrize("name", ["keras", "onnx", "safetensors", "torch"])
def test_those_of_interop(name):
    assert name in dir(fb.interop)
