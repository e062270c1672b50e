"""The charts of the tests that a map has to stand."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from distangle.report.charts import BLUE, RULE, svg_of, svg_settings

Line = tuple[Sequence[float], Sequence[float], str]  # across, up, colour


def share_curves(lines: Mapping[str, Line], *, title: str, across: str, up: str, stamp: str = "") -> str:
    """Draw curves over a share from 0 to 1, each named at its end, as SVG text.

    Args:
        lines: Name to what is drawn.
        title: Above.
        across: Of the horizontal axis.
        up: Of the vertical axis.
        stamp: Words in the corner, such as "forced split".
    """
    with matplotlib.rc_context(svg_settings()):
        drawn = Figure(figsize=(4.6, 3.0), layout="constrained")
        axes = drawn.add_subplot()
        ends = sorted((ys[-1], name, colour) for name, (_, ys, colour) in lines.items())
        for xs, ys, colour in lines.values():
            axes.plot(xs, ys, color=colour, linewidth=1.8)
        axes.set_ylim(bottom=0)
        low, high = axes.get_ylim()
        at = -np.inf
        for y, name, colour in ends:
            at = max(y, at + 0.07 * (high - low))  # names of curves that end together stay apart
            axes.annotate(
                name, (1.0, at), xytext=(5, 0), textcoords="offset points", color=colour, va="center",
                annotation_clip=False,
            )  # fmt: skip
        axes.set_xlim(0, 1)
        axes.set_title(title, pad=8)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        return svg_of(drawn, stamp)


def cascade(
    stages: Sequence[str],
    means: np.ndarray,
    *,
    null: tuple[np.ndarray, np.ndarray],
    title: str,
    up: str,
    stamp: str = "",
) -> str:
    """Draw the similarity after each stage, over that of random maps, as SVG text.

    Args:
        stages: Names, in the order in which weights were drawn anew.
        means: Of each stage.
        null: Low and high end of random maps at each stage.
        title: Above.
        up: Of the vertical axis.
        stamp: Words in the corner, such as "forced split".
    """
    with matplotlib.rc_context(svg_settings()):
        drawn = Figure(figsize=(4.6, 3.0), layout="constrained")
        axes = drawn.add_subplot()
        at = np.arange(len(stages) + 1)
        low, high = (np.concatenate([edge[:1], edge]) for edge in null)
        axes.fill_between(at, low, high, color=RULE, linewidth=0, zorder=1)
        axes.plot(at, np.concatenate([[1.0], means]), "o-", color=BLUE, linewidth=1.6, markersize=4, zorder=2)
        axes.axhline(0, color=RULE, linewidth=0.8, zorder=0)
        axes.set_xticks(at, ["trained", *stages], rotation=40, ha="right", fontsize=7.5)
        axes.set_ylim(min(-0.2, float(low.min()), float(means.min())) - 0.05, 1.05)
        axes.set_title(title, pad=8)
        axes.set_ylabel(up)
        return svg_of(drawn, stamp)
