"""Draw panels of 2-D projections of templates and embeddings, and strip plots."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from distangle.errors import brief
from distangle.report.charts import INK, MUTED, RULE

NAMES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


def main_map(maps: Sequence[Mapping[str, Any]], kind: str) -> Mapping[str, Any]:
    """Return the main projection: t-SNE of the largest perplexity, first seed.

    Args:
        maps: Projections of a `TemplateComparison`.
        kind: `templates` or `embeddings`.
    """
    projections = [projection for projection in maps if projection["source"] == kind]
    tsne = [projection for projection in projections if projection["method"] == "tsne"]
    return max(tsne, key=lambda projection: (projection["neighbors"], -projection["seed"])) if tsne else projections[0]


def map_named(maps: Sequence[Mapping[str, Any]], kind: str, name: str) -> Mapping[str, Any] | None:
    """Return the projection of a name; None if it was not made."""
    return next(
        (projection for projection in maps if projection["source"] == kind and projection["name"] == name), None
    )


def projection_label(projection: Mapping[str, Any]) -> str:
    """Return the label of a projection, such as `t-SNE, perplexity 30, seed 0`."""
    if projection["method"] == "pca":
        return "PCA"
    parameter = "perplexity" if projection["method"] == "tsne" else "neighbors"
    return f"{NAMES[projection['method']]}, {parameter} {projection['neighbors']}, seed {projection['seed']}"


def group_by_run(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and title of each run, those without pseudo labels first.

    A single run needs no title: it is not compared with another.
    """
    runs = [
        (run["name"], "without pseudo labels" if run["pseudo_labels"] == "none" else "with pseudo labels")
        for run in numbers["runs"]
    ]
    if len(runs) == 1:
        return [(runs[0][0], "")]
    return sorted(runs, key=lambda run: run[1] != "without pseudo labels")


def run_title(name: str, kind: str) -> str:
    """Return the title of the panel of a run."""
    return f"{kind}\n({name})" if kind else name


def label_runs(axes: Axes, runs: Sequence[tuple[str, str]]) -> None:
    """Name the columns of a panel with a column per run; a single one has no name."""
    labels = [kind.replace(" pseudo", "\npseudo") for _, kind in runs]
    axes.set_xticks(range(len(runs)) if any(labels) else [], labels if any(labels) else [], color=INK, fontsize=8)
    axes.set_xlim(-0.6, len(runs) - 0.4)


def name_points(axes: Axes, points: np.ndarray, names: Sequence[str]) -> None:
    """Write the name of every point beside it, away from its nearest neighbor.

    Args:
        axes: Axes with final limits.
        points: [point, 2].
        names: One per point.
    """
    for index, (point, name) in enumerate(zip(points, names, strict=True)):
        others = np.delete(points, index, axis=0)
        above = True
        if len(others):
            nearest = others[np.argmin(((others - point) ** 2).sum(axis=1))]
            above = bool(point[1] >= nearest[1])
        axes.annotate(
            brief(name, max_length=14), tuple(point), xytext=(0, 5 if above else -5), textcoords="offset points",
            ha="center", va="bottom" if above else "top", fontsize=6.5, color=INK,
        )  # fmt: skip


def coordinates(table: pd.DataFrame, name: str) -> np.ndarray:
    """Return the coordinates of the rows of a table on a projection, [row, 2]."""
    return table[[f"{name}_x", f"{name}_y"]].to_numpy(dtype=float)


def half_span(sets: Sequence[np.ndarray]) -> float:
    """Return half the side of a square that holds every set around its center."""
    radii = [float(np.abs(points - center(points)).max()) for points in sets if len(points)]
    return 1.08 * max(radii, default=1.0) or 1.0


def center(points: np.ndarray) -> np.ndarray:
    """Return the center of the bounding box of points."""
    return np.asarray((points.min(axis=0) + points.max(axis=0)) / 2)


def square(axes: Axes, points: np.ndarray, half: float) -> None:
    """Make a panel a square around points, without tick labels."""
    x, y = center(points)
    axes.set_xlim(x - half, x + half)
    axes.set_ylim(y - half, y + half)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(RULE)


def write_below(axes: Axes, text: str) -> None:
    """Write a caption below a panel."""
    axes.set_xlabel(text, color=MUTED, fontsize=8, labelpad=4)


def strip_plot(axes: Axes, position: float, values: np.ndarray, *, width: float = 0.3, **style: Any) -> None:
    """Draw values as dots in a column, close ones next to each other.

    Args:
        axes: Axes to draw on.
        position: Center of the column.
        values: One value per dot.
        width: Half the width of the column.
        style: Style of the dots.
    """
    order = np.argsort(values, kind="stable")
    spread = np.ptp(values) or 1.0
    n_close = np.array([(np.abs(values - value) < 0.06 * spread).sum() for value in values])
    # Steps of the golden ratio separate similar values without random numbers.
    fractions = (np.arange(len(values)) * 0.618034) % 1 - 0.5
    offsets = np.empty(len(values))
    offsets[order] = fractions * 2 * width * np.minimum(1, (n_close[order] - 1) / 3)
    axes.plot(position + offsets, values, linestyle="none", **style)


def band(axes: Axes, position: float, low_high: Sequence[float], *, width: float = 0.42) -> None:
    """Draw a chance range as a grey box behind a column."""
    low, high = low_high
    axes.bar(position, high - low, bottom=low, width=2 * width, color=RULE, zorder=0)


def mean_line(axes: Axes, position: float, value: float, *, width: float = 0.42) -> None:
    """Draw a mean as a line across a column."""
    axes.hlines(value, position - width, position + width, color=INK, linewidth=1.4, zorder=4)
