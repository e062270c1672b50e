"""Compute the benchmark tables: every method against the planted truth."""

from collections.abc import Mapping
from typing import Any

from distangle.report.marks import interval_bar
from distangle.report.page import Content, Table, percent
from distangle.results import Benchmark

_METHODS = {
    "shapley": "Shapley",
    "ablation": "ablation",
    "correlation": "correlation of map and channel",
    "eq15": "Eq. (15)",
    "eq15_inverse": "Eq. (15) inverted",
    "grad_cam": "Grad-CAM",
    "hires_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
    "integrated_gradients": "integrated gradients",
    "occlusion": "occlusion",
}
_QUESTIONS = {
    ("stain", "wells"): "Planted channel named, by well",
    ("place", "sites"): "Planted region under the peak of the map, by site",
}


def truth_table(benchmark: Benchmark) -> Content | None:
    """Count how often every method named what was planted; list the missed criteria.

    Args:
        benchmark: Of the run.

    Returns:
        None where nothing was tested.
    """
    notices = [remark] if (remark := str(benchmark.settings.get("remark", ""))) else []
    missed = [str(aim["aim"]) for aim in benchmark.aims if aim["met"] is False]
    if missed:
        notices.append(f"Below its aim: {'; '.join(missed)}.")
    tables = []
    for (question, unit), caption in _QUESTIONS.items():
        rows = [row for row in benchmark.rows if (row["question"], row["unit"]) == (question, unit)]
        untrained = {row["method"]: row for row in rows if row["network"] == "untrained"}
        cells = [_row(row, untrained.get(row["method"])) for row in rows if row["network"] == "trained"]
        if cells:
            columns = ("method", "correct", "of", "share", "from 0 to 1", "random weights", "chance")
            tables.append(Table(columns=columns, rows=cells, numeric=(1, 2, 3, 5, 6), caption=caption))
    if not notices and not tables:
        return None
    return Content("sections/benchmark.html.j2", {"notices": notices, "tables": tables})


def _row(row: Mapping[str, Any], untrained: Mapping[str, Any] | None) -> tuple[str, ...]:
    known = row["share"] is not None
    ends = None if row["low"] is None else (row["low"], row["high"])
    return (
        _METHODS.get(str(row["method"]), str(row["method"])),
        f"{row['hits']:,}",
        f"{row['of']:,}",
        percent(row["share"], 0) if known else "–",
        interval_bar(row["share"], ends, chance=row["chance"]) if known else "",
        "–" if untrained is None or untrained["share"] is None else percent(untrained["share"], 0),
        percent(row["chance"], 0),
    )
