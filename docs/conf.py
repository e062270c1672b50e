"""Sphinx configuration of the documentation site; `make docs` builds it with warnings as errors."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent / "src")]

import distangle  # noqa: E402 - the path is set above

project = "distangle"
author = "distangle maintainers"
copyright = author
version = release = distangle.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "generated_reference",
    "mathml",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
highlight_language = "none"

html_theme = "furo"
html_title = "distangle"
html_show_sourcelink = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
# The names of axes in array annotations ("site channel") look like references to Python names, and are none.
suppress_warnings = ["ref.python"]

autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
