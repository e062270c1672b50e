"""Draw figures 7 and 8: templates of the two heads, unused classes in blue."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distangle.errors import RunError, brief
from distangle.report.charts import BLUE, INK, MUTED, ORANGE
from distangle.report.data import ReportData
from distangle.report.paper.figure import PaperFigure, UnavailableFigure, drawing
from distangle.report.paper.panels import (
    band,
    coordinates,
    group_by_run,
    half_span,
    label_runs,
    main_map,
    map_named,
    mean_line,
    name_points,
    projection_label,
    run_title,
    square,
    strip_plot,
    write_below,
)
from distangle.results import TemplateComparison

TITLES = {"arc": "Templates of the arc-margin head", "softmax": "Templates of the softmax head"}
MAX_NAMES = 40  # names that a panel can hold
MAX_NEAREST = 4  # names in the panel of angles
TRAINED_STYLE: Mapping[str, Any] = {"marker": "o", "color": ORANGE, "markeredgecolor": "white", "markeredgewidth": 0.4}
UNUSED_STYLE: Mapping[str, Any] = {"marker": "D", "color": BLUE, "markeredgecolor": "white", "markeredgewidth": 0.4}
UNUSED_NOTE = (
    "Training only pushes the weights of an unused output away, so unused classes fall together with and without "
    "pseudo labels; their separation is evidence for neither."
)


def draw_arc(data: ReportData) -> PaperFigure | UnavailableFigure:
    """Draw the templates of the arc head.

    Source: Fig. 7
    """
    return _draw(data, "arc")


def draw_softmax(data: ReportData) -> PaperFigure | UnavailableFigure:
    """Draw the templates of the softmax head.

    Source: Fig. 8
    """
    return _draw(data, "softmax")


def _draw(data: ReportData, head: str) -> PaperFigure | UnavailableFigure:
    try:
        comparison = TemplateComparison.read(data.run.explanations)
    except RunError:
        command = f"distangle explain {data.command_path}"
        return UnavailableFigure(title=TITLES[head], reason="The templates have not been compared.", command=command)
    table = comparison.templates[comparison.templates["head"] == head]
    runs = group_by_run(comparison.numbers)
    main_projection, pca = main_map(comparison.maps, "templates"), map_named(comparison.maps, "templates", "pca")
    rows = [main_projection] if pca is None or main_projection["name"] == "pca" else [main_projection, pca]
    sets = [table[table["run"] == name] for name, _ in runs]
    with drawing():
        width = 3.1 * len(runs) + 2.45
        figure = Figure(figsize=(width, 3.2 * len(rows) + 0.35), layout="constrained")
        ratios = [1.25] * len(runs) + [1.0]
        grid = figure.subplots(len(rows), len(runs) + 1, squeeze=False, width_ratios=ratios)
        for index, projection in enumerate(rows):
            half = half_span([coordinates(own_rows, projection["name"]) for own_rows in sets])
            for axes, own_rows, (name, kind) in zip(grid[index], sets, runs, strict=False):
                _draw_map(axes, own_rows, projection["name"], half)
                if index == 0:
                    axes.set_title(run_title(name, kind), color=INK)
                trust = projection["trustworthiness_of"][f"{name}, {head}"]
                write_below(
                    axes,
                    f"{projection_label(projection)}\n" + ("" if trust is None else f"trustworthiness {trust:.2f}"),
                )
        _draw_angles(grid[0, -1], comparison, sets, runs, head)
        if len(rows) > 1:
            _draw_norms(grid[1, -1], sets, runs)
        _draw_legend(figure, table)
    numbers = _numbers(comparison, head, runs)
    return PaperFigure(
        figure=figure, title=TITLES[head], caption=_caption(numbers, comparison, head, runs), numbers=numbers
    )


def _draw_map(axes: Axes, templates: pd.DataFrame, name: str, half: float) -> None:
    points, unused = coordinates(templates, name), templates["unused"].to_numpy(dtype=bool)
    size = float(np.clip(60 / np.sqrt(len(templates)), 2.5, 6.5))
    for is_kind, style in ((~unused, TRAINED_STYLE), (unused, UNUSED_STYLE)):
        axes.plot(points[is_kind, 0], points[is_kind, 1], linestyle="none", markersize=size, **style)
    square(axes, points, 1.12 * half)
    if len(templates) <= MAX_NAMES:
        name_points(axes, points, [str(name) for name in templates["perturbation"]])


def _draw_angles(
    axes: Axes, comparison: TemplateComparison, sets: Sequence[pd.DataFrame], runs: Sequence[tuple[str, str]], head: str
) -> None:
    for column, (templates, (name, _)) in enumerate(zip(sets, runs, strict=True)):
        numbers = comparison.numbers["templates"].get(name, {}).get(head)
        if numbers is not None:
            # Only the columns of trained templates: the random angle depends on their number.
            middle, width = (column - 0.16, 0.2) if templates["unused"].any() else (float(column), 0.4)
            band(axes, middle, numbers["nearest_angle_deg_mean"]["random_range"], width=width)
            mean_line(axes, middle, numbers["nearest_angle_deg_mean"]["value"], width=width)
        _draw_strip(axes, float(column), templates, "nearest_alike_angle_deg")
    label_runs(axes, runs)
    axes.use_sticky_edges = False
    axes.autoscale_view()
    if len(sets) == 1:
        _name_nearest(axes, sets[0])
    axes.set_title("angle to the nearest\nother template (°)", color=INK)
    write_below(axes, "line: mean of the trained\ngrey: mean of random templates")


def _name_nearest(axes: Axes, templates: pd.DataFrame) -> None:
    """Name the templates with the smallest angles, beside their dots."""
    lowest = templates.sort_values("nearest_alike_angle_deg").head(MAX_NEAREST)
    low, high = axes.get_ylim()
    last = -np.inf
    for name, angle in zip(lowest["perturbation"], lowest["nearest_alike_angle_deg"], strict=True):
        if not np.isfinite(angle):
            continue
        last = max(float(angle), last + 0.045 * (high - low))
        axes.text(0.24, last, brief(str(name), max_length=14), fontsize=6.5, color=INK, va="center", zorder=5)


def _draw_norms(axes: Axes, sets: Sequence[pd.DataFrame], runs: Sequence[tuple[str, str]]) -> None:
    for column, templates in enumerate(sets):
        _draw_strip(axes, float(column), templates, "norm")
    label_runs(axes, runs)
    axes.set_ylim(0, 1.08 * max(float(templates["norm"].max()) for templates in sets))
    axes.set_title("length of the template", color=INK)


def _draw_strip(axes: Axes, position: float, templates: pd.DataFrame, column: str) -> None:
    unused = templates["unused"].to_numpy(dtype=bool)
    values = templates[column].to_numpy(dtype=float)
    size = float(np.clip(30 / np.sqrt(len(templates)), 2, 4.5))
    for is_kind, style, shift in ((~unused, TRAINED_STYLE, -0.16), (unused, UNUSED_STYLE, 0.2)):
        if np.isfinite(values[is_kind]).any():
            strip_plot(
                axes,
                position + (shift if unused.any() else 0),
                values[is_kind],
                width=0.13,
                markersize=size,
                zorder=3,
                **style,
            )


def _draw_legend(figure: Figure, table: pd.DataFrame) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linestyle="none", markersize=6, label="trained", **TRAINED_STYLE)]
    if table["unused"].any():
        handles.append(
            Line2D([], [], linestyle="none", markersize=6, label="unused class: no training well", **UNUSED_STYLE)
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8.5, labelcolor=MUTED)


def _numbers(comparison: TemplateComparison, head: str, runs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    numbers: dict[str, Any] = {}
    for name, kind in runs:
        spread = comparison.numbers["templates"].get(name, {}).get(head)
        trained = comparison.numbers["unused"][name][head]["trained"]
        initial = comparison.numbers["unused"][name][head]["first_values"]
        numbers[name] = {
            "pseudo_labels": kind,
            "nearest_angle_deg": None if spread is None else spread["nearest_angle_deg_mean"],
            "simplex_gap": None if spread is None else spread["simplex_gap"],
            "unused": trained,
            "unused_cosine_untrained": None if initial is None else initial["cosine_unused_unused"],
        }
    return numbers


def _caption(
    numbers: dict[str, Any], comparison: TemplateComparison, head: str, runs: Sequence[tuple[str, str]]
) -> str:
    parts = []
    for name, kind in runs:
        entry = numbers[name]
        angle = entry["nearest_angle_deg"]
        text = f"{name} ({kind})" if kind else name
        if angle is not None:
            low, high = angle["random_range"]
            text += (
                f": {angle['value']:.1f}° to the nearest other trained template on average (random {low:.1f} to "
                f"{high:.1f}°)"
            )
        unused = entry["unused"]
        if unused is not None:
            text += (
                f"; {unused['n_unused']} unused classes separated from the {unused['n_real']} others with AUROC "
                f"{unused['auroc_mean_cosine']:.2f} by mean cosine, {unused['auroc_norm']:.2f} by length"
            )
            if unused["cosine_unused_unused"] is not None:
                text += (
                    f", their cosine to each other {unused['cosine_unused_unused']:.2f} "
                    f"({entry['unused_cosine_untrained']:.2f} before training)"
                )
        parts.append(f"{text}.")
    sets = "both heads" if len(runs) == 1 else f"both heads of the runs {' and '.join(name for name, _ in runs)}"
    trust = [
        projection["trustworthiness"]
        for projection in comparison.maps
        if projection["source"] == "templates" and projection["trustworthiness"]
    ]
    lead = (
        f"One projection of {sets}, split into panels of one scale; its distances have no meaning, so read the "
        "numbers. "
        f"{len(trust)} projections were made (trustworthiness {min(trust):.2f} to {max(trust):.2f}). "
        if trust
        else ""
    )
    any_unused = any(numbers[name]["unused"] is not None for name, _ in runs)
    return (
        lead
        + " ".join(parts)
        + (f" {UNUSED_NOTE}" if any_unused else " Every output has training wells, so there is no unused class.")
    )
