"""What is wrong with the pages that were built: links inside the site that lead nowhere, and what a page loads from elsewhere.

`python docs/extensions/links.py build/site` looks at a site that is there; a build looks by itself, at its end.
"""
from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "object": "data",
           "embed": "src"}
LOADED_LINKS = {"stylesheet", "preload", "modulepreload", "icon", "manifest", "prefetch", "preconnect", "dns-prefetch"}


class Page(NamedTuple):
    """What a page has for others to point to, what it points to, and what it loads."""

    anchors: set[str]
    links: set[str]
    loaded: set[str]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page(set(), set(), set())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.page.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.page.links.add(given["href"])
        if LOADING.get(tag) in given:
            self.page.loaded.add(given[LOADING[tag]])
        if tag == "link" and LOADED_LINKS & set(given.get("rel", "").split()):
            self.page.loaded.add(given.get("href", ""))


def read(path: Path) -> Page:
    """A page as it was written."""
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader.page


def faults(site: Path) -> list[str]:
    """One line for each thing that is wrong."""
    made = (path for path in sorted(site.rglob("*.html")) if "_static" not in path.relative_to(site).parts)    # not templates
    pages = {path.resolve(): read(path) for path in made}
    return [f"{path.relative_to(site.resolve())}: {fault}" for path, page in pages.items()
            for fault in _of_page(path, page, pages)]


def _of_page(path: Path, page: Page, pages: dict[Path, Page]) -> list[str]:
    found = [f"loads {target}" for target in sorted(page.loaded) if _elsewhere(target)]
    inside = sorted(target for target in page.links | page.loaded if not (urlsplit(target).scheme or target.startswith("//")))
    return found + [f"links to {target}, which is not there" for target in inside if not _there(path, target, pages)]


def _elsewhere(target: str) -> bool:
    return urlsplit(target).scheme in ("http", "https") or target.startswith("//")


def _there(path: Path, target: str, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(target)
    file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    file = file / "index.html" if file.is_dir() else file
    if not file.exists():
        return False
    anchor = unquote(parts.fragment)
    return not anchor or file not in pages or anchor in pages[file].anchors


def look(app: Any, exception: Exception | None) -> None:
    """At the end of a build of HTML: every fault is a warning, and so an error under -W."""
    if exception is not None or app.builder.format != "html":
        return
    from sphinx.util import logging

    for fault in faults(Path(app.outdir)):
        logging.getLogger(__name__).warning("%s", fault)


def setup(app: Any) -> dict[str, bool]:
    app.connect("build-finished", look)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    wrong = faults(Path(sys.argv[1]))
    print(*wrong, sep="\n")
    sys.exit(bool(wrong))
