"""A text that comes with every Python, for trying things out."""
from __future__ import annotations


def documentation() -> str:
    """The documentation topics that come with CPython, joined in the order of their keys: 465,000 characters.

    Raises
    ------
    ValueError
        If this Python was installed without them.
    """
    try:
        from pydoc_data import topics
    except ModuleNotFoundError:
        raise ValueError("text: expected the module pydoc_data, which this Python lacks; pass a text file") from None
    return "".join(topics.topics[key] for key in sorted(topics.topics))
