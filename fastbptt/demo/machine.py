"""The machine that times were measured on."""
from __future__ import annotations

import os

import numba
import numpy as np

from ..engine.threads import get_num_threads


def machine() -> str:
    """Cores, threads and versions in a few words."""
    threads = get_num_threads()
    return (f"{os.cpu_count()} cores, {threads} thread{'s' if threads > 1 else ''}, "
            f"numba {numba.__version__}, numpy {np.__version__}")
