"""Files."""
from __future__ import annotations


class FileError(ValueError):
    """A file that is not what it should be."""
