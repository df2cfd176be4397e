"""Docstrings of this package as reStructuredText: equations, absolute values, and names in single backquotes."""
from __future__ import annotations

import re


def sections_begin(lines: list[str]) -> int:
    """Where the first section of a NumPy-style docstring begins: its title has a line of dashes below it."""
    return next((i for i in range(len(lines) - 1) if lines[i].strip() and set(lines[i + 1].strip()) == {"-"}), len(lines))


def as_rst(lines: list[str]) -> list[str]:
    """The lines with a mark before every indented block above the first section: an equation is shown as it stands."""
    end = sections_begin(lines)
    made: list[str] = []
    for i, line in enumerate(lines):
        indented = line.startswith("    ")
        if i < end and indented and i > 0 and not lines[i - 1].strip():
            before = next((other for other in reversed(made) if other.strip()), "")
            if not before.startswith("    ") and not before.endswith("::"):
                made += ["::", ""]
        is_code = line.lstrip().startswith((">>>", "...")) or "``" in line or (i < end and indented)
        made.append(line if is_code else as_text(line))
    return made


def as_text(line: str) -> str:
    """A line of text: its bars are no substitutions, `names` may touch other characters, and "T." begins no list."""
    line = re.sub(r"(?<!\\)\|", r"\\|", line)
    line = re.sub(r"([^\s(\[{'\"-]?)(`[^`]+`)", lambda pair: r"\ ".join(filter(None, pair.groups())), line)
    return re.sub(r"^(\w)\.$", r"\\\1.", line)
