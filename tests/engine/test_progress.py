"""The line that is shown while kernels are compiled: on a terminal, after a while, and gone when it is over."""
from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fastbptt.engine.progress import TEXT

pty = pytest.importorskip("pty", reason="no terminals of its own on Windows")
CODE = """
from fastbptt.engine import progress
progress.WAIT = 0.02
import numpy as np
from fastbptt.engine.products import times
assert times(np.eye(3), np.eye(3)).sum() == 3
"""
pytestmark = pytest.mark.slow


def on_terminal(folder, plain="0", code=CODE):
    """What a terminal is sent on stderr."""
    terminal, end = pty.openpty()
    env = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "FASTBPTT_PLAIN": plain}
    with subprocess.Popen([sys.executable, "-c", code], env=env, stderr=end) as process:
        os.close(end)
        said = b""
        try:
            while part := os.read(terminal, 1000):
                said += part
        except OSError:      # Linux says so when the other end is closed
            pass
        assert process.wait(timeout=300) == 0, said
    os.close(terminal)
    return said.decode()


@pytest.mark.parametrize("plain", ["0", "1"])
def test_a_line_that_goes(tmp_path, plain):
    said = on_terminal(tmp_path, plain)
    first = TEXT.format(seconds=1)
    assert f"\r{first}" in said and f"\r{TEXT.format(seconds=2)}" in said
    *_, blank, rest = said.split("\r")
    assert rest == "" and blank.isspace() and "\n" not in said
    assert len(first) <= len(blank) < 80      # one line of a narrow terminal, wholly covered
    assert on_terminal(tmp_path, plain, CODE.replace("0.02", "1.0")) == ""      # nothing is compiled


def test_a_second_of_silence(tmp_path):
    """What compiles sooner is not worth a word."""
    assert on_terminal(tmp_path, code=CODE.replace("0.02", "100")).count("compiling") <= 1      # that of the self-check, if slow


def test_a_pipe_gets_nothing(tmp_path):
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", CODE], env=env, capture_output=True, timeout=300)
    assert done.returncode == 0 and done.stderr == b""


@pytest.mark.parametrize("stream", ["None", "open(os.devnull)", "closed"])
def test_no_stderr_is_no_error(tmp_path, stream):
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    code = f"import os, sys; closed = open(os.devnull); closed.close(); sys.stderr = {stream}\n" + CODE
    assert subprocess.run([sys.executable, "-c", code], env=env, timeout=300).returncode == 0


def test_a_terminal_that_is_gone_is_no_error(tmp_path):
    """The kernel is compiled all the same."""
    gone = """
import sys
class Gone:
    isatty = lambda self: True
    def write(self, text):
        raise OSError(5, "Input/output error")
sys.stderr = Gone()
""" + CODE + "sys.stderr = sys.__stderr__      # which the interpreter flushes in the end"
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", gone], env=env, timeout=300).returncode == 0
