"""Compute the sections on channel attribution and on planted effects."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distangle.report import charts
from distangle.report.charts import ChannelColumn
from distangle.report.data import ReportData
from distangle.report.html import Content, Table, count, missing_notice, percent, spaced
from distangle.report.inline_svg import interval_bar
from distangle.report.sections.channel_methods import compare_methods, truth_table
from distangle.report.sections.scores import Write
from distangle.results import STANDS_OUT, Explanation
from distangle.results.confusion import read_confusion
from distangle.screen import channel_labels

_NOT_EVIDENCE = (
    "Eq. 15 of the paper is a distance between an attribution map and a channel. It follows the brightness of the "
    "channel, whatever the network used: compare random maps (grey). It is shown for comparison and is not evidence "
    "of which channel mattered."
)
_SUMMARY = ("explanations/explanation.json",)
_QUESTIONS = {
    "top_shapley_is_planted": "sites whose largest Shapley value is the planted channel",
    "top_eq15_is_planted": "sites whose largest Eq. (15) is the planted channel",
    "top_correlation_is_planted": "sites whose map correlates most with the planted channel",
    "perturbations_found": "perturbations whose largest mean Shapley value is the planted channel",
    "map_peak_in_place": "sites whose map peaks in the planted region",
    "map_mass_in_place": "mean share of the map inside the planted region (chance: its area)",
}
_DEFINITION = (
    "Shapley value: how much a channel adds to the network's output for a class, averaged over all orders in which the "
    "channels can be added. A p-value compares it with shuffled channels and is corrected for the number of channels."
)
MAX_ROWS = 40


def attribution(data: ReportData, write: Write) -> Content:
    """Show which channel mattered, by perturbation and over all explained sites."""
    explanation = data.explanation
    if explanation is None:
        return missing_notice("No channel has been tested.", f"distangle explain {data.command_path}")
    values: dict[str, Any] = {"definition": _DEFINITION}
    if matrix := _matrix_chart(data, explanation, write):
        values["matrix"] = matrix
    drawing = _shapley_chart(data, explanation, channel_names(data), write)
    values["charts"] = [drawing] if drawing else []
    return Content("sections/channels.html.j2", values)


def other_methods(data: ReportData, write: Write) -> Content | None:
    """Show Eq. 15 with its null and the other attribution methods; None without any."""
    explanation = data.explanation
    if explanation is None:
        return None
    names = channel_names(data)
    drawing, methods = _eq15_chart(data, explanation, names, write), compare_methods(explanation, names)
    if drawing is None and not methods:
        return None
    values: dict[str, Any] = {"definition": "", "charts": [drawing] if drawing else []}
    return Content("sections/channels.html.j2", values | ({"methods": methods} if methods else {}))


def explanation_sentence(data: ReportData) -> str:
    """Summarize the explanation for the top of the page; "" before explaining."""
    explanation, names = data.explanation, channel_names(data)
    column = None if explanation is None else channel_column(explanation, "shapley", len(names))
    if explanation is None or column is None or not np.isfinite(column.mean).any():
        return ""
    sentences = [_tops_by_perturbation(explanation, names)]
    planted = (explanation.planted or {}).get("perturbations_found", {})
    if planted.get("n_total"):
        sentences.append(
            f"Against the planted effects, it names the correct channel for {planted['perturbations']} of "
            f"{planted['n_total']} correctly predicted single-channel perturbations (chance: "
            f"{percent(planted['chance'], 0)})."
        )
    if explanation.p_of_top <= STANDS_OUT:
        sentences.append(
            f"Over {count(len(explanation.table), 'explained site')}, {names[int(np.nanargmax(column.mean))]} "
            f"contributed most to the predictions (p = {explanation.p_of_top:.2g})."
        )
    else:
        sentences.append(_none_stands_out(explanation))
    return " ".join(sentence for sentence in sentences if sentence)


def _none_stands_out(explanation: Explanation) -> str:
    many = len(channels_by_perturbation(explanation)) > 1
    over = "all perturbations" if many else count(len(explanation.table), "explained site")
    return f"No single channel stands out over {over} (p = {explanation.p_of_top:.2g})."


def _tops_by_perturbation(explanation: Explanation, labels: Sequence[str]) -> str:
    """Count the perturbations whose top channel is each channel; "" for only one."""
    tops = _top_channels(explanation)
    if len(tops) < 2:
        return ""
    counts = Counter(tops.values()).most_common()
    text = ", ".join(f"{labels[channel - 1]} for {n:,}" for channel, n in counts)
    sentence = f"Across {len(tops):,} explained perturbations, the channel with the largest Shapley value is {text}"
    entries = [entry["shapley"].get("p_family") for entry in explanation.summary.get("perturbations", {}).values()]
    if not all(entries):
        return f"{sentence}."
    n_clear = sum(min(p) <= STANDS_OUT for p in entries)
    return (
        f"{sentence}. This channel stands out among the wells of {n_clear:,} of these perturbations (p at most "
        f"{STANDS_OUT}; by chance 1 in 20)."
    )


def planted(data: ReportData) -> Content | None:
    """Score the explanation against the planted effects; None on a real screen."""
    scored = {} if data.explanation is None else data.explanation.planted or {}
    effects = planted_effects(data.truth)
    if not scored and not effects:
        return None
    tables = [_planted_score_table(scored)] if scored else []
    if rows := planted_rows(data):
        columns = ("perturbation", "planted in", "effect", "top channel", "correct?", "sites predicted correctly")
        tables.append(Table(columns=columns, rows=rows, numeric=(5,), file="planted-effects"))
    values: dict[str, Any] = {"tables": [cells for cells in tables if cells.rows]}
    if data.benchmark is not None and (benchmark := truth_table(data.benchmark)):
        values["benchmark"] = benchmark
    return Content("sections/planted.html.j2", values)


def channel_names(data: ReportData) -> list[str]:
    """Return the labels of the channels, all different."""
    return channel_labels(data.screen.metadata.channels)


def channel_column(explanation: Explanation, name: str, n_channels: int) -> ChannelColumn | None:
    """Return one quantity per channel from the summary, else the mean over its sites.

    Args:
        explanation: Explanation of the run.
        name: `shapley`, `eq15` or `correlation`.
        n_channels: Number of channels of the screen.
    """
    columns = [f"{name}_{k}" for k in range(1, n_channels + 1)]
    summary = explanation.summary.get(name)
    if isinstance(summary, Mapping) and len(_to_array(summary.get("mean"))) == n_channels:
        return ChannelColumn(
            mean=_to_array(summary.get("mean")),
            interval=_to_intervals(summary.get("interval"), n_channels),
            null=_to_intervals(summary.get("null"), n_channels),
            by_group={str(name): _to_array(values) for name, values in summary.get("by_group", {}).items()},
        )
    if not set(columns) <= set(explanation.table.columns) or not len(explanation.table):
        return None
    return ChannelColumn(mean=explanation.table[columns].mean().to_numpy(dtype=np.float64))


def channels_by_perturbation(explanation: Explanation) -> dict[str, np.ndarray]:
    """Return the mean Shapley value of every channel by explained perturbation."""
    perturbations = explanation.summary.get("perturbations", {})
    return {str(name): _to_array(entry["shapley"]["mean"]) for name, entry in perturbations.items()}


def planted_effects(truth: Mapping[str, Any] | None) -> Mapping[str, Mapping[str, Any]]:
    """Return the planted effect by perturbation; empty on a real screen."""
    effects = {} if truth is None else truth.get("perturbations", {})
    if not isinstance(effects, Mapping):
        return {}
    return {str(name): entry for name, entry in effects.items() if isinstance(entry, Mapping)}


def planted_rows(data: ReportData) -> list[tuple[str, ...]]:
    """Return a row per perturbation: planted effect, top channel, recall."""
    names, explanation = channel_names(data), data.explanation
    effects, recall = planted_effects(data.truth), _recall_by_perturbation(data)
    tops: Mapping[str, int] = {} if explanation is None else _top_channels(explanation)
    lines: list[tuple[str, ...]] = []
    for perturbation in [name for name in data.screen.metadata.perturbations if name in effects or name in tops]:
        effect = effects.get(perturbation, {})
        channels = [int(k) for k in effect.get("channels", ())]
        planted_in = (
            "every channel" if len(channels) == len(names) > 1 else ", ".join(_channel_name(k, names) for k in channels)
        )
        kind = str(effect.get("description") or effect.get("kind") or "")
        top = tops.get(perturbation)
        verdict = "–" if top is None or not channels else "yes" if top in channels else "no"
        n_correct, n_sites = recall.get(perturbation, (0, 0))
        lines.append((
            perturbation, planted_in or "nothing", kind, "not explained" if top is None else _channel_name(top, names),
            verdict, f"{n_correct} of {n_sites}" if n_sites else "–",
        ))  # fmt: skip
    return lines


def _shapley_chart(
    data: ReportData, explanation: Explanation, names: Sequence[str], write: Write
) -> dict[str, Any] | None:
    column = channel_column(explanation, "shapley", len(names))
    if column is None:
        return None
    top, stands_out = int(np.nanargmax(column.mean)), explanation.p_of_top <= STANDS_OUT
    caption = "" if stands_out else f"{_none_stands_out(explanation)} "
    caption += (
        f"The largest of {len(names)} means over {count(len(explanation.table), 'explained site')} is {names[top]}, "
        f"{_signed(column.mean[top])}"
    )
    caption += f" (p = {explanation.p_of_top:.2g}). " if stands_out else ". "
    caption += "The values of a site add up to the change from no channel to all of them."
    caption += _detail_sentences(explanation, column)
    drawing = charts.channel_chart(
        names, column, title="Mean channel Shapley value", unit=unit_of(explanation),
        highlighted=top if stands_out else None, stamp=data.stamp,
    )  # fmt: skip
    columns = [("mean", [_signed(value) for value in column.mean])]
    if column.null is not None:
        columns.append(("channels shuffled", [f"{_signed(low)} to {_signed(high)}" for low, high in column.null]))
    columns += _p_columns(explanation, "shapley", names)
    columns += _top_columns(explanation, {"largest in": "shapley_top_channel"}, names)
    return {
        "source": write("shapley.svg", drawing),
        "files": _SUMMARY,
        "alternative": "Mean Shapley value of every channel",
        "caption": caption,
        "table": _channel_table(
            names, columns, caption="Shapley value, and the number of sites where it is largest", file="channels"
        ),
    }


def _eq15_chart(
    data: ReportData, explanation: Explanation, names: Sequence[str], write: Write
) -> dict[str, Any] | None:
    column = channel_column(explanation, "eq15", len(names))
    if column is None:
        return None
    drawing = charts.channel_chart(
        names, column, title="Eq. (15) as printed, not evidence", unit="distance, largest channel = 1",
        stamp=data.stamp,
    )  # fmt: skip
    columns = [("Eq. (15)", [f"{value:.3f}" for value in column.mean])]
    if column.null is not None:
        columns.append(("random maps", [f"{low:.3f} – {high:.3f}" for low, high in column.null]))
    random_too = {"largest in": "eq15_top_channel", "at random": "eq15_top_channel_of_random_maps"}
    columns += _top_columns(explanation, random_too, names)
    caption = "Eq. (15), and the number of sites where it is largest: with the network's maps and with random maps"
    return {
        "source": write("eq15.svg", drawing),
        "files": _SUMMARY,
        "alternative": "Eq. 15 of every channel",
        "caption": _NOT_EVIDENCE,
        "table": _channel_table(names, columns, caption=caption, file="equation-15"),
    }


def _channel_table(
    names: Sequence[str], columns: Sequence[tuple[str, Sequence[str]]], *, caption: str, file: str
) -> Table:
    rows = list(zip(names, *(cells for _, cells in columns), strict=True))
    titles = ["channel", *(title for title, _ in columns)]
    return Table(columns=titles, rows=rows, numeric=range(1, len(titles)), caption=caption, file=file)


def _p_columns(explanation: Explanation, name: str, names: Sequence[str]) -> list[tuple[str, list[str]]]:
    values = _to_array(explanation.summary.get(name, {}).get("p_family"))
    return [("p", [f"{value:.2g}" for value in values])] if len(values) == len(names) else []


def _top_columns(
    explanation: Explanation, keys: Mapping[str, str], names: Sequence[str]
) -> list[tuple[str, list[str]]]:
    columns = []
    for title, key in keys.items():
        counts = explanation.summary.get(key)
        if isinstance(counts, Mapping) and len(counts) == len(names):
            cells = [f"{value:,}" if isinstance(value, int) else f"{float(value):.1f}" for value in counts.values()]
            columns.append((title, cells))
    return columns


def _matrix_chart(data: ReportData, explanation: Explanation, write: Write) -> dict[str, Any] | None:
    means, names = channels_by_perturbation(explanation), channel_names(data)
    if not means:
        return None
    order = [name for name in data.screen.metadata.perturbations if name in means]
    order += [name for name in means if name not in order]
    largest = sorted(order, key=lambda name: -float(np.nanmax(np.abs(means[name]), initial=0.0)))[:MAX_ROWS]
    rows, effects = [name for name in order if name in set(largest)], planted_effects(data.truth)
    planted_in = [[int(k) - 1 for k in effects.get(name, {}).get("channels", ())] for name in rows] if effects else []
    values = np.stack([means[name] for name in rows])
    drawing = charts.channel_matrix(
        rows, names, values, unit=unit_of(explanation), planted=planted_in, stamp=data.stamp
    )
    caption = f"Mean Shapley value of every channel, by explained perturbation ({_shown(rows, order)})."
    caption += " Framed: where the effect was planted." if planted_in else ""
    return {"source": write("channels.svg", drawing), "caption": caption, "files": _SUMMARY}


def _shown(rows: Sequence[str], order: Sequence[str]) -> str:
    largest = " with the largest values" if len(rows) < len(order) else ""
    return f"the {len(rows)}{largest} of {len(order):,}" if largest else f"{len(rows)} of {len(order)}"


def _detail_sentences(explanation: Explanation, shapley: ChannelColumn) -> str:
    summary, sentences = explanation.summary, ""
    over = f"{summary.get('interval_over', 'group')}s"
    if isinstance(summary.get("top_channel_share"), float) and explanation.p_of_top <= STANDS_OUT:
        sentences += f" This channel is the largest in {percent(summary['top_channel_share'], 0)} of the sites."
    if shapley.interval is not None:
        sentences += f" Lines: 95\u202f% intervals over {summary.get('groups', '')} {over}."
    elif shapley.by_group:
        sentences += f" Rings: {', '.join(shapley.by_group)} one by one, too few {over} for an interval."
    if shapley.null is not None:
        sentences += " Grey: the same with the channels shuffled."
    return sentences


def _planted_score_table(scored: Mapping[str, Any]) -> Table:
    """Compare the share of correctly named planted effects with chance."""
    columns = ("", "correct", "of", "share", "from 0 to 1", "95 % interval, over wells", "chance")
    rows = []
    for key, entry in scored.items():
        if not isinstance(entry, Mapping) or entry.get("share") is None:
            continue
        share, chance = float(entry["share"]), float(entry.get("chance", entry.get("area", 0.0)))
        interval = (float(entry["low"]), float(entry["high"])) if entry.get("low") is not None else None
        hits = entry.get("sites", entry.get("perturbations"))
        rows.append((
            _QUESTIONS.get(key, spaced(key)),
            "–" if hits is None else f"{hits:,}",
            f"{entry['n_total']:,}",
            percent(share),
            interval_bar(share, interval, chance=chance),
            "–" if interval is None else f"{percent(interval[0])} – {percent(interval[1])}",
            percent(chance),
        ))  # fmt: skip
    return Table(columns=columns, rows=rows, numeric=(1, 2, 3, 5, 6))


def _recall_by_perturbation(data: ReportData) -> dict[str, tuple[int, int]]:
    if data.scores is None:
        return {}
    counts = read_confusion(data.scores.confusion)
    recalls = zip(counts.n_correct.tolist(), counts.n_sites.tolist(), strict=True)
    return dict(zip(counts.perturbations, recalls, strict=True))


def _top_channels(explanation: Explanation) -> dict[str, int]:
    """Return the top channel, counted from 1, by explained perturbation."""
    means = channels_by_perturbation(explanation)
    return {name: int(np.nanargmax(values)) + 1 for name, values in means.items() if np.isfinite(values).any()}


def _channel_name(channel: int, names: Sequence[str]) -> str:
    return names[channel - 1] if 1 <= channel <= len(names) else f"channel {channel}"


def _to_array(values: object) -> np.ndarray:
    if not isinstance(values, list | tuple):
        return np.empty(0)
    return np.array([np.nan if value is None else float(value) for value in values])


def _to_intervals(values: object, n_channels: int) -> np.ndarray | None:
    if not isinstance(values, list | tuple) or len(values) != n_channels:
        return None
    return np.array([[float(low), float(high)] for low, high in values])


def unit_of(explanation: Explanation) -> str:
    """Return the unit of the Shapley values."""
    of = str(explanation.settings.get("score") or "logit")
    units = {
        "log_probability": "change of the log probability",
        "logit": "change of the logit",
        "probability": "probability",
    }
    return units.get(of, spaced(of))


def _signed(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:+.2f}".replace("-", "\u2212")
