"""Draw charts as SVG text without pyplot; equal data give equal bytes."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from distangle.report.glyphs import drawable, families

# Light and dark pairs. Color-blind readers can tell blue from orange.
INK, MUTED, RULE, BLUE, ORANGE = "#1d2733", "#5f6b78", "#d5dbe1", "#2f6299", "#c4661f"
_DARK = {INK: "#e4e8ec", MUTED: "#98a4b0", RULE: "#3a444e", BLUE: "#7fb2e5", ORANGE: "#eb9f5e"}
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "distangle",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "text.color": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.parse_math": False,  # names of perturbations can contain dollar signs
}
_STYLE = (
    "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Liberation Sans',Arial,sans-serif!important}"
    "@media (prefers-color-scheme:dark){"
    + "".join(
        f'[style*="fill: {light}"]{{fill:{dark}!important}}[style*="stroke: {light}"]{{stroke:{dark}!important}}'
        for light, dark in _DARK.items()
    )
    + "}"
)
MAX_NAME = 32  # letters of a name in a chart
PNG_DPI = 200
_CURVES = (
    ("accuracy", "Accuracy", (("train_accuracy", "training", BLUE), ("held_out_accuracy", "held out", ORANGE))),
    ("loss", "Loss (nats)", (("train_loss", "training", BLUE), ("held_out_loss", "held out", ORANGE))),
    ("rate", "Learning rate", (("learning_rate", "", INK),)),
)


def training_curves(metrics: pd.DataFrame, *, chance: float | None = None, stamp: str = "") -> dict[str, str]:
    """Draw the training curves, as SVG texts by name: `accuracy`, `loss`, `rate`.

    Args:
        metrics: One row per epoch with `epoch` and any of `train_loss`, `train_accuracy`, `held_out_loss`,
            `held_out_accuracy`, `learning_rate`; missing columns are not drawn.
        chance: Accuracy of guessing, drawn as a dashed line; None for no line.
        stamp: Label in the corner, such as "forced split".
    """
    return {
        name: _draw_curve(
            metrics, title, lines, chance=chance if name == "accuracy" else None, from_zero=name != "rate", stamp=stamp
        )
        for name, (title, lines) in curve_names(metrics).items()
    }


def _draw_curve(
    metrics: pd.DataFrame,
    title: str,
    lines: Sequence[tuple[str, str, str]],
    *,
    chance: float | None,
    from_zero: bool,
    stamp: str,
) -> str:
    with matplotlib.rc_context(svg_settings()):
        figure = Figure(figsize=(3.5, 2.5), layout="constrained")
        draw_curves(figure.add_subplot(), metrics, title, lines, chance=chance, from_zero=from_zero)
        return svg_of(figure, stamp)


def curve_names(metrics: pd.DataFrame) -> dict[str, tuple[str, list[tuple[str, str, str]]]]:
    """Return title and lines (column, name, color) of every chart with a number."""
    charts = {}
    for name, title, lines in _CURVES:
        available = [line for line in lines if line[0] in metrics.columns and metrics[line[0]].notna().any()]
        if available:
            charts[name] = title, available
    return charts


def draw_curves(
    axes: Axes,
    metrics: pd.DataFrame,
    title: str,
    lines: Sequence[tuple[str, str, str]],
    *,
    chance: float | None = None,
    from_zero: bool = True,
) -> None:
    """Draw columns over the epochs, each named at its end.

    Args:
        axes: Empty axes.
        metrics: One row per epoch.
        title: Title above the chart.
        lines: Column, name and color of each, from `curve_names`.
        chance: Accuracy of guessing, drawn as a dashed line; None for no line.
        from_zero: Whether the value axis starts at 0.
    """
    ends: list[tuple[float, float, str, str]] = []
    for column, name, color in lines:
        points = metrics[metrics[column].notna()]
        marker = "o" if len(points) < 16 else None
        axes.plot(points["epoch"], points[column], color=color, linewidth=1.8, marker=marker, markersize=3)
        ends.append((float(points["epoch"].iloc[-1]), float(points[column].iloc[-1]), name, color))
    if chance is not None:
        axes.set_ylim(0, 1.02)
        axes.axhline(chance, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)))
        axes.annotate(
            "chance", (metrics["epoch"].max(), chance), xytext=(0, 3), textcoords="offset points", color=MUTED,
            ha="right", fontsize=8,
        )  # fmt: skip
    elif from_zero:
        axes.set_ylim(bottom=0)
    low, high = axes.get_ylim()
    ends.sort(key=lambda end: end[1])
    close = len(ends) == 2 and ends[1][1] - ends[0][1] < 0.09 * (high - low)
    for index, (x, y, name, color) in enumerate(ends):
        shift = 12 * (index - 0.5) if close else 0.0  # points; separates the names of curves with the same end
        axes.annotate(name, (x, y), xytext=(5, shift), textcoords="offset points", color=color, va="center")
    axes.set_title(title, pad=8)
    axes.set_xlabel("epoch")
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", integer=True, nbins=6)


def confusion_matrix(perturbations: Sequence[str], shares: np.ndarray, *, stamp: str = "") -> str:
    """Draw a confusion matrix, true (row) by predicted (column), as SVG text.

    Args:
        perturbations: Names, in the order of rows and columns.
        shares: [true, predicted] in [0, 1]; rows of NaN have no held-out site.
        stamp: Label in the corner, such as "forced split".
    """
    n = len(perturbations)
    # Space for the longest name; the size of the cells does not depend on the names.
    side, names = max(2.2, 0.19 * n), 0.062 * max((len(_shorten(name)) for name in perturbations), default=1) + 0.35
    with matplotlib.rc_context(svg_settings()):
        figure = Figure(figsize=(side + names + 0.9, side + names + 0.2))
        width, height = figure.get_size_inches()
        draw_confusion(
            figure.add_axes((names / width, names / height, side / width, side / height)), perturbations, shares
        )
        bar = figure.add_axes(((names + side + 0.15) / width, names / height, 0.12 / width, side / height))
        _draw_cells(bar, np.linspace(0, 1, 32)[::-1, None], color=BLUE, edge=False)
        bar.set_xticks([])
        bar.set_ylim(32, 0)
        bar.set_xlim(0, 1)
        bar.set_yticks([0, 16, 32], ["100 %", "50 %", "0 %"], fontsize=8)
        bar.yaxis.tick_right()
        for spine in bar.spines.values():
            spine.set_visible(False)
        bar.tick_params(length=0)
        return svg_of(figure, stamp)


def draw_confusion(axes: Axes, perturbations: Sequence[str], shares: np.ndarray) -> None:
    """Draw the cells of a confusion matrix with their names.

    Args:
        axes: Empty axes.
        perturbations: Names, in the order of rows and columns.
        shares: [true, predicted] in [0, 1]; rows of NaN have no held-out site.
    """
    n = len(perturbations)
    _draw_cells(axes, shares, color=BLUE)
    ticks = np.arange(n) + 0.5
    axes.set_xticks(ticks, [_shorten(name) for name in perturbations], rotation=90, fontsize=8)
    axes.set_yticks(ticks, [_shorten(name) for name in perturbations], fontsize=8)
    axes.set_xlim(0, n)
    axes.set_ylim(n, 0)
    axes.tick_params(length=0)
    axes.set_title("true (row) → predicted (column)", pad=5, color=MUTED)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(RULE)


@dataclass(frozen=True, kw_only=True)
class ChannelColumn:
    """One quantity per channel, over all explained sites.

    Attributes:
        mean: [channel].
        interval: [channel, 2], low and high; None if unknown.
        null: [channel, 2], range of the null distribution; None if unknown.
        by_group: [channel] of each experiment or plate by name, if they are too few for an interval.
    """

    mean: np.ndarray
    interval: np.ndarray | None = None
    null: np.ndarray | None = None
    by_group: Mapping[str, np.ndarray] = field(default_factory=dict)


def channel_chart(
    names: Sequence[str],
    column: ChannelColumn,
    *,
    title: str,
    unit: str,
    highlighted: int | None = None,
    stamp: str = "",
) -> str:
    """Draw one value per channel with its interval and its null, as SVG text.

    Args:
        names: One per channel.
        column: The values; the null is a grey band, groups are rings.
        title: Title above the chart.
        unit: Label of the value axis.
        highlighted: Index of the channel in orange; None for none.
        stamp: Label in the corner, such as "forced split".
    """
    with matplotlib.rc_context(svg_settings()):
        figure = Figure(figsize=(4.6, 0.34 * len(names) + 0.9), layout="constrained")
        draw_channels(figure.add_subplot(), names, column, title=title, unit=unit, highlighted=highlighted)
        return svg_of(figure, stamp)


def draw_channels(
    axes: Axes, names: Sequence[str], column: ChannelColumn, *, title: str, unit: str, highlighted: int | None = None
) -> None:
    """Draw one value per channel, as `channel_chart` does, into empty axes."""
    null, intervals = column.null, column.interval
    positions = np.arange(len(names))
    colors = [ORANGE if position == highlighted else BLUE for position in positions]
    if null is not None:
        axes.barh(positions, null[:, 1] - null[:, 0], left=null[:, 0], height=0.78, color=RULE, zorder=1)
    axes.barh(positions, column.mean, height=0.42, color=colors, zorder=2)
    if intervals is not None:
        axes.hlines(positions, intervals[:, 0], intervals[:, 1], color=INK, linewidth=1.3, zorder=3)
    for values in column.by_group.values():
        axes.plot(values, positions, "o", markersize=4, markerfacecolor="none", markeredgecolor=INK, zorder=3)
    axes.set_yticks(positions, [_shorten(name) for name in names], color=INK)
    axes.invert_yaxis()
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=4)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel(unit)
    axes.set_title(title, pad=8)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def channel_matrix(
    perturbations: Sequence[str],
    channels: Sequence[str],
    values: np.ndarray,
    *,
    unit: str,
    planted: Sequence[Sequence[int]] = (),
    stamp: str = "",
) -> str:
    """Draw one value per perturbation (row) and channel (column), as SVG text.

    Blue is above zero, orange below.

    Args:
        perturbations: Names of the rows.
        channels: Names of the columns.
        values: [perturbation, channel]; the largest absolute value is drawn at full strength.
        unit: Unit of the values.
        planted: Channels of each perturbation, counted from 0, that get a frame; empty for none.
        stamp: Label in the corner, such as "forced split".
    """
    n_rows, n_columns = values.shape
    limit = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    names = 0.062 * max(len(_shorten(name)) for name in perturbations) + 0.35
    header_height = 0.062 * max(len(_shorten(name)) for name in channels) + 0.3
    cell, side = 0.42, 0.24
    with matplotlib.rc_context(svg_settings()):
        figure = Figure(figsize=(names + cell * n_columns + 1.1, header_height + side * n_rows + 0.25))
        width, height = figure.get_size_inches()
        frame = (names / width, 0.2 / height, cell * n_columns / width, side * n_rows / height)
        axes = figure.add_axes(frame)
        _draw_cells(axes, values / limit, color=BLUE, below=ORANGE)
        for row, framed in enumerate(planted):
            for channel in framed:
                box = Rectangle((channel + 0.06, row + 0.1), 0.88, 0.8, fill=False, edgecolor=INK, linewidth=1.2)
                axes.add_patch(box)
        axes.set_xlim(0, n_columns)
        axes.set_ylim(n_rows, 0)
        axes.set_xticks(np.arange(n_columns) + 0.5, [_shorten(name) for name in channels], rotation=90, fontsize=8)
        axes.set_yticks(np.arange(n_rows) + 0.5, [_shorten(name) for name in perturbations], fontsize=8)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        bar = figure.add_axes(
            (frame[0] + frame[2] + 0.15 / width, frame[1], 0.12 / width, min(1.4, side * n_rows) / height)
        )
        _draw_cells(bar, np.linspace(1, -1, 40)[:, None], color=BLUE, below=ORANGE, edge=False)
        bar.set_xlim(0, 1)
        bar.set_ylim(40, 0)
        bar.set_xticks([])
        bar.set_yticks([0, 20, 40], [f"+{limit:.2g}", "0", f"\u2212{limit:.2g}"], fontsize=8)
        bar.yaxis.tick_right()
        bar.tick_params(length=0)
        for spine in bar.spines.values():
            spine.set_visible(False)
        bar.set_ylabel(unit, color=MUTED, fontsize=7.5, labelpad=2)
        bar.yaxis.set_label_position("right")
        return svg_of(figure, stamp)


def _draw_cells(axes: Axes, shares: np.ndarray, *, color: str, below: str = "", edge: bool = True) -> None:
    corners = [
        [(column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)]
        for row, column in np.ndindex(*shares.shape)
    ]
    values = shares.ravel()
    # Opacity instead of lightness suits light and dark pages.
    faces = [
        to_rgba(color if value >= 0 else below, min(1.0, abs(float(value))))
        if np.isfinite(value)
        else to_rgba(MUTED, 0.15)
        for value in values
    ]
    axes.add_collection(
        PolyCollection(corners, facecolors=faces, edgecolors=to_rgba(RULE, 0.8) if edge else "none", linewidths=0.4)
    )


def svg_settings() -> Any:
    """Return the matplotlib settings of all charts."""
    # Any: the stubs of matplotlib type every key as a literal.
    return {**_SETTINGS, "font.family": list(families())}


def _shorten(name: str, max_length: int = MAX_NAME) -> str:
    printable = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    return printable if len(printable) <= max_length else printable[: max_length - 1] + "…"


class SvgChart(str):
    """The SVG text of a chart, which can be drawn as PNG as well."""

    _figure: Figure

    def __new__(cls, text: str, figure: Figure) -> "SvgChart":
        """Keep the figure beside its text."""
        chart = super().__new__(cls, text)
        chart._figure = figure
        return chart

    def png(self) -> bytes:
        """Draw the chart on white; equal charts give equal bytes."""
        buffer = io.BytesIO()
        with matplotlib.rc_context(svg_settings()), drawable(self._figure, "png"):
            self._figure.savefig(
                buffer, format="png", dpi=PNG_DPI, facecolor="white", transparent=False, metadata={"Software": None}
            )
        return buffer.getvalue()


def svg_of(figure: Figure, stamp: str) -> SvgChart:
    """Return a chart as SVG text in the light and dark colors of the page.

    Args:
        figure: The finished chart.
        stamp: Label in the corner, such as "forced split"; "" for none.
    """
    if stamp:
        figure.text(0.995, 0.005, stamp, color=ORANGE, fontsize=7.5, ha="right", va="bottom")
    buffer = io.StringIO()
    with drawable(figure, "svg"):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "distangle"})
    text = buffer.getvalue()
    # The document type and the metadata contain remote addresses, which a report must not.
    text = re.sub(r"<!DOCTYPE[^>]*>\s*|\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return SvgChart(text.replace("<defs>", f"<defs><style>{_STYLE}</style>", 1), figure)
