"""Draw figure 12: Eq. (15) by channel, and the Shapley values."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distangle.report.charts import BLUE, INK, ORANGE, RULE
from distangle.report.data import ReportData
from distangle.report.paper.figure import PaperFigure, UnavailableFigure, drawing
from distangle.results import STANDS_OUT, Explanation
from distangle.screen import channel_labels

TITLE = "Channel attribution by Eq. (15) and by Shapley values"
PRINTED_LAYER = "features.denseblock4.denselayer24"


def draw(data: ReportData) -> PaperFigure | UnavailableFigure:
    """Draw Eq. (15) over all explained sites with its null, and the Shapley values.

    Source: Fig. 12
    """
    explanation = data.explanation
    if explanation is None:
        return UnavailableFigure(
            title=TITLE, reason="No site has been explained.", command=f"distangle explain {data.command_path}"
        )
    summary, channels = explanation.summary, list(explanation.settings["channels"])
    labels = _labels(data, channels)
    with drawing():
        figure = Figure(figsize=(7.6, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_points(left, labels, summary["eq15"], color=ORANGE)
        left.set_title("Eq. (15) as printed: a distance\ngrey: 95 % of random maps")
        left.set_ylabel("attention, divided by its maximum")
        left.set_ylim(None, 1.02)
        _draw_points(right, labels, summary["shapley"], color=BLUE)
        right.axhline(0, color=RULE, linewidth=0.8, zorder=0)
        right.set_title("Shapley value of the channel\ngrey: 95 % of shuffled channels")
        right.set_ylabel("log probability (nats)" if explanation.settings["score"] == "log_probability" else "")
    numbers = _numbers(explanation, channels)
    return PaperFigure(
        figure=figure,
        title=TITLE,
        caption=_caption(explanation, numbers, dict(zip(channels, labels, strict=True))),
        numbers=numbers,
    )


def _labels(data: ReportData, channels: list[str]) -> list[str]:
    """Return the labels of channels; an unknown channel keeps its name."""
    known = data.screen.metadata.channels
    labels = dict(zip((channel.name for channel in known), channel_labels(known), strict=True))
    return [labels.get(name, name) for name in channels]


def _draw_points(axes: Axes, channels: list[str], results: dict[str, Any], *, color: str) -> None:
    positions = np.arange(len(channels))
    null = np.array(results["null"])
    axes.bar(positions, null[:, 1] - null[:, 0], bottom=null[:, 0], width=0.7, color=RULE, zorder=1)
    axes.plot(positions, results["mean"], "o", color=color, markersize=6, zorder=3)
    if results["interval"] is not None:
        low, high = np.array(results["interval"]).T
        axes.vlines(positions, low, high, color=color, linewidth=1.6, zorder=2)
    for values in results.get("by_group", {}).values():
        axes.plot(positions, values, "o", color=color, markersize=3.5, markerfacecolor="none", zorder=2)
    axes.set_xticks(positions, channels, rotation=30, ha="right", color=INK)
    axes.margins(x=0.06)


def _numbers(explanation: Explanation, channels: list[str]) -> dict[str, Any]:
    summary = explanation.summary
    counts, random_counts = summary["eq15_top_channel"], summary["eq15_top_channel_of_random_maps"]
    top_channel, random_top = (
        max(counts, key=lambda name: counts[name]),
        max(random_counts, key=lambda name: random_counts[name]),
    )
    index = channels.index(summary["top_channel"])
    return {
        "sites": summary["sites"],
        "layer": explanation.settings["layer"],
        "eq15_top": top_channel,
        "eq15_top_sites": counts[top_channel],
        "random_maps_top": random_top,
        "random_maps_top_sites": random_counts[random_top],
        "shapley_top": summary["top_channel"],
        "shapley_top_mean": summary["shapley"]["mean"][index],
        "shapley_top_interval": None
        if summary["shapley"]["interval"] is None
        else summary["shapley"]["interval"][index],
        "shapley_top_p": explanation.p_of_top,
    }


def _caption(explanation: Explanation, numbers: dict[str, Any], labels: dict[str, str]) -> str:
    summary = explanation.summary
    text = (
        f"{numbers['sites']} sites. By Eq. (15) {labels[numbers['eq15_top']]} comes out on top in "
        f"{numbers['eq15_top_sites']} of them; with random maps, {labels[numbers['random_maps_top']]} in "
        f"{numbers['random_maps_top_sites']:.0f}. "
    )
    mean = f"mean {numbers['shapley_top_mean']:.2f}, p = {numbers['shapley_top_p']:.2g}"
    if numbers["shapley_top_p"] <= STANDS_OUT:
        text += f"By Shapley values {labels[numbers['shapley_top']]} changed the output most ({mean})."
    else:
        text += (
            f"By Shapley values no single channel stands out; the largest is {labels[numbers['shapley_top']]} ({mean})."
        )
    if summary["shapley"]["interval"] is not None:
        text += f" Lines: 95 % intervals over {summary['groups']} {summary['interval_over']}s."
    elif summary["shapley"].get("by_group"):
        text += f" Rings: {', '.join(summary['shapley']['by_group'])}."
    if numbers["layer"] != PRINTED_LAYER:
        text += f" Maps of {numbers['layer']}; the paper's layer is {PRINTED_LAYER} of a DenseNet-161."
    return text
