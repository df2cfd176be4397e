"""The page of a report in headless Chromium: it opens without a word on the console, all pictures decode, nothing sticks out."""
from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest

import fastbptt as fb
from fastbptt.cli import main

pytest.importorskip("matplotlib")
pytest.importorskip("rich")
if (CHROMIUM := shutil.which("chromium")) is None:
    pytest.skip("needs the program chromium", allow_module_level=True)

PROBE = ("<script>addEventListener('load', () => { document.body.dataset.seen = [...document.images].map(i => i.naturalWidth)"
         " + ';' + document.documentElement.scrollWidth + ';' + innerWidth })</script></body>")


def opened(path, width=1280):
    """The page as Chromium has it after all is loaded, and what was written to its console: errors of scripts and the like."""
    said = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0",
         f"--user-data-dir={path.parent / 'profile'}", f"--window-size={width},1000", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, encoding="utf-8", timeout=120, check=True)
    return said.stdout, [line for line in said.stderr.splitlines() if re.search(r":CONSOLE\b", line)]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page that the command writes."""
    folder = tmp_path_factory.mktemp("page")
    model = fb.SequenceModel(fb.RNN(2, 4), 3, "squared_error")
    fb.save_model(folder / "model.npz", model, model.init(seed=0))
    rng = np.random.default_rng(0)
    np.savez(folder / "data.npz", x=rng.normal(size=(30, 2, 2)).astype(np.float32),
             y=rng.normal(size=(30, 2, 3)).astype(np.float32))
    assert main(["diagnose", str(folder / "model.npz"), "--npz", str(folder / "data.npz"), "--out", str(folder)]) == 0
    return folder / "diagnose.html"


def test_opens_without_a_word_on_the_console(page):
    shown, console = opened(page)
    assert not console
    assert "What may help" in shown and shown.count("<figcaption>") == 4


@pytest.mark.parametrize("width", [1280, 500])      # 500: the narrowest window of headless Chromium
def test_pictures_decode_and_nothing_sticks_out(page, width):
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text(encoding="utf-8").replace("</body>", PROBE), encoding="utf-8")
    shown, _ = opened(probed, width)
    images, needed, there = re.search(r'data-seen="([\d,]*);(\d+);(\d+)"', shown).groups()
    assert int(there) == width and int(needed) <= width
    assert len(images.split(",")) == 4 and "0" not in images.split(",")


def test_a_page_with_an_error_is_caught(tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text("<!doctype html><title>broken</title><p>text<script>no_such_function()</script>")
    assert "no_such_function is not defined" in " ".join(opened(broken)[1])


def test_a_broken_picture_and_a_wide_page_are_caught(tmp_path):
    broken = tmp_path / "broken.html"
    image = '<img src="data:image/png;base64,AAAA">'
    broken.write_text(f'<!doctype html><title>broken</title><body><div style="width:2000px">a</div>{image}{PROBE}')
    assert 'data-seen="0;20' in opened(broken)[0]
