"""Draw figure 9: embeddings of the held-out sites of a few perturbations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from distangle.errors import RunError
from distangle.report.charts import INK, MUTED
from distangle.report.data import ReportData
from distangle.report.paper.figure import PaperFigure, UnavailableFigure, drawing
from distangle.report.paper.panels import (
    band,
    coordinates,
    group_by_run,
    half_span,
    label_runs,
    main_map,
    mean_line,
    projection_label,
    run_title,
    square,
    strip_plot,
    write_below,
)
from distangle.results import TemplateComparison

TITLE = "Embeddings of the held-out sites"
TRAINING_TITLE = "Embeddings of training sites"
# The color-blind safe palette of Okabe and Ito, with a marker for each color.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#1d2733", "#999999")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")


def draw(data: ReportData) -> PaperFigure | UnavailableFigure:
    """Draw the embeddings of the chosen perturbations, with their silhouettes.

    Source: Fig. 9
    """
    try:
        comparison = TemplateComparison.read(data.run.explanations)
    except RunError:
        command = f"distangle explain {data.command_path}"
        return UnavailableFigure(title=TITLE, reason="The embeddings have not been compared.", command=command)
    runs, names = group_by_run(comparison.numbers), list(comparison.numbers["perturbations"]["names"])
    projection = main_map(comparison.maps, "embeddings")
    sets = [comparison.embeddings[comparison.embeddings["run"] == name] for name, _ in runs]
    with drawing():
        figure = Figure(figsize=(2.6 * (len(runs) + 1), 3.5), layout="constrained")
        panels = figure.subplots(1, len(runs) + 1)
        half = half_span([coordinates(own_rows, projection["name"]) for own_rows in sets])
        for axes, own_rows, (name, kind) in zip(panels, sets, runs, strict=False):
            _draw_map(axes, own_rows, names, projection["name"], half)
            axes.set_title(run_title(name, kind), color=INK)
            trust = projection["trustworthiness_of"][name]
            write_below(
                axes, f"{projection_label(projection)}\n" + ("" if trust is None else f"trustworthiness {trust:.2f}")
            )
        _draw_silhouettes(panels[-1], comparison.numbers["embeddings"], sets, runs, names)
        handles = [
            Line2D([], [], linestyle="none", marker=marker, color=color, markersize=6, label=name)
            for name, marker, color in zip(names, _cycle(MARKERS), _cycle(COLORS), strict=False)
        ]
        columns = min(len(names), 4 if len(runs) > 1 else 3)
        figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8.5, labelcolor=MUTED
        )
    order = [run["name"] for run in comparison.numbers["runs"]]  # of the difference; the panels can have another order
    numbers = {"perturbations": comparison.numbers["perturbations"], **comparison.numbers["embeddings"]}
    trained_on = comparison.numbers.get("trained_on", [])
    caption = _caption(numbers, runs, order, n_wells=_drawn_wells(sets[0]), trained_on=bool(trained_on))
    caption = f"{_choice_sentence(numbers['perturbations'], len(data.screen.metadata.perturbations))} {caption}"
    if trained_on and len(runs) > 1:
        caption += f" Runs that were trained on these sites: {', '.join(trained_on)}."
    return PaperFigure(figure=figure, title=TRAINING_TITLE if trained_on else TITLE, caption=caption, numbers=numbers)


def _draw_map(axes: Axes, embeddings: pd.DataFrame, names: Sequence[str], name: str, half: float) -> None:
    points, labels = coordinates(embeddings, name), embeddings["perturbation"].to_numpy(dtype=object)
    for label, marker, color in zip(names, _cycle(MARKERS), _cycle(COLORS), strict=False):
        is_label = labels == label
        axes.plot(
            points[is_label, 0],
            points[is_label, 1],
            linestyle="none",
            marker=marker,
            color=color,
            markersize=float(np.clip(50 / np.sqrt(len(embeddings)), 2.5, 6)),
            markeredgecolor="white",
            markeredgewidth=0.4,
            alpha=0.9,
        )
    square(axes, points, half)


def _draw_silhouettes(
    axes: Axes,
    numbers: Mapping[str, Any],
    sets: Sequence[pd.DataFrame],
    runs: Sequence[tuple[str, str]],
    names: Sequence[str],
) -> None:
    step = 0.8 / max(len(names), 1)
    for column, (embeddings, (name, _)) in enumerate(zip(sets, runs, strict=True)):
        band(axes, float(column), numbers[name]["silhouette"]["random_range"])
        mean_line(axes, float(column), numbers[name]["silhouette"]["value"])
        for k, (label, marker, color) in enumerate(zip(names, _cycle(MARKERS), _cycle(COLORS), strict=False)):
            values = embeddings.loc[embeddings["perturbation"] == label, "silhouette"].to_numpy(dtype=float)
            position = column - 0.4 + step * (k + 0.5)
            size = float(np.clip(24 / np.sqrt(len(embeddings)), 1.8, 4))
            strip_plot(axes, position, values, width=0.4 * step, marker=marker, color=color, markersize=size, zorder=3)
    axes.use_sticky_edges = False
    axes.autoscale_view()
    label_runs(axes, runs)
    axes.set_title("silhouette of each site", color=INK)
    write_below(axes, "grey: mean with shuffled labels\nline: mean")


def _cycle(items: Sequence[str]) -> list[str]:
    return list(items) * 8


def _drawn_wells(embeddings: pd.DataFrame) -> dict[str, int]:
    """Count the wells that are drawn, by perturbation."""
    keys = ["Metadata_Experiment", "Metadata_Plate", "Metadata_Well"]
    wells = embeddings.drop_duplicates([*keys, "perturbation"])
    return {str(name): int(n) for name, n in wells["perturbation"].value_counts().items()}


def _choice_sentence(perturbations: Mapping[str, Any], n_total: int) -> str:
    """Say how many perturbations are drawn, and that `explain` chose them."""
    n = len(perturbations["names"])
    if n >= n_total:
        return f"All {n_total:,} perturbations of the screen."
    return (
        f"Only {n} of the {n_total:,} perturbations of the screen: those that `distangle explain` compares, by default "
        "the ones with the most wells."
    )


def _caption(
    numbers: Mapping[str, Any],
    runs: Sequence[tuple[str, str]],
    order: Sequence[str],
    *,
    n_wells: Mapping[str, int],
    trained_on: bool,
) -> str:
    perturbations = numbers["perturbations"]
    kind = "wells" if trained_on else "held-out wells"
    wells = ", ".join(f"{name} ({n_wells.get(name, 0)} {kind})" for name in perturbations["names"])
    text = f"Drawn: {wells}."
    if perturbations["tied"]:
        tied_names = ", ".join(perturbations["tied"][:4]) + (", ..." if len(perturbations["tied"]) > 4 else "")
        n_tied = len(perturbations["tied"])
        text += f" {n_tied} more have as many wells as the last ({tied_names}); ties are broken by name."
    parts = []
    for name, kind in runs:
        silhouette, purity = numbers[name]["silhouette"], numbers[name]["purity"]
        low, high = silhouette["random_range"]
        interval = silhouette["interval"]
        interval_text = f", 95 % over experiments {interval[0]:.2f} to {interval[1]:.2f}" if interval else ""
        parts.append(
            f"{f'{name} ({kind})' if kind else name}: silhouette {silhouette['value']:.2f}{interval_text} "
            f"(shuffled labels {low:.2f} to {high:.2f}, p = {silhouette['p']:.2g}); "
            f"{purity['value']:.0%} of the {numbers[name]['k']} nearest sites of other wells have the same "
            f"perturbation (shuffled {purity['random']:.0%})."
        )
    text += " " + " ".join(parts)
    if "difference" in numbers:
        gain = numbers["difference"]["silhouette"]
        interval = gain["interval"]
        interval_text = (
            f"95 % over experiments {interval[0]:+.2f} to {interval[1]:+.2f}" if interval else "too few experiments"
        )
        text += f" Silhouette of {order[1]} minus that of {order[0]}: {gain['value']:+.2f} ({interval_text})."
    return text
