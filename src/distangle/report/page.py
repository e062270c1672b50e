"""HTML by small functions: what is not markup already is escaped, and nothing can point outside the folder."""

import html
import re
from collections.abc import Iterable, Sequence

from distangle import __version__

# Control characters, lone surrogates of undecodable file names, and the signs that reverse text direction.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_VOID = frozenset({"meta", "link", "img", "br", "hr"})
_RELATIVE = re.compile(r"#[a-z0-9-]+|(?!\.\.)[a-z0-9._-]+(/[a-z0-9_][a-z0-9._-]*)*", re.IGNORECASE)
POLICY = "default-src 'none'; img-src 'self' data:; style-src 'self'"


class Markup(str):
    """Text that is HTML already; every other string is escaped when it enters a page."""

    __slots__ = ()


def escaped(text: str) -> Markup:
    """Return the text as HTML; characters that no reader can see become a replacement mark."""
    return text if isinstance(text, Markup) else Markup(html.escape(_UNPRINTABLE.sub("\ufffd", text), quote=True))


def joined(parts: Iterable[str], separator: str = "") -> Markup:
    """Return parts side by side, each escaped unless it is markup."""
    return Markup(separator.join(escaped(part) for part in parts))


def element(name: str, /, *parts: str, **attributes: str | int | float | None) -> Markup:
    """Return one element.

    Args:
        name: Tag name, written by the programmer.
        parts: Children; strings are escaped, markup is taken as it is.
        attributes: `class_` is `class`, `aria_label` is `aria-label`; None leaves the attribute out.

    Raises:
        ValueError: `src` or `href` points outside the folder of the report, or `style` is asked for.
    """
    written = []
    for key, value in attributes.items():
        if value is None:
            continue
        key = key.rstrip("_").replace("_", "-")
        if key == "style" or key.startswith("on"):
            message = f"The page's own policy forbids the attribute {key!r}; use a class."
            raise ValueError(message)
        if key in ("src", "href") and not _RELATIVE.fullmatch(str(value)):
            message = f"{key}={value!r} is no file of the report's folder."
            raise ValueError(message)
        written.append(f' {key}="{escaped(_short(value))}"')
    opened = f"<{name}{''.join(written)}>"
    return Markup(opened if name in _VOID else f"{opened}{joined(parts)}</{name}>")


def paragraph(*parts: str, class_: str | None = None) -> Markup:
    """Return a paragraph."""
    return element("p", *parts, class_=class_)


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: Iterable[int] = (), caption: str | None = None
) -> Markup:
    """Return a table in a box that scrolls sideways on a narrow screen.

    Args:
        head: Column titles.
        rows: Cells, one per title.
        numeric: Columns of numbers, aligned to the right.
        caption: A sentence above the table.
    """
    right = frozenset(numeric)
    classes = ["number" if column in right else None for column in range(len(head))]
    title = element(
        "tr", *(element("th", cell, scope="col", class_=kind) for cell, kind in zip(head, classes, strict=True))
    )
    body = [
        element("tr", *(element("td", cell, class_=kind) for cell, kind in zip(row, classes, strict=True)))
        for row in rows
    ]
    said = [] if caption is None else [element("caption", caption)]
    return scrolling(element("table", *said, element("thead", title), element("tbody", *body)))


def scrolling(*parts: str) -> Markup:
    """Return a box that scrolls sideways when its content is wider than the screen."""
    return element("div", *parts, class_="scroll", tabindex=0)


def figure(source: str, *, alternative: str, caption: str | Markup, width: int | None = None) -> Markup:
    """Return a picture with its caption.

    Args:
        source: Path inside the folder of the report.
        alternative: What the picture shows, for those who do not see it.
        caption: Words below it.
        width: Display width in CSS pixels.
    """
    picture = element("img", src=source, alt=alternative, width=width, loading="lazy")
    return element("figure", element("a", picture, href=source), element("figcaption", caption))


def notice(*parts: str, kind: str = "warning") -> Markup:
    """Return a box that must not be overlooked."""
    return element("div", *parts, class_=f"notice {kind}", role="note")


def absent(what: str, command: str) -> Markup:
    """Return the sentence that stands where a part of the run does not exist yet."""
    return paragraph(what, " This part appears after ", element("code", command), ".", class_="absent")


def listing(items: Iterable[str]) -> Markup:
    """Return a bulleted list."""
    return element("ul", *(element("li", item) for item in items))


def definitions(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Return terms with their values."""
    return element("dl", *(element("div", element("dt", term), element("dd", value)) for term, value in pairs))


def section(name: str, title: str, *parts: str) -> Markup:
    """Return a section that the contents list can point to."""
    return element("section", element("h2", title), *parts, id=name, aria_label=title)


def document(title: str, *, stamp: str, header: Markup, sections: Sequence[tuple[str, str, Markup]]) -> str:
    """Return the whole page.

    Args:
        title: Name of the run.
        stamp: A word on every page when the fold was forced; "" otherwise.
        header: What stands above the contents list.
        sections: Name, title and markup of each.
    """
    contents = element(
        "nav", *(element("a", said, href=f"#{name}") for name, said, _ in sections), aria_label="Contents"
    )
    head = joined(
        [
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=POLICY),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("meta", name="referrer", content="no-referrer"),
            element("meta", name="generator", content=f"distangle {__version__}"),
            element("title", f"{title} · distangle report"),
            element("link", rel="stylesheet", href="style.css"),
        ],
        "\n",
    )
    body = joined([header, contents, *(markup for _, _, markup in sections)], "\n")
    foot = element("footer", f"Made by distangle {__version__}. Works offline; loads nothing from elsewhere.")
    main = element("main", body, foot, class_="forced" if stamp else None)
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{main}\n</body>\n</html>\n'


def percent(share: float, digits: int = 1) -> str:
    """Return a share in [0, 1] as a percentage, with a narrow space before the sign."""
    return f"{100 * share:.{digits}f}\u202f%"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun, thousands apart: `1 well`, `36,517 wells`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _short(value: str | int | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
