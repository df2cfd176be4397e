"""The sources of the site: the reference has every public name, every page its place, and the checks of a build find faults."""
from __future__ import annotations

import ast
import importlib.util
import json
import re
from pathlib import Path

import pytest

import fastbptt as fb

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MODULES = {"cuda", "distributed", "interop", "tasks"}      # among the public names
SUBMODULES = ("interop.torch", "interop.keras", "interop.onnx", "interop.safetensors", "torch", "sklearn", "tasks", "distributed",
              "cuda", "engine.activations")
BLOCK = re.compile(r"^\.\. (autosummary|automodule|currentmodule)::(.*)\n((?:^ +.*\n|^\n(?= ))*)", re.MULTILINE)


def loaded(name):
    """A module of docs/extensions that needs nothing but Python."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "extensions" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def listed():
    """The full names in the tables of the reference."""
    names = set()
    for page in (DOCS / "reference").glob("*.md"):
        module = ""
        for kind, argument, body in BLOCK.findall(page.read_text(encoding="utf-8")):
            if kind != "autosummary":
                module = argument.strip() + "."
                continue
            entries = [line.strip().removeprefix("~") for line in body.splitlines() if line.strip() and ":" not in line]
            names |= {entry if entry.startswith("fastbptt.") else module + entry for entry in entries}
    return names


def public(module):
    """What a module offers, from its source, so that a library that it wraps need not be there: `__all__`, else its functions."""
    base = ROOT / "fastbptt" / module.replace(".", "/")
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    body = ast.parse(path.read_text(encoding="utf-8")).body
    stated = [ast.literal_eval(node.value) for node in body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"]
    functions = [node.name for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
                 and not any("overload" in ast.unparse(decorator) for decorator in node.decorator_list)]
    return {f"fastbptt.{module}.{name}" for name in (stated[0] if stated else functions)}


def test_the_reference_has_every_public_name_and_no_other():
    names = {f"fastbptt.{name}" for name in fb.__all__ if name not in MODULES}
    names |= {"fastbptt.cells.scan_forward", "fastbptt.cells.scan_backward"}.union(*map(public, SUBMODULES))
    assert listed() == names, "docs/reference lists what the package offers, each name in the table where readers look for it"


@pytest.mark.parametrize("name", sorted(n for n in listed() if not n.startswith(("fastbptt.torch", "fastbptt.sklearn"))))
def test_what_the_reference_lists_says_what_it_is(name):
    module, _, attribute = name.rpartition(".")
    assert getattr(importlib.import_module(module), attribute).__doc__


def test_every_page_has_its_place():
    named = set()
    for page in DOCS.rglob("*.md"):
        for body in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            entries = [line for line in body.splitlines() if line and not line.startswith(":")]
            named |= {found.resolve() for entry in entries for ending in (".md", ".ipynb")
                      for found in page.parent.glob(entry + ending)}
    pages = {path for ending in ("md", "ipynb") for path in DOCS.rglob(f"*.{ending}") if "gallery" not in path.parts}
    assert pages - named == {DOCS / "index.md"}, "add the page to a toctree: docs/how-to.md or docs/explanation.md"


@pytest.mark.parametrize("path", sorted((DOCS / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_kept_without_results(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 4 and cells[0]["source"][0].startswith("# ")
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert all(ast.parse("".join(cell["source"])) for cell in code)


def test_every_script_has_a_quick_run():
    tree = ast.parse((DOCS / "extensions" / "scripts.py").read_text(encoding="utf-8"))
    quick, = (node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "QUICK")
    assert set(ast.literal_eval(quick)) == {path.stem for path in (ROOT / "examples").glob("*.py")}


PAGE = '<h1 id="top">a</h1><img src="picture.png"><script src="_static/a.js"></script>'


@pytest.mark.parametrize(("more", "fault"), [
    ("", None), ('<a href="other.html#there">', None), ('<a href="#top">', None), ('<a href="folder/">', None),
    ('<a href="https://example.org/">', None),
    ('<a href="other.html#gone">', "links to other.html#gone, which is not there"),
    ('<a href="gone.html">', "links to gone.html, which is not there"),
    ('<img src="gone.png">', "links to gone.png, which is not there"),
    ('<script src="https://example.org/a.js">', "loads https://example.org/a.js"),
    ('<img src="//example.org/a.png">', "loads //example.org/a.png"),
    ('<link rel="stylesheet" href="http://example.org/a.css">', "loads http://example.org/a.css")])
def test_faults_of_a_page_are_found(more, fault, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "_static").mkdir()
    for name, text in {"index.html": PAGE + more, "other.html": '<p id="there">', "folder/index.html": "", "picture.png": "",
                       "_static/a.js": "", "_static/template.html": '<a href="gone">'}.items():
        (tmp_path / name).write_text(text)
    assert loaded("links").faults(tmp_path) == ([f"index.html: {fault}"] if fault else [])


@pytest.mark.parametrize(("docstring", "rst"), [
    ("One line.", "One line."),
    ("A sum:\n\n    a = b\n    c = d\n\nand so on.", "A sum:\n\n::\n\n    a = b\n    c = d\n\nand so on."),
    ("|x| of `a`, not ∂`b`.", r"\|x\| of `a`, not ∂\ `b`."),
    ("T.", r"\T."),
    ("One.\n\nParameters\n----------\nx : int\n\n    Two.", "One.\n\nParameters\n----------\nx : int\n\n    Two."),
    (">>> a | b", ">>> a | b")])
def test_docstrings_become_text(docstring, rst):
    assert "\n".join(loaded("rst").as_rst(docstring.split("\n"))) == rst


def test_one_version():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in project and not re.search(r"^version = \"", project, re.MULTILINE)
    assert f"## {fb.__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f'version: "{fb.__version__}"' in (ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    assert "\nversion:" not in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_recipe_has_the_dependencies_of_the_package():
    project, recipe = ((ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "conda/recipe.yaml"))
    wanted = re.findall(r'"([a-z]+)>=([\d.]+)"', re.search(r"^dependencies = (.*)$", project, re.MULTILINE)[1])
    run = recipe.split("\n  run:\n")[1].split("\n\n")[0]
    assert wanted and all(f"- {name} >={version}" in run for name, version in wanted)
    assert re.search(r'requires-python = ">=([\d.]+)"', project)[1] in recipe
