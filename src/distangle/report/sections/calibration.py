"""Draw confidence against accuracy, and tell how columns of wells were made."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from distangle.report.charts import BLUE, MUTED, ORANGE, svg_of, svg_settings
from distangle.report.data import ReportData
from distangle.report.html import Content, percent
from distangle.results import Calibration, ReliabilityBin

Write = Callable[[str, str], str]  # file name and SVG text to path inside the report
_LARGEST = 90  # area of the marker of the fullest bin, in square points


def calibration(data: ReportData, write: Write) -> Content | None:
    """Draw the reliability curve of the main score; None without a calibration.

    Args:
        data: Results of the run.
        write: Writes a chart.
    """
    if data.scores is None or not data.scores.calibration:
        return None
    measured = [part for part in data.scores.calibration if not part.reason]
    values: dict[str, Any] = {"chart": "", "sentences": list(data.scores.well_columns.values())}
    if not measured:
        values["sentences"].insert(0, data.scores.calibration[-1].reason)
        return Content(_TEMPLATE, values)
    row = data.main_row
    part = min(
        measured,
        key=lambda measurement: row is None or (measurement.level, measurement.views) != (row.level, row.views),
    )
    values["chart"] = write("reliability.svg", reliability_chart(part, stamp=data.stamp))
    values["caption"] = _caption(part)
    return Content(_TEMPLATE, values)


_TEMPLATE = "sections/calibration.html.j2"


def reliability_chart(part: Calibration, *, stamp: str = "") -> str:
    """Draw mean confidence against accuracy by bin, before and after the temperature.

    Args:
        part: With bins.
        stamp: Label in the corner, such as "forced split".
    """
    with matplotlib.rc_context(svg_settings()):
        figure = Figure(figsize=(3.9, 3.4), layout="constrained")
        axes = figure.add_subplot()
        axes.plot((0, 1), (0, 1), color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)))
        fullest = max(point.n for point in (*part.before, *part.after))
        for bins, name, color in ((part.before, "network", ORANGE), (part.after, "with temperature", BLUE)):
            confidence, accuracy, n = _points(bins)
            axes.plot(confidence, accuracy, color=color, linewidth=1, label=name)
            axes.scatter(confidence, accuracy, s=[max(6, _LARGEST * k / fullest) for k in n], color=color, alpha=0.8)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("mean confidence of the bin")
        axes.set_ylabel("accuracy")
        axes.set_title(f"Calibration, by {part.level}", pad=8)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
        return svg_of(figure, stamp)


def _points(bins: Sequence[ReliabilityBin]) -> tuple[list[float], list[float], list[int]]:
    """Return confidence, accuracy and rows of the bins that have rows."""
    filled = [(point.confidence, point.accuracy, point.n) for point in bins if point.n]
    return (
        [x for x, _, _ in filled if x is not None],
        [y for _, y, _ in filled if y is not None],
        [n for _, _, n in filled],
    )


def _caption(part: Calibration) -> str:
    low, high = min(part.temperatures.values()), max(part.temperatures.values())
    temperatures = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
    return (
        f"Confidence against accuracy of {part.n:,} held-out {part.level}s of treatments "
        f"({part.views} view{'s' if part.views > 1 else ''}), in {len(part.before)} bins. Areas show the number of "
        f"{part.level}s; the dashed line is a perfect calibration. The calibration error (ECE) is "
        f"{percent(part.ece_before or 0)} for the network and {percent(part.ece_after or 0)} after its logits are "
        f"divided by a temperature ({temperatures}; above 1: overconfident). The temperature of each "
        f"{part.groups_over} was fitted on the others."
    )
