"""What is said where the package is installed and there is no GPU that it can use."""
from __future__ import annotations

import pytest

import fastbptt as fb
from fastbptt.cuda import target


def test_no_driver(monkeypatch):
    monkeypatch.setattr(target.cuda, "is_available", lambda: False)
    assert not fb.cuda.is_available()
    with pytest.raises(RuntimeError, match="^fastbptt.cuda: expected a GPU with its driver, found none; install .* pass NumPy"):
        fb.cuda.to_device(fb.RNN(2, 3).init())


def test_a_gpu_that_is_too_old(monkeypatch):
    class Old:
        compute_capability = (7, 0)

    monkeypatch.setattr(target.cuda, "is_available", lambda: True)
    monkeypatch.setattr(target.cuda, "get_current_device", Old)
    assert not fb.cuda.is_available()
    with pytest.raises(RuntimeError, match="expected a GPU of compute capability 8.0 or newer, found 7.0; choose a newer one"):
        fb.cuda.to_device(fb.RNN(2, 3).init())
