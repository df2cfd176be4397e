"""Memory that a call frees serves the next call, instead of going back to the system.

The sums of a backward call over a large cell are tens of megabytes. glibc returns free memory at the top of its heap beyond a
threshold to the system, and takes it anew for the next call, page by page: 4 µs a page on a virtual machine, a third of the time
of such a call (LSTM, T = 20, B = 16, H = 640). The threshold adapts: it is twice the size of the largest block, up to 32 MiB,
that was ever freed (mallopt(3), M_MMAP_THRESHOLD). So a block of that size is allocated and freed once; nothing is written to it.
A process may then hold 64 MiB of free memory, as any that has freed a large array. Thresholds that the user has set stay.
"""
from __future__ import annotations

import sys

import numpy as np

LARGEST = 2**25 - 2**16      # bytes: with malloc's own, just below the 32 MiB from which on the threshold does not adapt

if sys.platform == "linux":
    np.empty(LARGEST, np.uint8)
