"""Draw figure 10: the 1x1 filters of two layers, and numbers of all other layers."""

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
from distangle.report.paper.panels import write_below
from distangle.results import FilterAnalysis

TITLE = "1x1 filters"
# Orange to blue through white, for color-blind readers.
DIVERGING = LinearSegmentedColormap.from_list("orange to blue", ["#8a3f08", "#eb9f5e", "#ffffff", "#7fb2e5", "#173f6b"])
KINDS = (("printed", "as printed"), ("gamma", "times γ of the batch norm"))
STATISTICS = (("variation", "variation within a filter"), ("effective_rank", "effective rank"))


def draw(data: ReportData) -> PaperFigure | UnavailableFigure:
    """Draw the weights of two layers, one filter per column, and all layers.

    Source: Fig. 10
    """
    try:
        analysis = FilterAnalysis.read(data.run.explanations)
    except RunError:
        command = f"distangle explain {data.command_path}"
        return UnavailableFigure(title=TITLE, reason="The filters have not been analyzed.", command=command)
    layer_names = list(analysis.stored_layers)[:2]
    kinds = [kind for kind in KINDS if any(f"{name}|{kind[0]}" in analysis.weights for name in layer_names)]
    with drawing():
        figure = Figure(figsize=(3.7 * max(len(layer_names), 2), 2.6 * len(kinds) + 2.3), layout="constrained")
        halves: Any = figure.subfigures(2, 1, height_ratios=(2.6 * len(kinds), 2.2))
        upper, lower = halves
        grid = upper.subplots(len(kinds), len(layer_names), squeeze=False)
        for index, (kind, label) in enumerate(kinds):
            for axes, name in zip(grid[index], layer_names, strict=True):
                weights = analysis.weights.get(f"{name}|{kind}")
                if weights is None:
                    axes.set_axis_off()
                    axes.text(
                        0.5, 0.5, "no batch norm before this layer", ha="center", color=MUTED, transform=axes.transAxes
                    )
                    continue
                image = _draw_weights(axes, weights)
                axes.set_title(f"{_layer_label(name)}\n{label}" if index == 0 else label, color=INK)
                write_below(axes, f"{len(weights)} filters")
                axes.set_ylabel(f"{weights.shape[1]} channels", fontsize=8)
                upper.colorbar(image, ax=axes, shrink=0.8, pad=0.02).ax.tick_params(labelsize=7)
        for axes, (number, label) in zip(lower.subplots(1, 2), STATISTICS, strict=True):
            _draw_all_layers(axes, analysis, number, label, layer_names)
    numbers = {"layers": _layer_numbers(analysis, layer_names), "claim": analysis.claim, "prune": list(analysis.prune)}
    caption = " ".join([_first_sentence(analysis), *analysis.sentences])
    return PaperFigure(figure=figure, title=TITLE, caption=caption, numbers=numbers)


def _draw_weights(axes: Axes, weights: np.ndarray) -> AxesImage:
    # The percentile keeps a few large weights from flattening the color scale.
    limit = float(np.percentile(np.abs(weights), 99)) or 1.0
    image = axes.imshow(weights.T, aspect="auto", cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    return image


def _draw_all_layers(axes: Axes, analysis: FilterAnalysis, number: str, title: str, layer_names: Sequence[str]) -> None:
    layers = [layer for layer in analysis.layers if layer["weights"] == "printed"]
    candidates = [layer for layer in layers if layer["dense"]] or layers
    chance = np.array([layer[number]["shuffled"]["random"] or 1.0 for layer in candidates])
    shares = np.array([layer[number]["value"] for layer in candidates]) / chance
    ranges = np.array([layer[number]["shuffled"]["random_range"] for layer in candidates]) / chance[:, None]
    positions = np.arange(1, len(candidates) + 1)
    is_shown = np.array([layer["layer"] in layer_names for layer in candidates])
    axes.bar(positions, np.ptp(ranges, axis=1), bottom=ranges[:, 0], width=0.8, color=RULE, zorder=0)
    axes.axhline(1, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
    axes.plot(positions, shares, "o", color=MUTED, markersize=3.5)
    axes.plot(positions[is_shown], shares[is_shown], "o", color=ORANGE, markersize=6, markeredgecolor="white")
    low, high = min(shares.min(), ranges.min(), 0.98), max(shares.max(), ranges.max(), 1.02)
    axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    axes.locator_params(axis="x", integer=True)
    kind = "dense layer" if candidates[0]["dense"] else "1x1 convolution"
    axes.set_title(f"{title}\nagainst shuffled weights (grey)", color=INK)
    write_below(axes, f"{kind} (orange: shown above)")


def _layer_numbers(analysis: FilterAnalysis, layer_names: Sequence[str]) -> dict[str, Any]:
    fields = ("near_constant", "one_color", "silent", "duplicates", "variation", "cosine_size", "effective_rank")
    return {
        f"{layer['layer']}|{layer['weights']}": {name: layer[name] for name in fields}
        for layer in analysis.layers
        if layer["layer"] in layer_names
    }


def _first_sentence(analysis: FilterAnalysis) -> str:
    if analysis.claim is not None and analysis.claim["printed_names"]:
        return "The layers of the paper. Each column is a filter, each row the weights of one channel."
    return (
        "This network does not have the two layers of the paper (dense layer 6 of block 1, dense layer 2 of block 2); "
        "the most similar ones are shown. Each column is a filter, each row the weights of one channel."
    )


def _layer_label(name: str) -> str:
    return (
        name.removeprefix("features.")
        .removesuffix(".conv1")
        .replace("denseblock", "block ")
        .replace(".denselayer", ", layer ")
    )
