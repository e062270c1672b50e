"""Draw plate maps: a large one to read well by well, and a compact one."""

import textwrap

import numpy as np
from markupsafe import Markup

from distangle.report.inline_svg import draw_svg, tag
from distangle.report.plates import PlateGrid, WellState
from distangle.screen import NEGATIVE, Role, well_name

TIP_LINES = 3  # lines below a plate for the text of a well
_TIP_LETTERS = 62  # letters of a line
_LEVELS = 4  # shades of a compact map


def plate_map(grid: PlateGrid) -> Markup:
    """Draw one plate: a square per well, blue if correct, orange if wrong.

    A ring marks a negative control, a diamond a positive one. The text of a well appears below the plate when the
    reader points at it, taps it or moves the keyboard focus to it.
    """
    rows, columns = grid.state.shape
    size, left, top = _geometry(columns)
    parts = _axis_labels(rows, columns)
    bottom = top + rows * size + 4
    drawn = [
        _draw_well(grid, row, column, x=left + column * size, y=top + row * size, size=size, bottom=bottom)
        for row in range(rows)
        for column in range(columns)
    ]
    # Wells with a text come last, so that the text of one is above all others.
    width = left + columns * size + 4
    return draw_svg(
        [*parts, *drawn], width=width, height=bottom + 12 * TIP_LINES, description=_describe(grid), class_="plate"
    )


def compact_plate_map(grid: PlateGrid) -> Markup:
    """Draw one plate with few bytes: one path for all wells of a state and shade.

    It has neither texts nor marks of controls.
    """
    rows, columns = grid.state.shape
    size, left, top = _geometry(columns)
    side = round(0.89 * size, 2)
    paths: dict[tuple[int, int], list[str]] = {}
    for row in range(rows):
        for column in range(columns):
            state, confidence = int(grid.state[row, column]), grid.confidence[row, column]
            shade = _LEVELS
            if state >= WellState.WRONG and np.isfinite(confidence):
                shade = min(_LEVELS, 1 + int(_LEVELS * float(confidence)))
            x, y = left + column * size + 0.05 * size, top + row * size + 0.05 * size
            paths.setdefault((state, shade), []).append(f"M{x:.5g} {y:.5g}h{side:g}v{side:g}h-{side:g}z")
    parts = _axis_labels(rows, columns)
    for (state, shade), squares in sorted(paths.items()):
        opacity = _opacity(shade / _LEVELS) if state >= WellState.WRONG else None
        parts.append(tag("path", d="".join(squares), class_=WellState(state).name.lower(), fill_opacity=opacity))
    width, height = left + columns * size + 4, top + rows * size + 4
    return draw_svg(parts, width=width, height=height, description=_describe(grid), class_="plate")


def _geometry(columns: int) -> tuple[float, float, float]:
    """Return the side of a well and the left and upper margin, in pixels."""
    # Similar width for all plate sizes, so letters keep their size on the page.
    return min(28.0, max(7.0, 336.0 / columns)), 20.0, 16.0


def _opacity(confidence: float) -> float:
    return 0.35 + 0.65 * confidence


def _describe(grid: PlateGrid) -> str:
    return f"Plate map of {grid.experiment}, plate {grid.plate}: {grid.n_correct} of {grid.n_scored} wells correct"


def _axis_labels(rows: int, columns: int) -> list[Markup]:
    size, left, top = _geometry(columns)
    parts = []
    for column in range(columns):
        if columns <= 12 or column == 0 or (column + 1) % 4 == 0:
            middle = left + (column + 0.5) * size
            parts.append(tag("text", str(column + 1), x=middle, y=top - 4, class_="column"))
    for row in range(rows):
        if rows <= 16 or row % 2 == 0:
            letters = well_name(row, 0)[:-2]
            parts.append(tag("text", letters, x=left - 4, y=top + (row + 0.5) * size + 3.2, class_="row"))
    return parts


def _draw_well(grid: PlateGrid, row: int, column: int, *, x: float, y: float, size: float, bottom: float) -> Markup:
    state = WellState(int(grid.state[row, column]))
    gap = 0.055 * size
    box = {"x": x + gap, "y": y + gap, "width": size - 2 * gap, "height": size - 2 * gap, "rx": size / 7}
    if state is WellState.EMPTY:
        return tag("rect", **box, class_="empty")
    confidence = grid.confidence[row, column]
    has_confidence = state >= WellState.WRONG and np.isfinite(confidence)
    opacity = _opacity(float(confidence)) if has_confidence else None
    parts = [tag("rect", **box, class_=state.name.lower(), fill_opacity=opacity)]
    radius, center_x, center_y = 0.22 * size, x + size / 2, y + size / 2
    if state is WellState.UNREADABLE:
        side = 2 * radius
        path = f"m{-radius:.2f} {-radius:.2f}l{side:.2f} {side:.2f}m0 {-side:.2f}l{-side:.2f} {side:.2f}"
        parts.append(tag("path", d=f"M{center_x:.2f} {center_y:.2f}{path}", class_="cross"))
    elif state is WellState.WRONG:
        reach = 0.3 * size
        path = f"M{center_x - reach:.2f} {center_y + reach:.2f}l{2 * reach:.2f} {-2 * reach:.2f}"
        parts.append(tag("path", d=path, class_="slash"))
    if state is not WellState.UNREADABLE and grid.role[row, column] in NEGATIVE:
        parts.append(tag("circle", cx=center_x, cy=center_y, r=radius, class_="negative"))
    elif state is not WellState.UNREADABLE and grid.role[row, column] == Role.POSITIVE_CONTROL:
        radius *= 1.35
        path = f"l{radius:.2f} {radius:.2f}l{-radius:.2f} {radius:.2f}l{-radius:.2f} {-radius:.2f}z"
        parts.append(tag("path", d=f"M{center_x:.2f} {center_y - radius:.2f}{path}", class_="positive"))
    text = str(grid.tooltip[row, column])
    parts.append(_tip(text, bottom=bottom))
    return tag("g", *parts, tabindex="0", role="img", aria_label=text, class_="well")


def _tip(text: str, *, bottom: float) -> Markup:
    lines = textwrap.wrap(text, _TIP_LETTERS, max_lines=TIP_LINES, placeholder=" …") or [""]
    spans = [tag("tspan", line, x=20, y=bottom + 10 + 12 * index) for index, line in enumerate(lines)]
    return tag("text", *spans, class_="tip")
