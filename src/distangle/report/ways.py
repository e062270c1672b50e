"""All ways to ask which stain mattered, side by side; by cell type; the stains in pairs; what to beware of."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distangle.report.page import Markup, element, joined, notice, paragraph, table
from distangle.results import Explanation

_WAYS = {
    "shapley": "Shapley",
    "ablation": "ablation",
    "correlation": "correlation",
    "eq15": "Eq. (15)",
    "eq15_inverse": "Eq. (15) inverted",
}
_SAID = (
    "Shapley: change of the answer by adding the stain, averaged over all sets of the others. Ablation: change by "
    "taking it from the whole image. Correlation: of map and stain over places: where a stain lies, not that it was "
    "used. p, corrected for the number of stains: against shuffled stains for the first two, against random maps for "
    "the rest, so a small p of Eq. (15) says that the map is not random, not that the stain mattered."
)
_PAIRS = (
    "How much more two stains do together than each for itself, averaged over all sets of the others: below 0 they "
    "say the same, above 0 they need each other."
)


def ways(explanation: Explanation, names: Sequence[str]) -> Markup:
    """Show what an explanation says of the stains besides the charts; empty for what it does not hold.

    Args:
        explanation: Of the run.
        names: What the channels are called.
    """
    summary = explanation.summary
    parts = [notice(*warnings)] if (warnings := list(summary.get("warnings", ()))) else []
    parts += [part for part in (_beside(summary, names), _cell_types(summary, names), _pairs(summary, names)) if part]
    return joined(parts)


def _beside(summary: Mapping[str, Any], names: Sequence[str]) -> Markup | None:
    found = [name for name in _WAYS if len(summary.get(name, {}).get("mean", ())) == len(names)]
    if len(found) < 2:
        return None
    columns = [_with_p(summary[name]) for name in found]
    rows = zip(names, *columns, strict=True)
    heads = ["stain", *(f"{_WAYS[name]}, p" for name in found)]
    shown = table(heads, rows, numeric=range(1, len(heads)), caption="Every way to ask which stain mattered")
    return element("div", shown, paragraph(_SAID, class_="small"))


def _with_p(said: Mapping[str, Any]) -> list[Markup]:
    mean, p = said["mean"], said.get("p_family")
    top = int(np.argmax(mean))
    cells = [f"{value:+.3f}" + (f", {p[k]:.2g}" if p else "") for k, value in enumerate(mean)]
    return [element("b" if k == top else "span", cell) for k, cell in enumerate(cells)]


def _cell_types(summary: Mapping[str, Any], names: Sequence[str]) -> Markup | None:
    said = summary.get("cell_types", {})
    if len(said) < 2:
        return None
    rows = []
    for cell_type, one in said.items():
        mean, interval = one["shapley"]["mean"], one["shapley"]["interval"]
        top = int(np.argmax(mean))
        cells = [
            f"{value:+.3f}" + ("" if interval is None else f" ({interval[k][0]:+.2f} to {interval[k][1]:+.2f})")
            for k, value in enumerate(mean)
        ]
        bold = [element("b" if k == top else "span", cell) for k, cell in enumerate(cells)]
        rows.append([cell_type, f"{one['wells']:,}", *bold])
    over = summary.get("interval_over", "group")
    caption = "Mean Shapley value by cell type, the largest in bold"
    if any(one["shapley"]["interval"] is not None for one in said.values()):
        caption += f"; in brackets its 95\u202f% interval over {over}s"
    return table(["cell type", "wells", *names], rows, numeric=range(1, len(names) + 2), caption=caption)


def _pairs(summary: Mapping[str, Any], names: Sequence[str]) -> Markup | None:
    said = summary.get("interactions")
    if not said or len(names) < 2:
        return None
    mean, interval = np.array(said["mean"]), said["interval"]
    above = [(k, other) for k in range(len(names)) for other in range(k + 1, len(names))]
    above.sort(key=lambda pair: -abs(mean[pair]))
    rows = []
    for k, other in above[:5]:
        ends = "" if interval is None else "{:+.3f} to {:+.3f}".format(*interval[k][other])
        rows.append([f"{names[k]} and {names[other]}", f"{mean[k, other]:+.3f}", *([ends] if ends else [])])
    shown = table(
        ["stains", "interaction", *(["95\u202f% interval"] if interval is not None else [])],
        rows,
        numeric=(1, 2) if interval is not None else (1,),
        caption=f"The {len(rows)} strongest of {len(above)} pairs of stains" if len(above) > 5 else "Pairs of stains",
    )
    return element("div", shown, paragraph(_PAIRS, class_="small"))
