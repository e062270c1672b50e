"""Draw scatter charts as inline SVG, with labels that do not overlap."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from distangle.report.html import printable
from distangle.report.inline_svg import tag

WIDTH = 440.0
HEIGHT = 330.0
_MARGINS = (52.0, 14.0, 16.0, 44.0)  # left, top, right, bottom
_LETTER, _LINE = 6.3, 13.0  # width of a letter and height of a line, generous for 11 px
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point of a scatter chart.

    Attributes:
        x: Position, finite.
        y: Position, finite.
        style: Class of the mark in the style sheet, such as `hit`.
        tooltip: Text for the pointer.
        label: Text next to the mark; "" for none. Labels of earlier points are placed first.
        x_interval: Ends of the horizontal line; None for none.
        y_interval: Ends of the vertical line; None for none.
    """

    x: float
    y: float
    style: str
    tooltip: str = ""
    label: str = ""
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The axes of a scatter chart.

    Attributes:
        x_title: Title of the horizontal axis.
        y_title: Title of the vertical axis.
        description: Text for screen readers.
        threshold: Height of a dashed line; None for none.
        threshold_label: Text at the dashed line.
        joined: Whether a line joins the points in their order.
        is_map: Whether both axes have one scale and no ticks.
        radius: Radius of a mark.
    """

    x_title: str
    y_title: str
    description: str
    threshold: float | None = None
    threshold_label: str = ""
    joined: bool = False
    is_map: bool = False
    radius: float = 4.0


def scatter(points: Sequence[Point], frame: Frame) -> Markup:
    """Draw points with axes, labels and tooltips.

    Args:
        points: The points; later ones are drawn on top of earlier ones.
        frame: Axes and titles.
    """
    left, top, right, bottom = (2.0, 2.0, 2.0, 2.0) if frame.is_map else _MARGINS
    x_values = [value for point in points for value in (point.x, *(point.x_interval or ()))]
    y_values = [value for point in points for value in (point.y, *(point.y_interval or ()))]
    if frame.threshold is not None:
        y_values.append(frame.threshold)
    horizontal, vertical = _range(x_values), _range(y_values)
    if any(point.label for point in points):
        vertical = vertical[0], vertical[1] + 0.08 * (vertical[1] - vertical[0])  # space for labels
    box = (left, top, WIDTH - right, HEIGHT - bottom)
    if frame.is_map:
        horizontal, vertical = _equal_scale(horizontal, vertical, (box[2] - box[0]) / (box[3] - box[1]))

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            box[0] + (box[2] - box[0]) * (x - horizontal[0]) / (horizontal[1] - horizontal[0]),
            box[3] - (box[3] - box[1]) * (y - vertical[0]) / (vertical[1] - vertical[0]),
        )

    parts = [tag("rect", x=box[0], y=box[1], width=box[2] - box[0], height=box[3] - box[1], class_="frame")]
    if not frame.is_map:
        for value in _ticks(*horizontal):
            x, _ = at(value, vertical[0])
            parts.append(tag("line", x1=x, x2=x, y1=box[1], y2=box[3], class_="grid"))
            parts.append(tag("text", _number(value), x=x, y=box[3] + 15, class_="tick middle"))
        for value in _ticks(*vertical):
            _, y = at(horizontal[0], value)
            parts.append(tag("line", x1=box[0], x2=box[2], y1=y, y2=y, class_="grid"))
            parts.append(tag("text", _number(value), x=box[0] - 6, y=y + 4, class_="tick end"))
        middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        turn = f"rotate(-90 12 {middle[1]:.1f})"
        parts.append(tag("text", frame.x_title, x=middle[0], y=HEIGHT - 8, class_="title middle"))
        parts.append(tag("text", frame.y_title, x=12, y=middle[1], transform=turn, class_="title middle"))
    occupancy: list[Box] = []
    if frame.threshold is not None:
        y = at(horizontal[0], frame.threshold)[1]
        parts.append(tag("line", x1=box[0], x2=box[2], y1=y, y2=y, class_="threshold"))
        width = text_width(frame.threshold_label)
        parts.append(tag("text", frame.threshold_label, x=box[2] - 4, y=y - 4, class_="tick end"))
        occupancy.append((box[2] - 4 - width, y - 15, box[2], y))
    places = [at(point.x, point.y) for point in points]
    if frame.joined and len(places) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(tag("polyline", points=path, class_="path"))
    for point, (x, y) in zip(points, places, strict=True):
        if point.x_interval is not None:
            ends = [at(value, point.y)[0] for value in point.x_interval]
            parts.append(tag("line", x1=ends[0], x2=ends[1], y1=y, y2=y, class_="whisker"))
            occupancy.append((min(ends), y - 1, max(ends), y + 1))
        if point.y_interval is not None:
            ends = [at(point.x, value)[1] for value in point.y_interval]
            parts.append(tag("line", x1=x, x2=x, y1=ends[0], y2=ends[1], class_="whisker"))
            occupancy.append((x - 1, min(ends), x + 1, max(ends)))
        tooltip = [tag("title", point.tooltip)] if point.tooltip else []
        parts.append(tag("circle", *tooltip, cx=x, cy=y, r=frame.radius, class_=point.style))
    parts += _labels(points, places, box=box, occupancy=occupancy, radius=frame.radius)
    return tag(
        "svg", *parts, viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}", width=WIDTH, height=HEIGHT, role="img",
        aria_label=frame.description, class_="scatter",
    )  # fmt: skip


def text_width(text: str) -> float:
    """Return an upper estimate of the width of a text of 11 px."""
    return _LETTER * sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _labels(
    points: Sequence[Point], places: Sequence[tuple[float, float]], *, box: Box, occupancy: list[Box], radius: float
) -> list[Markup]:
    """Draw every label at the first free place around its mark, or not at all."""
    centers = np.array(places, dtype=np.float64).reshape(-1, 2)
    marks = np.concatenate([centers - radius, centers + radius], axis=1)
    lines: list[Markup] = []
    labels: list[Markup] = []
    for number, (point, (x, y)) in enumerate(zip(points, places, strict=True)):
        if not point.label:
            continue
        others = np.delete(centers, np.flatnonzero((centers == centers[number]).all(axis=1)), axis=0)
        label = shorten(point.label)
        width = text_width(label)
        for start_x, start_y in _label_places(x, y, width=width, gap=radius + 3):
            area = (start_x, start_y, start_x + width, start_y + _LINE)
            inside = area[0] >= box[0] and area[1] >= box[1] and area[2] <= box[2] and area[3] <= box[3]
            if not inside or _overlaps([area], occupancy) or _overlaps([area], marks):
                continue
            if _distances(np.array([[x, y]]), area).min() > radius + 5:
                end_x, end_y = min(max(x, area[0]), area[2]), min(max(y, area[1]), area[3])
                steps = [(x + share * (end_x - x), y + share * (end_y - y)) for share in np.linspace(0.2, 0.9, 8)]
                leader = [(step_x - 1, step_y - 1, step_x + 1, step_y + 1) for step_x, step_y in steps]
                if _overlaps(leader, occupancy) or _overlaps(leader, np.delete(marks, number, axis=0)):
                    continue
                occupancy += leader
                lines.append(tag("line", x1=x, y1=y, x2=end_x, y2=end_y, class_="leader"))
            elif (_distances(others, area) < radius + 5).any():
                continue  # it would seem to name another mark
            occupancy.append(area)
            labels.append(tag("text", label, x=start_x, y=start_y + _LINE - 3, class_="label"))
            break
    return lines + labels


def _label_places(x: float, y: float, *, width: float, gap: float) -> list[tuple[float, float]]:
    """Return the upper left corners of a label around a mark, the nearest first."""
    left, right = x - gap - width, x + gap
    places = [(right, y - _LINE / 2), (left, y - _LINE / 2)]
    places += [(side, top) for top in (y - _LINE - 1, y + 1) for side in (right, left)]
    for lines in (1.0, 2.2, 3.4, 4.6, 5.8):
        for sign in (-1, 1):
            top = y + sign * (lines * _LINE + gap / 2) - _LINE / 2
            places += [(side, top) for side in (x - width / 2, left, right, left - 2 * _LINE, right + 2 * _LINE)]
    return places


def shorten(text: str, max_length: int = 26) -> str:
    """Return a text for a label, without control characters."""
    visible = printable(text)
    return visible if len(visible) <= max_length else f"{visible[: max_length - 1]}…"


def _distances(places: np.ndarray, box: Box) -> np.ndarray:
    """Return the distance of every place [place, (x, y)] to a box; 0 inside."""
    corners = np.array(box)
    return np.asarray(np.hypot(*np.maximum(np.maximum(corners[:2] - places, places - corners[2:]), 0).T))


def _overlaps(boxes: Sequence[Box] | np.ndarray, others: Sequence[Box] | np.ndarray) -> bool:
    """Return whether any box [box, (left, top, right, bottom)] meets any other one."""
    if not len(others):
        return False
    first, other = np.asarray(boxes)[:, None], np.asarray(others)[None]
    return bool(((first[..., :2] < other[..., 2:]) & (other[..., :2] < first[..., 2:])).all(axis=2).any())


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = 0.5 * abs(low) or 0.5
        return low - margin, high + margin
    margin = 0.07 * (high - low)
    return low - margin, high + margin


def _equal_scale(
    horizontal: tuple[float, float], vertical: tuple[float, float], ratio: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Widen one range, so that a unit has one length in both directions."""
    height = max(vertical[1] - vertical[0], (horizontal[1] - horizontal[0]) / ratio)
    middles = (horizontal[0] + horizontal[1]) / 2, (vertical[0] + vertical[1]) / 2
    return (
        (middles[0] - ratio * height / 2, middles[0] + ratio * height / 2),
        (middles[1] - height / 2, middles[1] + height / 2),
    )


def _ticks(low: float, high: float) -> list[float]:
    """Return three to seven round numbers inside a range."""
    rough = (high - low) / 5
    unit = 10.0 ** np.floor(np.log10(rough))
    step = float(next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough * 0.999))
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [step * number for number in range(first, last + 1)]


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "\u2212")
