"""How each side may be run: on one thread or on all cores, and JAX with vectors of 256 or 512 bits; a process for each."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..engine import simd
from .host import Runner
from .peers import OURS
from .side import package_of
from .worker import Worker

WIDE = "--xla_cpu_prefer_vector_width=512"


@dataclass(frozen=True)
class Variant:
    """A side, the number of its threads (None: its default, all cores), and what is added to its environment."""

    side: str
    threads: int | None
    environment: dict[str, str] = field(default_factory=dict)
    words: str = ""

    def label(self, setting: str = "") -> str:
        """The variant in words."""
        threads = self.threads or os.cpu_count() or 1
        return ", ".join(filter(None, (f"{threads} thread{'s' if threads > 1 else ''}", self.words, setting)))

    def start(self) -> Worker:
        """Its process."""
        return Worker(self.side, self.threads, self.environment)


def variants_of(side: str, threads: Iterable[int | None]) -> list[Variant]:
    """All variants of a side.

    Examples
    --------
    >>> [variant.label() for variant in variants_of("torch", [1])]
    ['1 thread']
    """
    found = []
    for number in threads:
        found.append(Variant(side, number))
        if package_of(side) == "jax" and simd.FEATURES.get("avx512f"):
            flags = f"{os.environ.get('XLA_FLAGS', '')} {WIDE}".strip()
            found.append(Variant(side, number, {"XLA_FLAGS": flags}, "512-bit vectors"))
    return found


def thread_choices(threads: int | None) -> tuple[int | None, ...]:
    """The numbers of threads that a side is tried with: the one that is given, else one and all cores."""
    if threads is not None:
        return (threads,)
    return (1, None) if (os.cpu_count() or 1) > 1 else (None,)


@dataclass(frozen=True)
class Entry:
    """A variant and its process."""

    variant: Variant
    runner: Runner


def start_all(peers: Iterable[str], threads: int | None, closing: contextlib.ExitStack) -> tuple[list[Entry], dict[str, str]]:
    """Every variant of ours and of the peers, each in a process that ``closing`` ends; and why some are missing."""
    entries, missing = [], {}
    for side in (OURS, *peers):
        for variant in variants_of(side, thread_choices(threads)):
            try:
                worker = variant.start()
            except ImportError as error:
                if side == OURS:
                    raise
                missing[side] = str(error)
                break
            closing.callback(worker.close)
            entries.append(Entry(variant, worker))
    return entries, missing
