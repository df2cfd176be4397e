"""The documentation as a site: `sphinx-build -W --keep-going docs build/site`.

Nothing is loaded from the network, neither by the build nor by its pages. The notebooks and the examples run while it builds;
a link that leads nowhere is an error (`extensions/links.py`).
"""
from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "extensions")]
os.environ.setdefault("PYTHONPATH", str(DOCS.parent))      # the kernels of the notebooks

import fastbptt  # noqa: E402

project = "fastbptt"
author = copyright = "the fastbptt developers"
version = release = fastbptt.__version__
language = "en"
nitpicky = False
exclude_patterns = ["extensions", "gallery/**.ipynb", "gallery/**.py", "gallery/**.json", "gallery/**.zip", "gallery/**.md5"]
templates_path = ["templates"]
extensions = [
    "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.viewcode", "numpydoc", "myst_nb", "sphinx_gallery.gen_gallery",
    "docstrings", "commands", "scripts", "links"]

# ---- Markdown and notebooks
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

# ---- the reference
default_role = "py:name"       # extensions/docstrings.py
autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"          # numpydoc's sections say them
autodoc_default_options = {"exclude-members": ", ".join([       # what a room says to the next, and its users to nobody
    "candidate", "checked", "direction", "direction_type", "flatten", "gates", "groups", "layers", "masks", "memory_bias",
    "options", "params_of", "parts", "per_layer", "scan_sizes", "scans", "tape_type"])}
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
importlib.import_module("fastbptt.sklearn")         # before torch may be a stand-in, of which SciPy asks what it is
if importlib.util.find_spec("torch") is None:       # the pages of fastbptt.torch come from its docstrings alone
    autodoc_mock_imports = ["torch"]

# ---- the gallery of short examples
sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e9,       # times differ from build to build
    "write_computation_times": False,
    "abort_on_example_error": True,
}

# ---- the pages
html_theme = "pydata_sphinx_theme"
html_title = f"fastbptt {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_sidebars = {"versioning": [], "changelog": [], "contributing": []}
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "navigation_with_keys": False,
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}
