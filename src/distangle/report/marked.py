"""The truth table of a benchmark: every method beside what was planted, chance and networks with random weights."""

from collections.abc import Mapping
from typing import Any

from distangle.report.marks import interval_bar
from distangle.report.page import Markup, element, joined, notice, paragraph, percent, table
from distangle.results import Benchmark

_METHODS = {
    "shapley": "Shapley",
    "ablation": "ablation",
    "correlation": "correlation of map and stain",
    "eq15": "Eq. (15)",
    "eq15_inverse": "Eq. (15) inverted",
    "grad_cam": "Grad-CAM",
    "hires_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
    "integrated_gradients": "integrated gradients",
    "occlusion": "occlusion",
}
_QUESTIONS = {
    ("stain", "wells"): "Planted stain named, by well",
    ("place", "sites"): "Planted place under the peak of the map, by site",
}
_SAID = (
    "Right: rightly predicted held-out wells or sites with a planted effect. Random weights: mean of networks that "
    "learnt nothing; what they hit comes from the method and the images. Tick: chance, an even choice of stains, or "
    "the area of the place."
)


def truth_table(benchmark: Benchmark) -> Markup:
    """Show how often every method found what was planted, and which aims were missed.

    Args:
        benchmark: Of the run.
    """
    parts: list[Markup] = []
    if seen := str(benchmark.settings.get("remark", "")):
        parts.append(notice(seen))
    missed = [str(aim["aim"]) for aim in benchmark.aims if aim["met"] is False]
    if missed:
        parts.append(notice(f"Below its aim: {'; '.join(missed)}."))
    for (question, unit), caption in _QUESTIONS.items():
        rows = [row for row in benchmark.rows if (row["question"], row["unit"]) == (question, unit)]
        blind = {row["method"]: row for row in rows if row["network"] == "untrained"}
        lines = [_line(row, blind.get(row["method"])) for row in rows if row["network"] == "trained"]
        if lines:
            heads = ("method", "right", "of", "share", "from 0 to 1", "random weights", "chance")
            parts.append(table(heads, lines, numeric=(1, 2, 3, 5, 6), caption=caption))
    return joined([*parts, paragraph(_SAID, class_="small")]) if parts else Markup("")


def _line(row: Mapping[str, Any], blind: Mapping[str, Any] | None) -> list[str]:
    known = row["share"] is not None
    ends = None if row["low"] is None else (row["low"], row["high"])
    drawn = interval_bar(row["share"], ends, chance=row["chance"]) if known else Markup("")
    return [
        _METHODS.get(str(row["method"]), str(row["method"])),
        f"{row['hits']:,}",
        f"{row['of']:,}",
        percent(row["share"], 0) if known else "–",
        element("span", drawn),
        "–" if blind is None or blind["share"] is None else percent(blind["share"], 0),
        percent(row["chance"], 0),
    ]
