"""What the tests of processes share."""

import os
import time
from pathlib import Path

import pytest


def is_alive(pid):
    """Whether a process of this id works: one that has ended and that nobody has asked about does not."""
    try:
        os.kill(pid, 0)
        return not Path("/proc/self").exists() or Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.fixture
def alive():
    return is_alive


@pytest.fixture
def wait_for_end():
    """The ids that are still alive after a while."""
    def wait(pids, seconds=10.0):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end and any(map(is_alive, pids)):
            time.sleep(0.02)
        return [pid for pid in pids if is_alive(pid)]
    return wait
