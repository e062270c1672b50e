"""Draw small inline SVG charts in the colors and fonts of the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from distangle.report.html import printable

MAX_NAME = 32  # letters of the name of a bar


def interval_bar(
    value: float, interval: tuple[float, float] | None, *, chance: float, by_group: Mapping[str, float] | None = None
) -> Markup:
    """Draw a score in [0, 1] with chance (dashed tick) and its interval or groups."""
    width, middle = 108.0, 10.0

    def at(share: float) -> float:
        return 4.0 + (width - 8.0) * min(max(share, 0.0), 1.0)

    parts = [
        tag("line", x1=at(0.0), x2=at(1.0), y1=middle, y2=middle, class_="axis"),
        tag("line", x1=at(chance), x2=at(chance), y1=2, y2=18, class_="chance"),
    ]
    description = f"{value:.3f}, chance {chance:.3f}"
    if interval is not None:
        low, high = interval
        parts.append(tag("line", x1=at(low), x2=at(high), y1=middle, y2=middle, class_="interval"))
        description += f", 95 % interval {low:.3f} to {high:.3f}"
    else:
        for name, group_value in (by_group or {}).items():
            parts.append(tag("circle", cx=at(group_value), cy=middle, r=3, class_="group"))
            description += f", {name} {group_value:.3f}"
    parts.append(tag("circle", cx=at(value), cy=middle, r=4, class_="value"))
    return draw_svg(parts, width=width, height=20.0, description=description, class_="interval-bar")


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of `bars`.

    Attributes:
        name: Label of the bar.
        color: Color of its swatch, `#RRGGBB`; "" for none.
        value: Length, negative to the left; NaN draws no bar.
        interval: Interval, drawn as a thin line over the bar; None for none.
        null: Range of the null distribution, drawn as a band behind the bar; None for none.
        strong: Whether the bar is highlighted.
        printed: Text of the value; "" formats the value.
    """

    name: str
    value: float
    color: str = ""
    interval: tuple[float, float] | None = None
    null: tuple[float, float] | None = None
    strong: bool = False
    printed: str = ""


def bars(items: Sequence[Bar], *, description: str, width: float = 360.0, row: float = 22.0) -> Markup:
    """Draw horizontal bars around a common zero, with names and values."""
    names = [item.name if len(item.name) <= MAX_NAME else item.name[: MAX_NAME - 1] + "…" for item in items]
    # 6.3 pixels are a letter of 12 pixels of the common sans-serif fonts, rounded up.
    left, right = min(0.6 * width, 22.0 + 6.3 * max(map(len, names), default=0)), width - 46.0
    ends = [0.0]
    for item in items:
        ends += [item.value, *(item.interval or ()), *(item.null or ())]
    low, high = min(_finite_values(ends)), max(_finite_values(ends))
    if low == high:
        high = low + 1.0

    def at(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    parts: list[Markup] = []
    for position, item in enumerate(items):
        top = position * row
        middle = top + row / 2
        if item.color:
            parts.append(tag("circle", cx=6, cy=middle, r=4.5, fill=item.color, class_="swatch"))
        parts.append(tag("text", names[position], x=16, y=middle + 4, class_="name"))
        if item.null is not None:
            parts.append(_draw_rectangle(at(item.null[0]), at(item.null[1]), top + 2, row - 4, class_="null"))
        if np.isfinite(item.value):
            class_name = "bar strong" if item.strong else "bar"
            parts.append(_draw_rectangle(at(0.0), at(item.value), top + 6, row - 12, class_=class_name))
            printed = item.printed or f"{item.value:+.2f}".replace("-", "−")
            parts.append(tag("text", printed, x=width - 2, y=middle + 4, class_="figure"))
        if item.interval is not None:
            interval = item.interval
            parts.append(tag("line", x1=at(interval[0]), x2=at(interval[1]), y1=middle, y2=middle, class_="whisker"))
    height = row * len(items)
    parts.append(tag("line", x1=at(0.0), x2=at(0.0), y1=0, y2=height, class_="zero"))
    return draw_svg(parts, width=width, height=height, description=description, class_="bars")


def _draw_rectangle(start: float, end: float, y: float, height: float, *, class_: str) -> Markup:
    return tag("rect", x=min(start, end), y=y, width=abs(end - start), height=height, class_=class_)


def draw_svg(parts: Sequence[Markup], *, width: float, height: float, description: str, class_: str) -> Markup:
    """Return a drawing of elements.

    Args:
        parts: The elements.
        width: Width in pixels.
        height: Height in pixels.
        description: What the drawing shows, for screen readers.
        class_: Class of the style sheet.
    """
    return tag(
        "svg", *parts, viewBox=f"0 0 {width:g} {height:g}", width=width, height=height, role="img",
        aria_label=description, class_=class_,
    )  # fmt: skip


def tag(name: str, /, *children: str, **attributes: str | int | float | None) -> Markup:
    """Return an SVG element.

    Args:
        name: Name of the element, from the code and never from data.
        children: Contents; texts are escaped, elements are inserted unchanged.
        attributes: Attributes; `class_` becomes `class`, `fill_opacity` becomes `fill-opacity`, and None omits one.
    """
    attribute_text = Markup().join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _format_attribute(value))
        for key, value in attributes.items()
        if value is not None
    )
    content = Markup().join(escape(printable(child)) if not isinstance(child, Markup) else child for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(name, attribute_text, content)


def _format_attribute(value: str | int | float) -> str:
    return printable(value) if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def _finite_values(values: Sequence[float]) -> list[float]:
    return [value for value in values if np.isfinite(value)]
