"""Draw small inline SVG charts in the colors and fonts of the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from distangle.report.html import printable
from distangle.report.plates import PlateGrid, WellState
from distangle.screen import NEGATIVE, Role, well_name


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
        colour: Color of its swatch, `#RRGGBB`; "" for none.
        value: Length, negative to the left; NaN draws no bar.
        interval: Interval, drawn as a thin line over the bar; None for none.
        null: Range of the null distribution, drawn as a band behind the bar; None for none.
        strong: Whether the bar is highlighted.
        printed: Text of the value; "" formats the value.
    """

    name: str
    value: float
    colour: str = ""
    interval: tuple[float, float] | None = None
    null: tuple[float, float] | None = None
    strong: bool = False
    printed: str = ""


def bars(items: Sequence[Bar], *, description: str, width: float = 320.0, row: float = 22.0) -> Markup:
    """Draw horizontal bars around a common zero, with names and values."""
    left, right = 0.42 * width, width - 46.0
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
        if item.colour:
            parts.append(tag("circle", cx=6, cy=middle, r=4.5, fill=item.colour, class_="swatch"))
        name = item.name if len(item.name) <= 17 else item.name[:16] + "…"
        parts.append(tag("text", name, x=16, y=middle + 4, class_="name"))
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


def plate_map(grid: PlateGrid) -> Markup:
    """Draw one plate: a square per well, blue if correct, orange if wrong.

    A ring marks a negative control, a diamond a positive one.
    """
    rows, columns = grid.state.shape
    # Similar width for all plate sizes, so letters keep their size on the page.
    size, left, top = min(28.0, max(7.0, 336.0 / columns)), 20.0, 16.0
    parts: list[Markup] = []
    for column in range(columns):
        if columns <= 12 or column == 0 or (column + 1) % 4 == 0:
            middle = left + (column + 0.5) * size
            parts.append(tag("text", str(column + 1), x=middle, y=top - 4, class_="column"))
    for row in range(rows):
        if rows <= 16 or row % 2 == 0:
            letters = well_name(row, 0)[:-2]
            parts.append(tag("text", letters, x=left - 4, y=top + (row + 0.5) * size + 3.2, class_="row"))
        parts += [
            _draw_well(grid, row, column, x=left + column * size, y=top + row * size, size=size)
            for column in range(columns)
        ]
    description = (
        f"Plate map of {grid.experiment}, plate {grid.plate}: {grid.n_correct} of {grid.n_scored} wells correct"
    )
    width, height = left + columns * size + 4, top + rows * size + 4
    return draw_svg(parts, width=width, height=height, description=description, class_="plate")


def _draw_well(grid: PlateGrid, row: int, column: int, *, x: float, y: float, size: float) -> Markup:
    state = WellState(int(grid.state[row, column]))
    gap = 0.055 * size
    box = {"x": x + gap, "y": y + gap, "width": size - 2 * gap, "height": size - 2 * gap, "rx": size / 7}
    if state is WellState.EMPTY:
        return tag("rect", **box, class_="empty")
    confidence = grid.confidence[row, column]
    has_confidence = state >= WellState.WRONG and np.isfinite(confidence)
    opacity = 0.25 + 0.75 * float(confidence) if has_confidence else None
    parts = [tag("title", str(grid.tooltip[row, column]))]
    parts.append(tag("rect", **box, class_=state.name.lower(), fill_opacity=opacity))
    radius, center_x, center_y = 0.22 * size, x + size / 2, y + size / 2
    if state is WellState.UNREADABLE:
        side = 2 * radius
        path = f"m{-radius:.2f} {-radius:.2f}l{side:.2f} {side:.2f}m0 {-side:.2f}l{-side:.2f} {side:.2f}"
        parts.append(tag("path", d=f"M{center_x:.2f} {center_y:.2f}{path}", class_="cross"))
    elif grid.role[row, column] in NEGATIVE:
        parts.append(tag("circle", cx=center_x, cy=center_y, r=radius, class_="negative"))
    elif grid.role[row, column] == Role.POSITIVE_CONTROL:
        radius *= 1.35
        path = f"l{radius:.2f} {radius:.2f}l{-radius:.2f} {radius:.2f}l{-radius:.2f} {-radius:.2f}z"
        parts.append(tag("path", d=f"M{center_x:.2f} {center_y - radius:.2f}{path}", class_="positive"))
    return tag("g", *parts)


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
