"""Every barrier of the scans is needed: without it, some result in the simulator is wrong. Run with NUMBA_ENABLE_CUDASIM=1."""
from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import cuda_simulator
import numpy as np
import pytest
from cuda_calls import Call

from fastbptt.cuda import scan, scans

SOURCE = Path(scan.__file__).read_text()
BARRIERS = [m.start() for m in re.finditer(r"cuda\.syncthreads\(\)", SOURCE)]


def without(place):
    """The module of the scans without one of its barriers."""
    text = SOURCE[:place] + "pass" + SOURCE[place + len("cuda.syncthreads()"):]
    module = ModuleType("fastbptt.cuda.scan_without")
    module.__package__ = "fastbptt.cuda"
    exec(compile(text, "scan_without.py", "exec"), module.__dict__)
    return module


def wrong_somewhere(monkeypatch):
    """Whether a call goes wrong, in one of the orders of warps and threads."""
    for name in ("leak", "gru_before"):
        call = Call(name, "float64", 4, 1, 2, 17)
        call.resets = np.array([[False], [False], [True], [False]])
        for step in (1, -1):
            monkeypatch.setitem(cuda_simulator.ORDER, "step", step)
            try:
                call.same(call.on_device(), call.by_oracle())
            except AssertionError:
                return True
    return False


@pytest.mark.parametrize("number", range(len(BARRIERS)))
def test_a_missing_barrier_is_noticed(number, monkeypatch):
    monkeypatch.setattr(scans, "scans", without(BARRIERS[number]).scans)
    assert wrong_somewhere(monkeypatch)


def test_with_all_of_them_nothing_is_wrong(monkeypatch):
    assert len(BARRIERS) == 6
    assert not wrong_somewhere(monkeypatch)
