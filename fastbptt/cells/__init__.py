"""One file per cell, and the scan that runs them all."""
from .scan import scan_backward, scan_forward

__all__ = ["scan_backward", "scan_forward"]
