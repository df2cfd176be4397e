"""docs/pytorch.md says what its code prints, and the example trains alike with both modules."""
from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "torch_char_lstm.py"


def test_the_page_says_what_its_code_prints():
    blocks = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```\n", (ROOT / "docs" / "pytorch.md").read_text(), re.M | re.S)
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for code, promised in blocks:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, "pytorch.md", "exec"), names)
        assert out.getvalue() == promised


def difference(text):
    return float(re.search(r"largest relative difference of the losses: (\S+)", text)[1])


def test_both_modules_train_alike(capsys):
    spec = importlib.util.spec_from_file_location("torch_char_lstm", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)      # enough for this size, and no waiting for threads beside other processes
    try:
        example.main(["--updates", "8", "--batch", "8", "--hidden", "16", "--double"])
    finally:
        torch.set_num_threads(threads)
    assert difference(capsys.readouterr().out) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("flags", [["--compile"], ["--ddp"]])
def test_both_modules_train_alike_compiled_and_in_two_processes(flags):
    done = subprocess.run([sys.executable, str(EXAMPLE), "--updates", "4", "--batch", "8", "--hidden", "16", *flags],
                          capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert difference(done.stdout) < 1e-5
