"""Draw training curves, confusion and channels of a run."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distangle.errors import ConfigError, RunError
from distangle.plot.canvas import NotebookFigure, RunLike, canvas, open_run, run_metadata, style
from distangle.report.charts import ChannelColumn, curve_names, draw_channels, draw_confusion, draw_curves
from distangle.report.data import main_row, read_metrics
from distangle.report.sections.channels import channel_column, unit_of
from distangle.results.confusion import read_confusion
from distangle.results.explanation import STANDS_OUT, Explanation
from distangle.results.scores import Scores
from distangle.screen import channel_labels


def training(run: RunLike, *, curve: str | None = None, ax: Axes | None = None) -> Figure:
    """Draw the training curves.

    Args:
        run: A run, or its folder.
        curve: `accuracy`, `loss` or `rate`; None draws all that the run has, or the first of them into `ax`.
        ax: Axes to draw into; None for a new figure.

    Raises:
        ConfigError: The run has no such curve.
        RunError: No epoch was recorded.
    """
    run = open_run(run)
    metrics = read_metrics(run)
    if metrics is None:
        raise RunError(f"{run.root} has no curve: no epoch was recorded. Train it: `distangle train SCREEN --out RUN`.")
    available = curve_names(metrics)
    if curve is not None and curve not in available:
        raise ConfigError(f"{run.root} has no curve {curve!r}. Expected one of {', '.join(available)}.")
    row = main_row(Scores.read(run.scores)) if run.scores.exists() else None
    chance = None if row is None else row.chance

    def draw(axes: Axes, name: str) -> None:
        title, lines = available[name]
        draw_curves(
            axes, metrics, title, lines, chance=chance if name == "accuracy" else None, from_zero=name != "rate"
        )

    names = [curve] if curve is not None else list(available)
    if ax is not None or len(names) == 1:
        with canvas(ax, width=4.0, height=2.8) as (figure, axes):
            draw(axes, names[0])
            return figure
    with style():
        wide = NotebookFigure(figsize=(3.6 * len(names), 2.7), layout="constrained")
        for axes, name in zip(wide.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            draw(axes, name)
        return wide


def confusion(run: RunLike, *, ax: Axes | None = None) -> Figure:
    """Draw the confusion matrix of the held-out sites.

    The color is the share of the sites of each true perturbation, blue for all.

    Args:
        run: A run, or its folder.
        ax: Axes to draw into; None for a new figure.

    Raises:
        RunError: The run has no scores, or too many perturbations for a matrix.
    """
    run = open_run(run)
    counts = read_confusion(Scores.read(run.scores).confusion)
    if counts.matrix is None or not len(counts.perturbations):
        raise RunError(
            f"{run.root} has no confusion matrix: {len(counts.perturbations):,} perturbations were scored. A matrix is "
            "kept of few; `distangle report` lists the most frequent errors."
        )
    totals = counts.matrix.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, counts.matrix / np.maximum(totals, 1), np.nan)
    side = max(3.0, 0.22 * len(shares) + 1.2)
    with canvas(ax, width=side, height=side) as (figure, axes):
        draw_confusion(axes, counts.perturbations, shares)
        axes.set_aspect("equal")
        return figure


def channels(run: RunLike, *, perturbation: str | None = None, ax: Axes | None = None) -> Figure:
    """Draw the mean Shapley value of every channel, with its null and interval.

    The null (grey) has the channels shuffled; rings are experiments or plates. A channel that stands out is orange.

    Args:
        run: A run with explanations, or its folder.
        perturbation: Sites explained as this perturbation; None for all explained sites.
        ax: Axes to draw into; None for a new figure.

    Raises:
        ConfigError: No site was explained as that perturbation; those that were are named.
        RunError: The run has no explanation, or no Shapley values.
    """
    run = open_run(run)
    explanation = Explanation.read(run.explanations)
    labels = channel_labels(run_metadata(run).channels)
    column = channel_column(explanation, "shapley", len(labels))
    highlighted = None
    if perturbation is not None:
        column = _of_perturbation(explanation, perturbation)
    elif column is not None and explanation.p_of_top <= STANDS_OUT:
        highlighted = int(np.nanargmax(column.mean))
    if column is None:
        raise RunError(
            f"{run.root} has no Shapley values of its {len(labels)} channels. Explain it: `distangle explain RUN`."
        )
    title = "Mean channel Shapley value" + (f", {perturbation}" if perturbation else "")
    with canvas(ax, width=4.8, height=0.34 * len(labels) + 1.0) as (figure, axes):
        draw_channels(axes, labels, column, title=title, unit=unit_of(explanation), highlighted=highlighted)
        return figure


def _of_perturbation(explanation: Explanation, name: str) -> ChannelColumn:
    """Return the channels of one perturbation.

    Raises:
        ConfigError: It was not explained.
    """
    summary: Mapping[str, Any] = explanation.summary.get("perturbations", {})
    if name not in summary:
        raise ConfigError(
            f"No site was explained as {name!r}. Expected one of {', '.join(map(str, summary))}. Explain sites of it: "
            f"`distangle explain RUN --only perturbation={name}`."
        )
    shapley = summary[name]["shapley"]
    arrays = {part: None if shapley.get(part) is None else np.array(shapley[part]) for part in ("interval", "null")}
    groups = {str(group): np.array(values, dtype=np.float64) for group, values in shapley.get("by_group", {}).items()}
    return ChannelColumn(mean=np.array(shapley["mean"], dtype=np.float64), by_group=groups, **arrays)
