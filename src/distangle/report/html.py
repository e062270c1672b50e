"""Render HTML pages from Jinja2 templates, escaped and without outside addresses."""

import functools
import importlib.resources
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from distangle import __version__
from distangle.core.io import write_text

# Control characters, lone surrogates of undecodable file names, and the signs that reverse text direction.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_LOCAL = re.compile(r"#[a-z0-9-]+|(?!\.\.)[a-z0-9._-]+(/[a-z0-9_][a-z0-9._-]*)*", re.IGNORECASE)
_ADDRESSES = frozenset(
    {"src", "href", "srcset", "xlink:href", "action", "formaction", "poster", "data", "background", "ping", "cite"}
)
_FORBIDDEN_TAGS = frozenset({"script", "style", "iframe", "frame", "object", "embed", "form", "base", "applet"})


@dataclass(frozen=True, kw_only=True)
class Table:
    """The cells of a table; `ui.table` of the templates lays it out.

    Attributes:
        columns: Titles.
        rows: Cells, one per title; a text is escaped, a drawing (Markup) is taken as it is.
        numeric: Columns of numbers, aligned to the right.
        caption: A sentence above the table; "" for none.
        bold: (row, column) of the cells in bold.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Container[int] = ()
    caption: str = ""
    bold: Container[tuple[int, int]] = ()


@dataclass(frozen=True)
class Content:
    """A part of a page: a template and its values; `{{ part }}` renders it.

    Attributes:
        template: Name inside `report/templates`.
        values: Numbers, texts, tables and further parts by name.
    """

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def __html__(self) -> Markup:
        """Return the rendered part; texts in it are escaped."""
        return render(self.template, **self.values)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of a page.

    Attributes:
        name: Its anchor.
        title: Its heading, also in the menu.
        content: What it shows.
    """

    name: str
    title: str
    content: Content


def render(template: str, /, **values: Any) -> Markup:
    """Render a template.

    Args:
        template: Name inside `report/templates`.
        values: What the template names; a name that is missing is an error.
    """
    return Markup(printable(_environment().get_template(template).render(**values)))


def render_page(title: str, *, stamp: str, header: Content, sections: Sequence[Section]) -> str:
    """Render a whole page.

    Args:
        title: Of the window.
        stamp: A word on every figure when the split was forced; "" otherwise.
        header: What stands above the menu.
        sections: In their order.

    Raises:
        ValueError: An address of the page leaves its folder, or the page's own policy forbids a part of it.
    """
    page = render("page.html.j2", title=title, forced=bool(stamp), header=header, sections=sections)
    check_page(page)
    return f"{page}\n"


def write_style(folder: Path) -> Path:
    """Write the style sheet of all pages into the folder of a page; return its path."""
    path = folder / "style.css"
    write_text(path, importlib.resources.files("distangle.report").joinpath("assets/style.css").read_text("utf-8"))
    return path


def check_page(page: str) -> None:
    """Check that a page loads nothing from outside its folder and runs no code.

    Raises:
        ValueError: It does; the message names the part.
    """
    checker = _PageChecker()
    checker.feed(page)
    checker.close()


def printable(text: str) -> str:
    """Replace characters that no reader can see by a replacement mark."""
    return _UNPRINTABLE.sub("\ufffd", text)


def paragraph(text: str) -> Content:
    """Return a paragraph as a part of a page."""
    return Content("paragraph.html.j2", {"text": text})


def missing_notice(what: str, command: str) -> Content:
    """Return the sentence that stands where a part of the run does not exist yet.

    Args:
        what: What is missing, as a sentence.
        command: The command that makes it.
    """
    return Content("missing.html.j2", {"what": what, "command": command})


def percent(share: float, digits: int = 1) -> str:
    """Return a share in [0, 1] as a percentage, with a narrow space before the sign."""
    return f"{100 * share:.{digits}f}\u202f%"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun, thousands apart: `1 well`, `36,517 wells`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def spaced(key: str) -> str:
    """Replace underscores: `negative_control` becomes `negative control`."""
    return key.replace("_", " ")


class _PageChecker(HTMLParser):
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _FORBIDDEN_TAGS:
            raise ValueError(f"The page's own policy forbids the element {tag!r}.")
        for name, value in attrs:
            if name == "style" or name.startswith("on"):
                raise ValueError(f"The page's own policy forbids the attribute {name!r}; use a class.")
            if name in _ADDRESSES and not _LOCAL.fullmatch(value or ""):
                raise ValueError(f"{name}={value!r} is no file of the page's folder.")


def _no_none(value: object) -> object:
    if value is None:
        raise TypeError("A template prints None; give it a text.")
    return value


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("distangle.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_no_none,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "count": count, "spaced": spaced}
    environment.globals["version"] = __version__
    return environment
