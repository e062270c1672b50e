"""Figure 10: the 1x1 filters of two layers, and all other layers beside them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from distangle.errors import RunError
from distangle.report.charts import INK, MUTED, ORANGE, RULE
from distangle.report.data import ReportData
from distangle.report.paper.figure import PaperFigure, UnavailableFigure, drawing
from distangle.report.paper.panels import below
from distangle.results import FilterAnalysis

TITLE = "1x1 filters"
# Orange to blue through white: apart for colour-blind eyes.
DIVERGING = LinearSegmentedColormap.from_list("orange to blue", ["#8a3f08", "#eb9f5e", "#ffffff", "#7fb2e5", "#173f6b"])
KINDS = (("printed", "as printed"), ("gamma", "with the norm's γ"))
COMPARED = (("variation", "variation within a filter"), ("effective_rank", "effective rank"))


def draw(material: ReportData) -> PaperFigure | UnavailableFigure:
    """Draw the weights of two layers, one filter per column; all layers below.

    Source: Fig. 10
    """
    try:
        found = FilterAnalysis.read(material.run.explanations)
    except RunError:
        command = f"distangle explain {material.typed}"
        return UnavailableFigure(title=TITLE, reason="The filters have not been examined.", command=command)
    shown = list(found.stored_layers)[:2]
    kinds = [kind for kind in KINDS if any(f"{name}|{kind[0]}" in found.weights for name in shown)]
    with drawing():
        figure = Figure(figsize=(3.7 * max(len(shown), 2), 2.6 * len(kinds) + 2.3), layout="constrained")
        halves: Any = figure.subfigures(2, 1, height_ratios=(2.6 * len(kinds), 2.2))
        upper, lower = halves
        grid = upper.subplots(len(kinds), len(shown), squeeze=False)
        for line, (kind, words) in enumerate(kinds):
            for axes, name in zip(grid[line], shown, strict=True):
                weights = found.weights.get(f"{name}|{kind}")
                if weights is None:
                    axes.set_axis_off()
                    axes.text(0.5, 0.5, "no norm before this layer", ha="center", color=MUTED, transform=axes.transAxes)
                    continue
                image = _weights(axes, weights)
                axes.set_title(f"{_short(name)}\n{words}" if line == 0 else words, color=INK)
                below(axes, f"{len(weights)} filters")
                axes.set_ylabel(f"{weights.shape[1]} channels", fontsize=8)
                upper.colorbar(image, ax=axes, shrink=0.8, pad=0.02).ax.tick_params(labelsize=7)
        for axes, (number, words) in zip(lower.subplots(1, 2), COMPARED, strict=True):
            _all_layers(axes, found, number, words, shown)
    numbers = {"layers": _shown(found, shown), "claim": found.claim, "prune": list(found.prune)}
    caption = " ".join([_lead(found), *found.sentences])
    return PaperFigure(figure=figure, title=TITLE, caption=caption, numbers=numbers)


def _weights(axes: Axes, weights: np.ndarray) -> AxesImage:
    # A few large weights would leave one colour for all the others.
    limit = float(np.percentile(np.abs(weights), 99)) or 1.0
    image = axes.imshow(weights.T, aspect="auto", cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    return image


def _all_layers(axes: Axes, found: FilterAnalysis, number: str, words: str, shown: Sequence[str]) -> None:
    of_kind = [one for one in found.layers if one["weights"] == "printed"]
    dense = [one for one in of_kind if one["dense"]] or of_kind
    chance = np.array([one[number]["shuffled"]["random"] or 1.0 for one in dense])
    shares = np.array([one[number]["value"] for one in dense]) / chance
    ranges = np.array([one[number]["shuffled"]["random_range"] for one in dense]) / chance[:, None]
    at = np.arange(1, len(dense) + 1)
    chosen = np.array([one["layer"] in shown for one in dense])
    axes.bar(at, np.ptp(ranges, axis=1), bottom=ranges[:, 0], width=0.8, color=RULE, zorder=0)
    axes.axhline(1, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
    axes.plot(at, shares, "o", color=MUTED, markersize=3.5)
    axes.plot(at[chosen], shares[chosen], "o", color=ORANGE, markersize=6, markeredgecolor="white")
    low, high = min(shares.min(), ranges.min(), 0.98), max(shares.max(), ranges.max(), 1.02)
    axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    axes.locator_params(axis="x", integer=True)
    kind = "dense layer" if dense[0]["dense"] else "1x1 convolution"
    axes.set_title(f"{words}\nagainst shuffled weights (grey)", color=INK)
    below(axes, f"{kind} (orange: shown above)")


def _shown(found: FilterAnalysis, shown: Sequence[str]) -> dict[str, Any]:
    keep = ("near_constant", "one_colour", "silent", "duplicates", "variation", "cosine_size", "effective_rank")
    return {
        f"{one['layer']}|{one['weights']}": {name: one[name] for name in keep}
        for one in found.layers
        if one["layer"] in shown
    }


def _lead(found: FilterAnalysis) -> str:
    if found.claim is not None and found.claim["printed_names"]:
        return "The layers of the paper; a column is a filter, a row the weights of one channel."
    return (
        "This network has not the paper's two layers (dense layer 6 of block 1, dense layer 2 of block 2); the nearest "
        "it has are shown. A column is a filter, a row the weights of one channel."
    )


def _short(name: str) -> str:
    return (
        name.removeprefix("features.")
        .removesuffix(".conv1")
        .replace("denseblock", "block ")
        .replace(".denselayer", ", layer ")
    )
