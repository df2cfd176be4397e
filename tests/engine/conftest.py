"""Runs of the core in processes of their own, which compile anew: begun when tests begin, for their end is a minute away."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fastbptt.engine import simd

CORE = Path(__file__).resolve().parents[1] / "bptt" / "test_core.py"
# The width that is missing, the widest that the CPU has, is that of all other tests.
SETTINGS = (("NUMBA_BOUNDSCHECK", "1"), *[("FASTBPTT_SIMD_BITS", str(bits)) for bits in (128, 256) if bits < simd.BITS])
FIXTURE = "core_runs"


class Runs:
    """The processes, by the setting in which they differ."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp())
        self.processes = {}
        for name, value in SETTINGS:
            env = {**os.environ, "NUMBA_CACHE_DIR": str(self.folder / f"{name}-{value}"), name: value}
            env.pop("PYTEST_XDIST_WORKER", None)
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CORE)]
            self.processes[name, value] = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                                           text=True)

    def close(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def pytest_collection_finish(session):
    wanted = any(FIXTURE in getattr(item, "fixturenames", ()) for item in session.items)
    alone = not hasattr(session.config, "workerinput")      # of several workers only one has the test
    if wanted and alone and not session.config.option.collectonly:
        session.config.core_runs = Runs()


def pytest_sessionfinish(session):
    if (runs := getattr(session.config, "core_runs", None)) is not None:
        runs.close()


@pytest.fixture
def core_runs(request):
    if getattr(request.config, "core_runs", None) is None:
        request.config.core_runs = Runs()
    return request.config.core_runs.processes
