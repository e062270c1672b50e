"""Figure 9: embeddings of the held-out sites of a few perturbations."""

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
    below,
    group_by_run,
    half_span,
    main_map,
    mean_line,
    places,
    projection_label,
    square,
    strip_plot,
)
from distangle.results import TemplateComparison

TITLE = "Embeddings of the held-out sites"
TITLE_OF_TRAINING = "Embeddings of sites that were trained on"
# Okabe & Ito: apart for colour-blind eyes; a marker for each as well.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#1d2733", "#999999")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")


def draw(material: ReportData) -> PaperFigure | UnavailableFigure:
    """Draw the embeddings of the chosen perturbations, with their silhouettes.

    Source: Fig. 9
    """
    try:
        found = TemplateComparison.read(material.run.explanations)
    except RunError:
        command = f"distangle explain {material.typed}"
        return UnavailableFigure(title=TITLE, reason="The embeddings have not been compared.", command=command)
    runs, names = group_by_run(found.numbers), list(found.numbers["perturbations"]["names"])
    shown = main_map(found.maps, "embeddings")
    sets = [found.embeddings[found.embeddings["run"] == name] for name, _ in runs]
    with drawing():
        figure = Figure(figsize=(2.6 * (len(runs) + 1), 3.5), layout="constrained")
        panels = figure.subplots(1, len(runs) + 1)
        half = half_span([places(own, shown["name"]) for own in sets])
        for axes, own, (name, kind) in zip(panels, sets, runs, strict=False):
            _map(axes, own, names, shown["name"], half)
            axes.set_title(f"{kind}\n({name})", color=INK)
            trust = shown["trustworthiness_of"][name]
            below(axes, f"{projection_label(shown)}\n" + ("" if trust is None else f"trustworthiness {trust:.2f}"))
        _silhouettes(panels[-1], found.numbers["embeddings"], sets, runs, names)
        handles = [
            Line2D([], [], linestyle="none", marker=marker, color=colour, markersize=6, label=name)
            for name, marker, colour in zip(names, _cycled(MARKERS), _cycled(COLOURS), strict=False)
        ]
        columns = min(len(names), 4 if len(runs) > 1 else 3)
        figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8.5, labelcolor=MUTED
        )
    order = [run["name"] for run in found.numbers["runs"]]  # of the difference, whatever the order of the panels
    numbers = {"perturbations": found.numbers["perturbations"], **found.numbers["embeddings"]}
    seen = found.numbers.get("trained_on", [])
    caption = _caption(numbers, runs, order)
    if seen and len(runs) > 1:
        caption += f" Trained on these sites: {', '.join(seen)}."
    return PaperFigure(figure=figure, title=TITLE_OF_TRAINING if seen else TITLE, caption=caption, numbers=numbers)


def _map(axes: Axes, own: pd.DataFrame, names: Sequence[str], name: str, half: float) -> None:
    points, labels = places(own, name), own["perturbation"].to_numpy(dtype=object)
    for label, marker, colour in zip(names, _cycled(MARKERS), _cycled(COLOURS), strict=False):
        chosen = labels == label
        axes.plot(
            points[chosen, 0],
            points[chosen, 1],
            linestyle="none",
            marker=marker,
            color=colour,
            markersize=float(np.clip(50 / np.sqrt(len(own)), 2.5, 6)),
            markeredgecolor="white",
            markeredgewidth=0.4,
            alpha=0.9,
        )
    square(axes, points, half)


def _silhouettes(
    axes: Axes,
    said: Mapping[str, Any],
    sets: Sequence[pd.DataFrame],
    runs: Sequence[tuple[str, str]],
    names: Sequence[str],
) -> None:
    step = 0.8 / max(len(names), 1)
    for at, (own, (name, _)) in enumerate(zip(sets, runs, strict=True)):
        band(axes, float(at), said[name]["silhouette"]["random_range"])
        mean_line(axes, float(at), said[name]["silhouette"]["value"])
        for k, (label, marker, colour) in enumerate(zip(names, _cycled(MARKERS), _cycled(COLOURS), strict=False)):
            values = own.loc[own["perturbation"] == label, "silhouette"].to_numpy(dtype=float)
            place = at - 0.4 + step * (k + 0.5)
            size = float(np.clip(24 / np.sqrt(len(own)), 1.8, 4))
            strip_plot(axes, place, values, width=0.4 * step, marker=marker, color=colour, markersize=size, zorder=3)
    axes.set_xticks(range(len(runs)), [kind.replace(" pseudo", "\npseudo") for _, kind in runs], color=INK, fontsize=8)
    axes.use_sticky_edges = False
    axes.autoscale_view()
    axes.set_xlim(-0.6, len(runs) - 0.4)
    axes.set_title("full space:\nsilhouette of each site", color=INK)
    below(axes, "grey: mean with shuffled labels\nline: mean")


def _cycled(items: Sequence[str]) -> list[str]:
    return list(items) * 8


def _caption(numbers: Mapping[str, Any], runs: Sequence[tuple[str, str]], order: Sequence[str]) -> str:
    chosen = numbers["perturbations"]
    wells = ", ".join(f"{name} ({n} wells)" for name, n in zip(chosen["names"], chosen["wells"], strict=True))
    words = f"{wells}."
    if chosen["tied"]:
        listed = ", ".join(chosen["tied"][:4]) + (", ..." if len(chosen["tied"]) > 4 else "")
        words += f" {len(chosen['tied'])} more have as many wells as the last ({listed}): ties go by name."
    parts = []
    for name, kind in runs:
        silhouette, purity = numbers[name]["silhouette"], numbers[name]["purity"]
        low, high = silhouette["random_range"]
        interval = silhouette["interval"]
        over = f", 95 % over experiments {interval[0]:.2f} to {interval[1]:.2f}" if interval else ""
        parts.append(
            f"{name} ({kind}): silhouette {silhouette['value']:.2f}{over} (shuffled labels {low:.2f} to {high:.2f}, "
            f"p = {silhouette['p']:.2g}); {purity['value']:.0%} of the {numbers[name]['k']} nearest sites of other "
            f"wells have the same perturbation (shuffled {purity['random']:.0%})."
        )
    words += " " + " ".join(parts)
    if "difference" in numbers:
        gain = numbers["difference"]["silhouette"]
        interval = gain["interval"]
        over = f"95 % over experiments {interval[0]:+.2f} to {interval[1]:+.2f}" if interval else "too few experiments"
        words += f" Silhouette of {order[1]} minus that of {order[0]}: {gain['value']:+.2f} ({over})."
    return words
