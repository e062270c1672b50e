"""Render formulas as MathML, so that the pages need no script and no other server."""

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator


def visit_math(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula in a line of text."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def visit_math_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula in a paragraph of its own."""
    # Wide formulas scroll; the keyboard reaches them.
    translator.body.append('<div class="math" role="region" aria-label="formula" tabindex="0" style="overflow-x:auto">')
    translator.body.append(convert(node.astext(), display="block"))
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", inline_renderers=(visit_math, None), block_renderers=(visit_math_block, None))
    app.config["html_math_renderer"] = "mathml"
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
