"""Draw figures 7 and 8: templates of the two heads, unused classes in blue."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distangle.errors import RunError
from distangle.report.charts import BLUE, INK, MUTED, ORANGE
from distangle.report.data import ReportData
from distangle.report.paper.figure import PaperFigure, UnavailableFigure, drawing
from distangle.report.paper.panels import (
    band,
    below,
    group_by_run,
    half_span,
    main_map,
    map_named,
    mean_line,
    places,
    projection_label,
    square,
    strip_plot,
)
from distangle.results import TemplateComparison

TITLES = {"arc": "Templates of the arc-margin head", "softmax": "Templates of the softmax head"}
REAL: Mapping[str, Any] = {"marker": "o", "color": ORANGE, "markeredgecolor": "white", "markeredgewidth": 0.4}
JUNK: Mapping[str, Any] = {"marker": "D", "color": BLUE, "markeredgecolor": "white", "markeredgewidth": 0.4}
PUSHED = (
    "An output that no site has is only pushed away, so junk classes fall together with and without pseudo labels: "
    "that they lie apart speaks for neither."
)


def draw_arc(material: ReportData) -> PaperFigure | UnavailableFigure:
    """Draw the templates of the arc head.

    Source: Fig. 7
    """
    return _draw(material, "arc")


def draw_softmax(material: ReportData) -> PaperFigure | UnavailableFigure:
    """Draw the templates of the softmax head.

    Source: Fig. 8
    """
    return _draw(material, "softmax")


def _draw(material: ReportData, head: str) -> PaperFigure | UnavailableFigure:
    try:
        found = TemplateComparison.read(material.run.explanations)
    except RunError:
        command = f"distangle explain {material.typed}"
        return UnavailableFigure(title=TITLES[head], reason="The templates have not been compared.", command=command)
    table = found.templates[found.templates["head"] == head]
    runs = group_by_run(found.numbers)
    shown, pca = main_map(found.maps, "templates"), map_named(found.maps, "templates", "pca")
    rows = [shown] if pca is None or shown["name"] == "pca" else [shown, pca]
    sets = [table[table["run"] == name] for name, _ in runs]
    with drawing():
        width = 2.45 * (len(runs) + 1)
        figure = Figure(figsize=(width, 2.85 * len(rows) + 0.35), layout="constrained")
        grid = figure.subplots(len(rows), len(runs) + 1, squeeze=False)
        for line, one in enumerate(rows):
            half = half_span([places(own, one["name"]) for own in sets])
            for axes, own, (name, kind) in zip(grid[line], sets, runs, strict=False):
                _map(axes, own, one["name"], half)
                if line == 0:
                    axes.set_title(f"{kind}\n({name})", color=INK)
                trust = one["trustworthiness_of"][f"{name}, {head}"]
                below(axes, f"{projection_label(one)}\n" + ("" if trust is None else f"trustworthiness {trust:.2f}"))
        _angles(grid[0, -1], found, sets, runs, head)
        if len(rows) > 1:
            _norms(grid[1, -1], sets, runs)
        _legend(figure, table)
    numbers = _numbers(found, head, runs)
    return PaperFigure(figure=figure, title=TITLES[head], caption=_caption(numbers, found, head, runs), numbers=numbers)


def _map(axes: Axes, own: pd.DataFrame, name: str, half: float) -> None:
    points, junk = places(own, name), own["unused"].to_numpy(dtype=bool)
    size = float(np.clip(60 / np.sqrt(len(own)), 2.5, 6.5))
    for chosen, style in ((~junk, REAL), (junk, JUNK)):
        axes.plot(points[chosen, 0], points[chosen, 1], linestyle="none", markersize=size, **style)
    square(axes, points, half)


def _angles(
    axes: Axes, found: TemplateComparison, sets: Sequence[pd.DataFrame], runs: Sequence[tuple[str, str]], head: str
) -> None:
    for at, (own, (name, _)) in enumerate(zip(sets, runs, strict=True)):
        said = found.numbers["templates"].get(name, {}).get(head)
        if said is not None:
            # The columns of trained templates only: chance gives other angles for another number of them.
            middle, width = (at - 0.16, 0.2) if own["unused"].any() else (float(at), 0.4)
            band(axes, middle, said["nearest_angle_deg_mean"]["random_range"], width=width)
            mean_line(axes, middle, said["nearest_angle_deg_mean"]["value"], width=width)
        _strip(axes, float(at), own, "nearest_alike_angle_deg")
    _columns(axes, runs)
    axes.use_sticky_edges = False
    axes.autoscale_view()
    axes.set_title("full space: angle to the\nnearest other of its kind (°)", color=INK)
    below(axes, "line: mean of the trained\ngrey: that of random templates")


def _norms(axes: Axes, sets: Sequence[pd.DataFrame], runs: Sequence[tuple[str, str]]) -> None:
    for at, own in enumerate(sets):
        _strip(axes, float(at), own, "norm")
    _columns(axes, runs)
    axes.set_ylim(0, 1.08 * max(float(own["norm"].max()) for own in sets))
    axes.set_title("full space: length", color=INK)


def _strip(axes: Axes, at: float, own: pd.DataFrame, column: str) -> None:
    junk = own["unused"].to_numpy(dtype=bool)
    values = own[column].to_numpy(dtype=float)
    size = float(np.clip(30 / np.sqrt(len(own)), 2, 4.5))
    for chosen, style, shift in ((~junk, REAL, -0.16), (junk, JUNK, 0.2)):
        if np.isfinite(values[chosen]).any():
            strip_plot(
                axes, at + (shift if junk.any() else 0), values[chosen], width=0.13, markersize=size, zorder=3, **style
            )


def _columns(axes: Axes, runs: Sequence[tuple[str, str]]) -> None:
    axes.set_xticks(range(len(runs)), [kind.replace(" pseudo", "\npseudo") for _, kind in runs], color=INK, fontsize=8)
    axes.set_xlim(-0.6, len(runs) - 0.4)


def _legend(figure: Figure, table: pd.DataFrame) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linestyle="none", markersize=6, label="trained", **REAL)]
    if table["unused"].any():
        handles.append(Line2D([], [], linestyle="none", markersize=6, label="junk class: no training well", **JUNK))
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8.5, labelcolor=MUTED)


def _numbers(found: TemplateComparison, head: str, runs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for name, kind in runs:
        spread = found.numbers["templates"].get(name, {}).get(head)
        apart = found.numbers["unused"][name][head]["trained"]
        untrained = found.numbers["unused"][name][head]["first_values"]
        said[name] = {
            "pseudo_labels": kind,
            "nearest_angle_deg": None if spread is None else spread["nearest_angle_deg_mean"],
            "simplex_gap": None if spread is None else spread["simplex_gap"],
            "unused": apart,
            "unused_cosine_untrained": None if untrained is None else untrained["cosine_unused_unused"],
        }
    return said


def _caption(numbers: dict[str, Any], found: TemplateComparison, head: str, runs: Sequence[tuple[str, str]]) -> str:
    parts = []
    for name, kind in runs:
        own = numbers[name]
        angle = own["nearest_angle_deg"]
        words = f"{name} ({kind})"
        if angle is not None:
            low, high = angle["random_range"]
            words += (
                f": {angle['value']:.1f}° to the nearest other trained template on average (random {low:.1f} to "
                f"{high:.1f}°)"
            )
        junk = own["unused"]
        if junk is not None:
            words += (
                f"; {junk['n_unused']} junk classes told from the {junk['n_real']} others with AUROC "
                f"{junk['auroc_mean_cosine']:.2f} by mean cosine, {junk['auroc_norm']:.2f} by length"
            )
            if junk["cosine_unused_unused"] is not None:
                words += (
                    f", their cosine to each other {junk['cosine_unused_unused']:.2f} "
                    f"({own['unused_cosine_untrained']:.2f} before training)"
                )
        parts.append(f"{words}.")
    sets = "both heads" if len(runs) == 1 else f"both heads of the runs {' and '.join(name for name, _ in runs)}"
    trust = [one["trustworthiness"] for one in found.maps if one["source"] == "templates" and one["trustworthiness"]]
    lead = (
        f"One map of {sets}, cut into panels of one scale; distances on it mean nothing, so read the numbers. "
        f"{len(trust)} maps were made (trustworthiness {min(trust):.2f} to {max(trust):.2f}). "
        if trust
        else ""
    )
    any_junk = any(numbers[name]["unused"] is not None for name, _ in runs)
    return lead + " ".join(parts) + (f" {PUSHED}" if any_junk else " Every output has training wells: no junk class.")
