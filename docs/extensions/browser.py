"""Opens pages of the site in headless Chromium at two widths: no picture may be missing, and nothing may stick out of a page.

    python docs/extensions/browser.py build/site
"""
from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

PAGES = ("index", "tutorial/truncation", "performance", "design", "scripts", "reference/gradient-flow", "reference/command-line",
         "reference/generated/fastbptt.backward", "notebooks/character-model", "gallery/index", "gallery/plot_reach")
WIDTHS = (1280, 500)        # 500: the narrowest window of headless Chromium
PROBE = ("<script>addEventListener('load', () => { document.body.dataset.seen ="
         " [...document.images].filter(i => i.src && !i.naturalWidth).length"
         " + ';' + document.documentElement.scrollWidth + ';' + innerWidth })</script></body>")


def opened(page: Path, width: int, profile: str) -> tuple[int, int, int]:
    """Pictures that are missing, the width that the page needs, and the one that it has."""
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text(encoding="utf-8").replace("</body>", PROBE), encoding="utf-8")
    shown = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
         f"--window-size={width},1000", "--dump-dom", probed.resolve().as_uri()],
        capture_output=True, text=True, encoding="utf-8", timeout=120, check=True).stdout
    probed.unlink()
    missing, needed, there = map(int, re.search(r'data-seen="(\d+);(\d+);(\d+)"', shown).groups())
    return missing, needed, there


def faults(site: Path) -> list[str]:
    """One line for each thing that is wrong."""
    found = []
    with tempfile.TemporaryDirectory() as profile:
        for page in PAGES:
            for width in WIDTHS:
                missing, needed, there = opened(site / f"{page}.html", width, profile)
                if missing or there != width or needed > width:
                    found.append(f"{page} at {width}: {missing} pictures missing, needs a width of {needed}, has {there}")
    return found


if __name__ == "__main__":
    wrong = faults(Path(sys.argv[1]))
    print(*wrong or ["all pages fit"], sep="\n")
    sys.exit(bool(wrong))
