"""Compute tables of attribution methods: benchmark, cell types, channel pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distangle.report.html import Content, Table, percent
from distangle.report.inline_svg import interval_bar
from distangle.results import Benchmark, Explanation

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
    ("channel", "wells"): "Planted channel named, by well",
    ("region", "sites"): "Planted region under the peak of the map, by site",
}


def truth_table(benchmark: Benchmark) -> Content | None:
    """Count how often each method named the planted effect; list the missed criteria.

    Args:
        benchmark: Benchmark of the run.

    Returns:
        None if nothing was tested.
    """
    notices = [remark] if (remark := str(benchmark.settings.get("remark", ""))) else []
    missed_aims = [str(aim["aim"]) for aim in benchmark.aims if aim["met"] is False]
    if missed_aims:
        notices.append(f"Below its aim: {'; '.join(missed_aims)}.")
    tables = []
    for (question, unit), caption in _QUESTIONS.items():
        rows = [row for row in benchmark.rows if (row["question"], row["unit"]) == (question, unit)]
        untrained = {row["method"]: row for row in rows if row["network"] == "untrained"}
        cells = [_benchmark_row(row, untrained.get(row["method"])) for row in rows if row["network"] == "trained"]
        if cells:
            columns = ("method", "correct", "of", "share", "from 0 to 1", "random weights", "chance")
            tables.append(Table(columns=columns, rows=cells, numeric=(1, 2, 3, 5, 6), caption=caption))
    if not notices and not tables:
        return None
    return Content("sections/benchmark.html.j2", {"notices": notices, "tables": tables})


def _benchmark_row(row: Mapping[str, Any], untrained: Mapping[str, Any] | None) -> tuple[str, ...]:
    has_share = row["share"] is not None
    interval = None if row["low"] is None else (row["low"], row["high"])
    return (
        _METHODS.get(str(row["method"]), str(row["method"])),
        f"{row['hits']:,}",
        f"{row['n_total']:,}",
        percent(row["share"], 0) if has_share else "–",
        interval_bar(row["share"], interval, chance=row["chance"]) if has_share else "",
        "–" if untrained is None or untrained["share"] is None else percent(untrained["share"], 0),
        percent(row["chance"], 0),
    )


_CHANNEL_METHODS = {
    "shapley": "Shapley",
    "ablation": "ablation",
    "correlation": "correlation",
    "eq15": "Eq. (15)",
    "eq15_inverse": "Eq. (15) inverted",
}
_METHODS_NOTE = (
    "Shapley: change of the output when the channel is added, averaged over all subsets of the other channels. "
    "Ablation: change when the channel is removed from the full image. Correlation: of attribution map and channel "
    "over the image; it shows where the channel lies, not that the network used it. p is corrected for the number of "
    "channels. The null of Shapley and ablation is shuffled channels, that of the others is random maps. A small p of "
    "Eq. (15) therefore shows that the map is not random, not that the channel mattered."
)
_PAIRS_NOTE = (
    "Interaction: how much more two channels change the output together than one by one, averaged over all subsets of "
    "the other channels. Below 0 they are redundant, above 0 they need each other."
)


def compare_methods(explanation: Explanation, names: Sequence[str]) -> Content | None:
    """Compare the channel attribution methods; None without any of them.

    Args:
        explanation: Explanation of the run.
        names: Labels of the channels.
    """
    summary = explanation.summary
    warnings = list(summary.get("warnings", ()))
    parts = (
        (_method_table(summary, names), _METHODS_NOTE),
        (_cell_type_table(summary, names), ""),
        (_pair_table(summary, names), _PAIRS_NOTE),
    )
    tables = [{"table": table, "note": note} for table, note in parts if table is not None]
    if not warnings and not tables:
        return None
    return Content("sections/channel_methods.html.j2", {"warnings": warnings, "tables": tables})


def _method_table(summary: Mapping[str, Any], names: Sequence[str]) -> Table | None:
    methods = [name for name in _CHANNEL_METHODS if len(summary.get(name, {}).get("mean", ())) == len(names)]
    if len(methods) < 2:
        return None
    columns = [_format_with_p(summary[name]) for name in methods]
    titles = ["channel", *(f"{_CHANNEL_METHODS[name]}, p" for name in methods)]
    return Table(
        columns=titles,
        rows=list(zip(names, *columns, strict=True)),
        numeric=range(1, len(titles)),
        caption="Channel attribution by method, the largest value in bold",
        bold={(int(np.argmax(summary[name]["mean"])), k) for k, name in enumerate(methods, start=1)},
    )


def _format_with_p(values: Mapping[str, Any]) -> list[str]:
    p = values.get("p_family")
    return [f"{value:+.3f}" + (f", {p[k]:.2g}" if p else "") for k, value in enumerate(values["mean"])]


def _cell_type_table(summary: Mapping[str, Any], names: Sequence[str]) -> Table | None:
    by_type = summary.get("cell_types", {})
    if len(by_type) < 2:
        return None
    rows, bold = [], set()
    for index, (cell_type, entry) in enumerate(by_type.items()):
        mean, interval = entry["shapley"]["mean"], entry["shapley"]["interval"]
        bold.add((index, 2 + int(np.argmax(mean))))
        cells = [
            f"{value:+.3f}" + ("" if interval is None else f" ({interval[k][0]:+.2f} to {interval[k][1]:+.2f})")
            for k, value in enumerate(mean)
        ]
        rows.append((cell_type, f"{entry['wells']:,}", *cells))
    caption = "Mean Shapley value by cell type, the largest in bold"
    if any(entry["shapley"]["interval"] is not None for entry in by_type.values()):
        caption += f"; in brackets its 95\u202f% interval over {summary.get('interval_over', 'group')}s"
    columns = ("cell type", "wells", *names)
    return Table(columns=columns, rows=rows, numeric=range(1, len(columns)), caption=caption, bold=bold)


def _pair_table(summary: Mapping[str, Any], names: Sequence[str]) -> Table | None:
    interactions = summary.get("interactions")
    if not interactions or len(names) < 2:
        return None
    mean, interval = np.array(interactions["mean"]), interactions["interval"]
    pairs = [(k, other) for k in range(len(names)) for other in range(k + 1, len(names))]
    pairs.sort(key=lambda pair: -abs(mean[pair]))
    rows = []
    for k, other in pairs[:5]:
        ends = "" if interval is None else "{:+.3f} to {:+.3f}".format(*interval[k][other])
        rows.append((f"{names[k]} and {names[other]}", f"{mean[k, other]:+.3f}", *([ends] if ends else [])))
    return Table(
        columns=("channels", "interaction", *(["95\u202f% interval"] if interval is not None else [])),
        rows=rows,
        numeric=(1, 2),
        caption=f"The {len(rows)} strongest of {len(pairs)} channel pairs" if len(pairs) > 5 else "Channel pairs",
    )
