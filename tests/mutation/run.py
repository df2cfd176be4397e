"""Mutation test of cells, bptt and flow: small faults, one at a time, in a copy of the tree; do the tests notice?

    python tests/mutation/run.py --json verdicts.json              # all rooms; about an hour on two cores
    python tests/mutation/run.py --json verdicts.json --again      # those not killed once more, after new tests
    python tests/mutation/run.py --json verdicts.json --write      # docs/mutation.md from the verdicts
    python tests/mutation/run.py --room cells --count 40 --seed 1

A mutant is one changed operator, comparison, condition or constant, or one statement left out (`mutants.py`). As many are drawn
from every file, with a fixed seed. Each runs the tests that `plan.py` names for its file, in a process forked from one that has
imported what takes long; it is killed by the first test that fails, or by using up its seconds. Mutants of code that Numba
compiles have a folder of kernels of their own. Survivors that change nothing a caller can see are explained in `plan.py`.
"""
from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mutants import Mutant, mutants_of
from plan import SURVIVORS, stages_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "fastbptt"
ROOMS = {"python": ("bptt", "flow"), "cells": ("cells", "bptt/kernels.py")}      # the second: what Numba compiles
PICTURES = ("flow/plot.py", "flow/page.py")      # colours and sizes: what they show is looked at
COUNTS = {"python": 120, "cells": 40}
SECONDS = {"python": 60, "cells": 120}      # of CPU: three to five times what the tests take
MEMORY = 16 * 2**30


def files_of(room: str) -> list[str]:
    """The files of a room, as paths in the package."""
    compiled = ROOMS["cells"]
    paths = sorted(p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")
    mine = [p for p in paths if p.startswith(ROOMS[room]) and p not in PICTURES]
    return [p for p in mine if room == "cells" or not p.startswith(compiled)]


def draw(room: str, count: int, seed: int) -> list[Mutant]:
    """`count` mutants of a room, one of every file in turn."""
    piles = []
    for path in files_of(room):
        pile = mutants_of(path, (PACKAGE / path).read_text(encoding="utf-8"))
        random.Random(f"{seed} {path}").shuffle(pile)
        piles.append(pile)
    drawn = []
    while len(drawn) < count and any(piles):
        drawn += [pile.pop() for pile in piles if pile]
    return drawn[:count]


class Runner:
    """A copy of the tree, in which one mutant after the other is tried."""

    def __init__(self, room: str, kernels: Path | None = None):
        self.room, self.folder = room, Path(tempfile.mkdtemp(prefix="mutation-"))
        self.tree, self.log = self.folder / "tree", self.folder / "log"
        self.kernels = kernels or self.folder / "kernels"
        left_out = shutil.ignore_patterns("__pycache__", ".*", "dist", "build")
        shutil.copytree(ROOT, self.tree, ignore=left_out)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def passes(self, stage: list[str], kernels: Path, seconds: int) -> bool:
        """Whether the tests of a stage pass within so many seconds of CPU, in a process of their own."""
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(self._child(stage, kernels, seconds))
            except BaseException:
                traceback.print_exc()
                os._exit(70)
        status = os.waitpid(pid, 0)[1]
        return status == 0

    def _child(self, stage: list[str], kernels: Path, seconds: int) -> int:
        import numba
        import pytest

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        log = os.open(self.log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(self.tree)
        sys.path.insert(0, str(self.tree))
        sys.dont_write_bytecode = True      # a changed file of the same second and size would not be seen
        os.environ["NUMBA_CACHE_DIR"] = numba.config.CACHE_DIR = str(kernels)
        return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", *stage]))

    def survives(self, mutant: Mutant) -> bool:
        """Whether all tests of its file pass with the mutant."""
        path = self.tree / "fastbptt" / mutant.path
        source = path.read_text(encoding="utf-8")
        kernels = self.kernels if self.room == "python" else self.folder / "own"
        path.write_text(mutant.applied(source), encoding="utf-8")
        try:
            return all(self.passes(stage, kernels, SECONDS[self.room]) for stage in stages_of(mutant.path))
        finally:
            path.write_text(source, encoding="utf-8")
            shutil.rmtree(self.folder / "own", ignore_errors=True)

    def check_tests(self, mutants: list[Mutant]) -> None:
        """Without a mutant, all tests pass."""
        for stage in {tuple(stage): stage for m in mutants for stage in stages_of(m.path)}.values():
            if not self.passes(stage, self.kernels, 3600):
                raise SystemExit(f"{' '.join(stage)} fails without a mutant:\n{self.log.read_text()[-3000:]}")


def run(room: str, mutants: list[Mutant], kernels: Path | None, checked: bool) -> Iterator[dict[str, Any]]:
    """Mutants of a room, one after the other: killed, explained or survived."""
    import numba.core.typed_passes  # noqa: F401 - imported before the fork, once
    import numpy.testing  # noqa: F401
    import pytest  # noqa: F401

    runner = Runner(room, kernels)
    try:
        if not checked:
            runner.check_tests(mutants)
        for i, mutant in enumerate(mutants, 1):
            begun, verdict = time.perf_counter(), described(mutant)
            if not runner.survives(mutant):
                verdict["verdict"], verdict["why"] = "killed", ""
            print(f"{i}/{len(mutants)} {verdict['verdict']:9} {time.perf_counter() - begun:4.0f} s  {mutant.path}:{mutant.line}: "
                  f"{verdict['before']}  →  {verdict['after']}", flush=True)
            yield verdict
    finally:
        runner.close()


def described(mutant: Mutant) -> dict[str, Any]:
    """What is written down of a mutant that no test notices."""
    before, after = mutant.lines((PACKAGE / mutant.path).read_text(encoding="utf-8"))
    why = SURVIVORS.get((mutant.path, before, after), "")
    return {"path": mutant.path, "line": mutant.line, "start": mutant.start, "before": before, "after": after,
            "verdict": "explained" if why else "survived", "why": why}


def table(found: list[dict[str, Any]]) -> str:
    """The score by file, as Markdown."""
    rows = ["| file | mutants | killed | explained | survived |", "|---|---:|---:|---:|---:|"]
    for path in [*sorted({f["path"] for f in found}), ""]:
        mine = [f["verdict"] for f in found if path in ("", f["path"])]
        counts = [mine.count(verdict) for verdict in ("killed", "explained", "survived")]
        rows.append(f"| {f'`{path}`' if path else 'all'} | {len(mine)} | {' | '.join(map(str, counts))} |")
    return "\n".join(rows)


def page(found: list[dict[str, Any]]) -> str:
    """docs/mutation.md."""
    killed = sum(f["verdict"] == "killed" for f in found)
    explained, survived = (sum(f["verdict"] == verdict for f in found) for verdict in ("explained", "survived"))
    parts = [f"""# Mutation test

Do the tests notice small faults? `tests/mutation/run.py` puts one at a time into a copy of the package: an operator, a comparison
or a condition turned round, a constant one larger or smaller, a statement left out. As many are drawn from every file of `cells`,
`bptt` and `flow`, with a fixed seed; none from the two files of `flow` that draw pictures. A mutant is killed when a test fails.

**{killed} of {len(found)} mutants are killed.** {explained} are explained below: no test can tell them apart, or need not.
{survived} have no explanation.

```sh
python tests/mutation/run.py --json verdicts.json              # about an hour on two cores
python tests/mutation/run.py --json verdicts.json --write      # writes this page
```

`pytest -m evidence tests/mutation` does the same, and fails if a mutant survives without an explanation.

{table(found)}"""]
    for verdict, title in (("explained", "Explained"), ("survived", "Without an explanation")):
        if mine := [f for f in found if f["verdict"] == verdict]:
            parts.append(f"## {title}")
            mine.sort(key=lambda f: (f["path"], f["line"]))
            parts.append("\n".join(f"- `{f['path']}`: `{f['before']}` became `{f['after']}`. {f['why']}".rstrip() for f in mine))
    return "\n\n".join(parts) + "\n"


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--room", choices=ROOMS, action="append", help="default: all")
    parser.add_argument("--count", type=int, help="mutants of each room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file of all verdicts")
    parser.add_argument("--kernels", type=Path, help="folder of kernels of this version, compiled before")
    parser.add_argument("--again", action="store_true", help="only those that are not killed according to that file")
    parser.add_argument("--checked", action="store_true", help="do not first run the tests without a mutant")
    parser.add_argument("--write", action="store_true", help="write docs/mutation.md from that file; run nothing")
    arguments = parser.parse_args(given)
    earlier = {(f["path"], f["start"], f["after"]): f for f in
               (json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.again or arguments.write else [])}
    if arguments.write:
        (ROOT / "docs" / "mutation.md").write_text(page(list(earlier.values())), encoding="utf-8")
        return 0

    def key(f: dict[str, Any]) -> tuple[Any, ...]:
        return f["path"], f["start"], f["after"]

    def alive(mutant: Mutant) -> bool:
        return not arguments.again or earlier.get(key(described(mutant)), {}).get("verdict") != "killed"

    for room in arguments.room or ROOMS:
        mutants = [m for m in draw(room, arguments.count or COUNTS[room], arguments.seed) if alive(m)]
        for verdict in run(room, mutants, arguments.kernels, arguments.checked):
            earlier[key(verdict)] = verdict
            if arguments.json:
                arguments.json.write_text(json.dumps(list(earlier.values()), indent=1, ensure_ascii=False), encoding="utf-8")
    found = list(earlier.values())
    print(table(found))
    return 1 if any(f["verdict"] == "survived" for f in found) else 0


if __name__ == "__main__":
    sys.exit(main())
