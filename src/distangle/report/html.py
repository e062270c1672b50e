"""Render HTML pages from Jinja2 templates, escaped and without outside addresses."""

import base64
import functools
import hashlib
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
from distangle.errors import brief

# Control characters, lone surrogates of undecodable file names, and the signs that reverse text direction.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_FRAGMENT = "#[a-z0-9-]+"
_LOCAL = re.compile(rf"{_FRAGMENT}|(?!\.\.)[a-z0-9._-]+(/[a-z0-9_][a-z0-9._-]*)*({_FRAGMENT})?", re.IGNORECASE)
_ADDRESSES = frozenset(
    {"src", "href", "srcset", "xlink:href", "action", "formaction", "poster", "data", "background", "ping", "cite"}
)
# Pictures as images and tables as downloads: a browser runs nothing in either.
_EMBEDDED = {
    ("img", "src"): re.compile(r"data:image/(png|svg\+xml);base64,[A-Za-z0-9+/]*={0,2}"),
    ("a", "href"): re.compile(r"data:text/csv;base64,[A-Za-z0-9+/]*={0,2}"),
}
_STYLE_LINK = '<link rel="stylesheet" href="style.css">'
_STYLE_SOURCE = "style-src 'self'"
_FORBIDDEN_TAGS = frozenset({"script", "style", "iframe", "frame", "object", "embed", "form", "base", "applet"})


@dataclass(frozen=True, kw_only=True)
class Table:
    """The cells of a table; `ui.table` of the templates lays it out.

    Attributes:
        columns: Titles of the columns.
        rows: Cells, one per column; texts are escaped, drawings (Markup) are inserted unchanged.
        numeric: Indices of the columns of numbers, aligned to the right.
        caption: Sentence above the table; "" for none.
        bold: (row, column) of the cells in bold.
        file: Name of its CSV file without folder and suffix; "" for none.
        sources: Files of the run with its numbers, if the section has several; empty if the section names them.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Container[int] = ()
    caption: str = ""
    bold: Container[tuple[int, int]] = ()
    file: str = ""
    sources: Sequence[str] = ()


@dataclass(frozen=True)
class Content:
    """A part of a page: a template and its values; `{{ part }}` renders it.

    Attributes:
        template: Name of a file in `report/templates`.
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
        name: Anchor of the section.
        title: Heading, also in the menu.
        content: Contents of the section.
        sources: Files of the run with the numbers of the section, relative to the run.
        is_folded: Whether the section, as a part of another one, is closed until the reader opens it.
    """

    name: str
    title: str
    content: Content
    sources: Sequence[str] = ()
    is_folded: bool = False


@dataclass(frozen=True, kw_only=True)
class PageLink:
    """A link of the navigation.

    Attributes:
        address: File of the page, from the code.
        title: Name of the page.
        summary: What the page shows.
    """

    address: str
    title: str
    summary: str = ""


@dataclass(frozen=True, kw_only=True)
class Navigation:
    """The pages of a report, and which of them is open.

    Attributes:
        links: All pages, in their order.
        current: Index of the open page.
    """

    links: Sequence[PageLink]
    current: int

    @property
    def neighbors(self) -> list[tuple[str, PageLink]]:
        """The page before and the one after the open page, as (`prev` or `next`, link)."""
        places = (("prev", self.current - 1), ("next", self.current + 1))
        return [(name, self.links[place]) for name, place in places if 0 <= place < len(self.links)]


def group(parts: Sequence[Section]) -> Content:
    """Return sections as the parts of one section."""
    return Content("group.html.j2", {"parts": parts})


def link(text: str, address: str) -> Markup:
    """Return a link to a place or a file of the page.

    Args:
        text: Text of the link; it is escaped.
        address: Address from the code, never from the screen.
    """
    return Markup('<a href="{}">{}</a>').format(address, text)


def render(template: str, /, **values: Any) -> Markup:
    """Render a template.

    Args:
        template: Name of a file in `report/templates`.
        values: Values of the names in the template; a missing name is an error.
    """
    return Markup(printable(_environment().get_template(template).render(**values)))


def render_page(
    title: str,
    *,
    stamp: str,
    header: Content,
    sections: Sequence[Section],
    single_file: bool = False,
    navigation: Navigation | None = None,
) -> str:
    """Render a whole page.

    Args:
        title: Title of the window.
        stamp: Label of every figure if the split was forced; "" otherwise.
        header: Contents above the menu.
        sections: Sections in their order.
        single_file: Whether the style sheet stands in the page; otherwise the page needs `write_style`.
        navigation: Pages that this one belongs to; None for a page on its own, with a menu of its sections.

    Raises:
        ValueError: An address leaves the folder of the page, or its content policy forbids an element.
    """
    style = style_sheet() if single_file else ""
    page = render(
        "page.html.j2",
        title=title,
        forced=bool(stamp),
        header=header,
        sections=sections,
        navigation=navigation or "",
        style=Markup(style),
        style_source=f"sha256-{_sha256(style)}" if style else "self",
    )
    check_page(page, style=style)
    return f"{page}\n"


def style_sheet() -> str:
    """Return the style sheet of all pages."""
    return importlib.resources.files("distangle.report").joinpath("assets/style.css").read_text("utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def write_style(folder: Path) -> Path:
    """Write the style sheet of all pages into the folder of a page; return its path."""
    path = folder / "style.css"
    write_text(path, style_sheet())
    return path


def with_style(page: str) -> str:
    """Put the style sheet into a page that has it beside itself.

    Args:
        page: A page of `render_page`.

    Raises:
        ValueError: The page has no link to a style sheet.
    """
    style = style_sheet()
    head, separator, rest = page.partition("<body>")
    if head.count(_STYLE_LINK) != 1 or head.count(_STYLE_SOURCE) != 1:
        raise ValueError("The page has no link to a style sheet. Give a page of render_page.")
    head = head.replace(_STYLE_SOURCE, f"style-src 'sha256-{_sha256(style)}'")
    return head.replace(_STYLE_LINK, f"<style>{style}</style>") + separator + rest


def check_page(page: str, *, style: str = "", embedded: bool = False) -> None:
    """Check that a page loads nothing from outside its folder and runs no code.

    Args:
        page: The page.
        style: Style sheet that stands in the page once, before all contents; "" for none.
        embedded: Whether pictures and tables may be `data:` addresses.

    Raises:
        ValueError: It does; the message names the element.
    """
    element = f"<style>{style}</style>"
    head, separator, rest = page.partition("<body>")
    if style and head.count(element) == 1:
        page = head.replace(element, "") + separator + rest
    checker = _PageChecker(embedded=embedded)
    checker.feed(page)
    checker.close()


def printable(text: str) -> str:
    """Replace invisible characters by a replacement mark."""
    return _UNPRINTABLE.sub("\ufffd", text)


def paragraph(text: str) -> Content:
    """Return a paragraph as a part of a page."""
    return Content("paragraph.html.j2", {"text": text})


def missing_notice(sentence: str, command: str) -> Content:
    """Return the notice for a part of the run that does not exist yet.

    Args:
        sentence: Sentence that names the missing part.
        command: Command that makes it.
    """
    return Content("missing.html.j2", {"sentence": sentence, "command": command})


def percent(share: float, digits: int = 1) -> str:
    """Return a share in [0, 1] as a percentage, with a narrow space before the sign."""
    return f"{100 * share:.{digits}f}\u202f%"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its unit: `1 well`, `36,517 wells`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def spaced(key: str) -> str:
    """Replace underscores: `negative_control` becomes `negative control`."""
    return key.replace("_", " ")


class _PageChecker(HTMLParser):
    def __init__(self, *, embedded: bool) -> None:
        super().__init__()
        self._patterns = _EMBEDDED if embedded else {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _FORBIDDEN_TAGS:
            raise ValueError(f"The content policy forbids the element {tag!r}.")
        for name, value in attrs:
            if name == "style" or name.startswith("on"):
                raise ValueError(f"The content policy forbids the attribute {name!r}; use a class.")
            if name in _ADDRESSES and not _LOCAL.fullmatch(value or ""):
                pattern = self._patterns.get((tag, name))
                if pattern is not None and pattern.fullmatch(value or ""):
                    continue
                raise ValueError(f"{name}={brief(value or '')!r} is not a file in the folder of the page.")


def _reject_none(value: object) -> object:
    if value is None:
        raise TypeError("A template prints None. Pass a text instead.")
    return value


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("distangle.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_reject_none,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "count": count, "spaced": spaced}
    environment.globals["version"] = __version__
    return environment


def format_value(value: object) -> str:
    """Format a number, list or text of a results file."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{spaced(str(key))} {format_value(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = [format_value(item) for item in value[:24]]
        return ", ".join(items) + (f", … ({len(value)} in all)" if len(value) > 24 else "")
    return str(value)
