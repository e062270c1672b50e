"""Draw charts as SVG text: no pyplot, no state left behind, same bytes each time."""

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

# Light and dark pairs; blue and orange stay apart for colour-blind eyes.
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
    "text.parse_math": False,  # names of perturbations may hold dollar signs
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
_CURVES = (
    ("accuracy", "Accuracy", (("train_accuracy", "training", BLUE), ("held_out_accuracy", "held out", ORANGE))),
    ("loss", "Loss (nats)", (("train_loss", "training", BLUE), ("held_out_loss", "held out", ORANGE))),
    ("rate", "Learning rate", (("learning_rate", "", INK),)),
)


def training_curves(metrics: pd.DataFrame, *, chance: float | None = None, stamp: str = "") -> dict[str, str]:
    """Draw the training curves, as SVG texts by name: `accuracy`, `loss`, `rate`.

    Args:
        metrics: One row per epoch: `epoch` and any of `train_loss`, `train_accuracy`, `held_out_loss`,
            `held_out_accuracy`, `learning_rate`; what is not there is not drawn.
        chance: Accuracy of guessing, drawn as a dashed line; None for none.
        stamp: Words in the corner, such as "forced split".
    """
    drawn = {}
    for name, title, lines in _CURVES:
        there = [line for line in lines if line[0] in metrics.columns and metrics[line[0]].notna().any()]
        if there:
            at = chance if name == "accuracy" else None
            drawn[name] = _curve(metrics, title, there, chance=at, from_zero=name != "rate", stamp=stamp)
    return drawn


def _curve(
    metrics: pd.DataFrame,
    title: str,
    lines: Sequence[tuple[str, str, str]],
    *,
    chance: float | None,
    from_zero: bool,
    stamp: str,
) -> str:
    with matplotlib.rc_context(svg_settings()):
        drawn = Figure(figsize=(3.5, 2.5), layout="constrained")
        axes = drawn.add_subplot()
        ends: list[tuple[float, float, str, str]] = []
        for column, name, colour in lines:
            known = metrics[metrics[column].notna()]
            marker = "o" if len(known) < 16 else None
            axes.plot(known["epoch"], known[column], color=colour, linewidth=1.8, marker=marker, markersize=3)
            ends.append((float(known["epoch"].iloc[-1]), float(known[column].iloc[-1]), name, colour))
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
        for place, (x, y, name, colour) in enumerate(ends):
            shift = 12 * (place - 0.5) if close else 0.0  # points; names of curves that end together stay apart
            axes.annotate(name, (x, y), xytext=(5, shift), textcoords="offset points", color=colour, va="center")
        axes.set_title(title, pad=8)
        axes.set_xlabel("epoch")
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.locator_params(axis="x", integer=True, nbins=6)
        return svg_of(drawn, stamp)


def confusion_matrix(perturbations: Sequence[str], shares: np.ndarray, *, stamp: str = "") -> str:
    """Draw a confusion matrix, true (row) by predicted (column), as SVG text.

    Args:
        perturbations: Names, in the order of rows and columns.
        shares: [true, predicted] in [0, 1]; rows of NaN had no held-out site.
        stamp: Words in the corner, such as "forced split".
    """
    n = len(perturbations)
    # Room for the longest name; the cells are squares of one size whatever the names.
    side, names = max(2.2, 0.19 * n), 0.062 * max((len(_short(name)) for name in perturbations), default=1) + 0.35
    with matplotlib.rc_context(svg_settings()):
        drawn = Figure(figsize=(side + names + 0.9, side + names + 0.2))
        width, height = drawn.get_size_inches()
        axes = drawn.add_axes((names / width, names / height, side / width, side / height))
        _cells(axes, shares, colour=BLUE)
        ticks = np.arange(n) + 0.5
        axes.set_xticks(ticks, [_short(name) for name in perturbations], rotation=90, fontsize=8)
        axes.set_yticks(ticks, [_short(name) for name in perturbations], fontsize=8)
        axes.set_xlim(0, n)
        axes.set_ylim(n, 0)
        axes.tick_params(length=0)
        axes.set_title("true (row) → predicted (column)", pad=5, color=MUTED)
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_color(RULE)
        bar = drawn.add_axes(((names + side + 0.15) / width, names / height, 0.12 / width, side / height))
        _cells(bar, np.linspace(0, 1, 32)[::-1, None], colour=BLUE, edge=False)
        bar.set_xticks([])
        bar.set_ylim(32, 0)
        bar.set_xlim(0, 1)
        bar.set_yticks([0, 16, 32], ["100 %", "50 %", "0 %"], fontsize=8)
        bar.yaxis.tick_right()
        for spine in bar.spines.values():
            spine.set_visible(False)
        bar.tick_params(length=0)
        return svg_of(drawn, stamp)


@dataclass(frozen=True, kw_only=True)
class ChannelColumn:
    """One quantity per channel, over all explained sites.

    Attributes:
        mean: [channel].
        interval: [channel, 2], low and high; None when unknown.
        null: [channel, 2], range of the null distribution; None when unknown.
        by_group: [channel] of each experiment (plate) by name, where they are too few for an interval.
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
        title: Above the chart.
        unit: On the value axis.
        highlighted: The channel in orange; None for none.
        stamp: Words in the corner, such as "forced split".
    """
    null, intervals = column.null, column.interval
    places = np.arange(len(names))
    with matplotlib.rc_context(svg_settings()):
        drawn = Figure(figsize=(4.6, 0.34 * len(names) + 0.9), layout="constrained")
        axes = drawn.add_subplot()
        colours = [ORANGE if place == highlighted else BLUE for place in places]
        if null is not None:
            axes.barh(places, null[:, 1] - null[:, 0], left=null[:, 0], height=0.78, color=RULE, zorder=1)
        axes.barh(places, column.mean, height=0.42, color=colours, zorder=2)
        if intervals is not None:
            axes.hlines(places, intervals[:, 0], intervals[:, 1], color=INK, linewidth=1.3, zorder=3)
        for values in column.by_group.values():
            axes.plot(values, places, "o", markersize=4, markerfacecolor="none", markeredgecolor=INK, zorder=3)
        axes.set_yticks(places, [_short(name, 28) for name in names], color=INK)
        axes.invert_yaxis()
        axes.axvline(0, color=MUTED, linewidth=0.8, zorder=4)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.set_xlabel(unit)
        axes.set_title(title, pad=8)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        return svg_of(drawn, stamp)


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
        values: [perturbation, channel]; the largest size is drawn at full strength.
        unit: Of the values.
        planted: Channels of each perturbation, counted from 0, that get a frame; empty for none.
        stamp: Words in the corner, such as "forced split".
    """
    n_rows, n_columns = values.shape
    top = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    names = 0.062 * max(len(_short(name)) for name in perturbations) + 0.35
    heads = 0.062 * max(len(_short(name)) for name in channels) + 0.3
    cell, side = 0.42, 0.24
    with matplotlib.rc_context(svg_settings()):
        drawn = Figure(figsize=(names + cell * n_columns + 0.9, heads + side * n_rows + 0.25))
        width, height = drawn.get_size_inches()
        frame = (names / width, 0.2 / height, cell * n_columns / width, side * n_rows / height)
        axes = drawn.add_axes(frame)
        _cells(axes, values / top, colour=BLUE, below=ORANGE)
        for row, marked in enumerate(planted):
            for channel in marked:
                box = Rectangle((channel + 0.06, row + 0.1), 0.88, 0.8, fill=False, edgecolor=INK, linewidth=1.2)
                axes.add_patch(box)
        axes.set_xlim(0, n_columns)
        axes.set_ylim(n_rows, 0)
        axes.set_xticks(np.arange(n_columns) + 0.5, [_short(name) for name in channels], rotation=90, fontsize=8)
        axes.set_yticks(np.arange(n_rows) + 0.5, [_short(name) for name in perturbations], fontsize=8)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        bar = drawn.add_axes(
            (frame[0] + frame[2] + 0.15 / width, frame[1], 0.12 / width, min(1.4, side * n_rows) / height)
        )
        _cells(bar, np.linspace(1, -1, 40)[:, None], colour=BLUE, below=ORANGE, edge=False)
        bar.set_xlim(0, 1)
        bar.set_ylim(40, 0)
        bar.set_xticks([])
        bar.set_yticks([0, 20, 40], [f"+{top:.2g}", "0", f"\u2212{top:.2g}"], fontsize=8)
        bar.yaxis.tick_right()
        bar.tick_params(length=0)
        for spine in bar.spines.values():
            spine.set_visible(False)
        drawn.text(0.995, 0.995, unit, color=MUTED, fontsize=7.5, ha="right", va="top")
        return svg_of(drawn, stamp)


def _cells(axes: Axes, shares: np.ndarray, *, colour: str, below: str = "", edge: bool = True) -> None:
    corners = [
        [(column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)]
        for row, column in np.ndindex(*shares.shape)
    ]
    values = shares.ravel()
    # Opacity, not lightness: the page shows through, light or dark.
    faces = [
        to_rgba(colour if value >= 0 else below, min(1.0, abs(float(value))))
        if np.isfinite(value)
        else to_rgba(MUTED, 0.15)
        for value in values
    ]
    axes.add_collection(
        PolyCollection(corners, facecolors=faces, edgecolors=to_rgba(RULE, 0.8) if edge else "none", linewidths=0.4)
    )


def svg_settings() -> Any:
    """Return matplotlib's settings of every chart."""
    # Any: matplotlib's stubs spell every key of its settings as a literal.
    return {**_SETTINGS, "font.family": list(families())}


def _short(name: str, most: int = 24) -> str:
    plain = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def svg_of(drawn: Figure, stamp: str) -> str:
    """Return a finished chart as SVG text in the colours of the page, light and dark.

    Args:
        drawn: The chart.
        stamp: Words in the corner, such as "forced split"; "" for none.
    """
    if stamp:
        drawn.text(0.995, 0.005, stamp, color=ORANGE, fontsize=7.5, ha="right", va="bottom")
    written = io.StringIO()
    with drawable(drawn, "svg"):
        drawn.savefig(written, format="svg", metadata={"Date": None, "Creator": "distangle"})
    text = written.getvalue()
    # The document type and the metadata name remote addresses; nothing in a report may.
    text = re.sub(r"<!DOCTYPE[^>]*>\s*|\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return text.replace("<defs>", f"<defs><style>{_STYLE}</style>", 1)
