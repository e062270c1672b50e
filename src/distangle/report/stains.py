"""The sections that say which stain gave it away, and how that compares with a planted truth."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from distangle.report import charts
from distangle.report.marks import interval_bar
from distangle.report.material import Material
from distangle.report.page import Markup, absent, count, element, figure, joined, paragraph, percent, table
from distangle.report.scored import Write
from distangle.report.ways import ways
from distangle.results import STANDS_OUT, Explanation
from distangle.screen import Channel

_NOT_EVIDENCE = (
    "Eq. 15 of the paper is a distance between an activation map and a channel, so it follows the brightness of the "
    "channel whatever the network looked at: compare maps drawn at random (grey). It is printed for comparison and is "
    "not evidence of which stain mattered."
)
_MARKS = {
    "top_shapley_is_planted": "sites whose largest Shapley value is the planted stain",
    "top_eq15_is_planted": "sites whose largest Eq. (15) is the planted stain",
    "top_correlation_is_planted": "sites whose map follows the planted stain most",
    "perturbations_found": "perturbations whose largest mean Shapley value is the planted stain",
    "map_peak_in_place": "sites whose map peaks in the planted place",
    "map_mass_in_place": "mean share of the map inside the planted place (chance: its area)",
}
MOST_ROWS = 40


@dataclass(frozen=True, kw_only=True)
class ChannelColumn:
    """One quantity per channel, over all explained sites.

    Attributes:
        mean: [channel].
        interval: [channel, 2]; None when the explanation does not tell.
        null: [channel, 2], range under random maps; None when it does not tell.
        by_group: [channel] of each experiment (plate) by name, where they are too few for an interval.
    """

    mean: np.ndarray
    interval: np.ndarray | None = None
    null: np.ndarray | None = None
    by_group: Mapping[str, np.ndarray] = field(default_factory=dict)


def attribution(material: Material, write: Write) -> Markup:
    """Draw which stain mattered over all explained sites, and Eq. 15 beside its null."""
    explanation = material.explanation
    if explanation is None:
        return absent("No channel has been tested.", f"distangle explain {material.typed}")
    names = channel_names(material)
    parts = [element("div", _by_perturbation(material, explanation, write))]
    shapley = channel_column(explanation, "shapley", len(names))
    if shapley is not None:
        top, stands_out = int(np.nanargmax(shapley.mean)), explanation.p_of_top <= STANDS_OUT
        said = (
            f"Adding {names[top]}, averaged over all sets of the other stains, changes the network's answer by "
            f"{_signed(shapley.mean[top])} ({unit_of(explanation)}), the largest mean of {len(names)} stains over "
            f"{count(len(explanation.table), 'explained site')}"
        )
        said += f" (p = {explanation.p_of_top:.2g}). " if stands_out else f". {_none_stands_out(explanation)} "
        said += "The values of a site add up to the change from no stain to all of them."
        said += _agreement(explanation, shapley)
        drawing = charts.channel_chart(
            names, shapley.mean, shapley.interval, title="Which stain: mean channel Shapley value",
            unit=unit_of(explanation), null=shapley.null, highlighted=top if stands_out else None,
            by_group=shapley.by_group, stamp=material.stamp,
        )  # fmt: skip
        drawn = figure(write("shapley.svg", drawing), alternative="Mean Shapley value of every channel", caption=said)
        parts.append(element("div", drawn, _shapley_table(explanation, shapley, names)))
    literal = channel_column(explanation, "eq15", len(names))
    if literal is not None:
        drawing = charts.channel_chart(
            names, literal.mean, literal.interval, title="Eq. (15) as printed, not evidence",
            unit="distance, largest channel = 1", null=literal.null, by_group=literal.by_group, stamp=material.stamp,
        )  # fmt: skip
        drawn = figure(write("eq15.svg", drawing), alternative="Eq. 15 of every channel", caption=_NOT_EVIDENCE)
        parts.append(element("div", drawn, _literal_table(explanation, literal, names)))
    return joined([element("div", *parts, class_="pair"), ways(explanation, names)])


def explanation_sentence(material: Material) -> str:
    """Return what the explanation says, for the top of the page; "" before explaining."""
    explanation, names = material.explanation, channel_names(material)
    column = None if explanation is None else channel_column(explanation, "shapley", len(names))
    if explanation is None or column is None or not np.isfinite(column.mean).any():
        return ""
    stains = [
        f"{name} ({channel.organelle})" if channel.organelle else name
        for name, channel in zip(names, material.screen.card.channels, strict=True)
    ]
    said = [_tops_by_perturbation(explanation, stains)]
    found = (explanation.planted or {}).get("perturbations_found", {})
    if found.get("of"):
        said.append(
            f"Measured against what was planted, it names the right stain for {found['perturbations']} of "
            f"{found['of']} recognised single-stain perturbations (guessing: {percent(found['chance'], 0)})."
        )
    if explanation.p_of_top <= STANDS_OUT:
        said.append(
            f"Over {count(len(explanation.table), 'explained site')}, {stains[int(np.nanargmax(column.mean))]} carried "
            f"its answers most (p = {explanation.p_of_top:.2g})."
        )
    else:
        said.append(_none_stands_out(explanation))
    return " ".join(words for words in said if words)


def _none_stands_out(explanation: Explanation) -> str:
    many = len(stains_by_perturbation(explanation)) > 1
    over = "all perturbations" if many else count(len(explanation.table), "explained site")
    return f"No single stain stands out over {over} (p = {explanation.p_of_top:.2g})."


def _tops_by_perturbation(explanation: Explanation, stains: Sequence[str]) -> str:
    """Say which stain is the largest for how many perturbations, and of how many it stands out; "" of a single one."""
    tops = _top_channels(explanation)
    if len(tops) < 2:
        return ""
    counts = Counter(tops.values()).most_common()
    listed = ", ".join(f"{stains[channel - 1]} for {n:,}" for channel, n in counts)
    said = f"Of {len(tops):,} explained perturbations, the stain that moved the answer most is {listed}"
    entries = [entry["shapley"].get("p_family") for entry in explanation.summary.get("perturbations", {}).values()]
    if not all(entries):
        return f"{said}."
    clear = sum(min(p) <= STANDS_OUT for p in entries)
    return f"{said}; among its own wells it stands out for {clear:,} (p at most {STANDS_OUT}; by chance 1 in 20)."


def planted(material: Material) -> Markup | None:
    """Compare what was planted with what was found; None on a real screen."""
    said = {} if material.explanation is None else material.explanation.planted or {}
    effects = planted_effects(material.truth)
    if not said and not effects:
        return None
    parts: list[Markup] = [
        paragraph("This screen is synthetic: what every perturbation does is known, so the explanation can be marked.")
    ]
    if said:
        parts.append(_marks(said))
    rows = planted_rows(material)
    if rows:
        heads = ("perturbation", "planted in", "what was planted", "stain found", "found?", "sites recognised")
        parts.append(table(heads, rows, numeric=(5,)))
    return joined(parts)


def channel_label(channel: Channel) -> str:
    """Return what a channel is called beside a picture: its stain when known."""
    return channel.stain or channel.name


def channel_names(material: Material) -> list[str]:
    """Return what the channels are called beside a chart."""
    labels = [channel_label(channel) for channel in material.screen.card.channels]
    # Two stains of one name are told apart by their channel's name.
    return [
        label if labels.count(label) == 1 else f"{label} ({channel.name})"
        for label, channel in zip(labels, material.screen.card.channels, strict=True)
    ]


def channel_column(explanation: Explanation, name: str, n_channels: int) -> ChannelColumn | None:
    """Return one quantity per channel from the summary; the plain mean of its rows where the summary is silent.

    Args:
        explanation: What was found.
        name: `shapley`, `eq15` or `correlation`.
        n_channels: Channels of the screen.
    """
    columns = [f"{name}_{k}" for k in range(1, n_channels + 1)]
    said = explanation.summary.get(name)
    if isinstance(said, Mapping) and len(_numbers(said.get("mean"))) == n_channels:
        return ChannelColumn(
            mean=_numbers(said.get("mean")),
            interval=_pairs(said.get("interval"), n_channels),
            null=_pairs(said.get("null"), n_channels),
            by_group={str(name): _numbers(values) for name, values in said.get("by_group", {}).items()},
        )
    if not set(columns) <= set(explanation.table.columns) or not len(explanation.table):
        return None
    return ChannelColumn(mean=explanation.table[columns].mean().to_numpy(dtype=np.float64))


def stains_by_perturbation(explanation: Explanation) -> dict[str, np.ndarray]:
    """Return the mean Shapley value of every channel by explained perturbation, as the summary has them."""
    said = explanation.summary.get("perturbations", {})
    return {str(name): _numbers(entry["shapley"]["mean"]) for name, entry in said.items()}


def planted_effects(truth: Mapping[str, Any] | None) -> Mapping[str, Mapping[str, Any]]:
    """Return what was planted by perturbation; empty on a real screen."""
    found = {} if truth is None else truth.get("perturbations", {})
    if not isinstance(found, Mapping):
        return {}
    return {str(name): entry for name, entry in found.items() if isinstance(entry, Mapping)}


def planted_rows(material: Material) -> list[tuple[str, ...]]:
    """Return one line per explained or planted perturbation: planted channels and kind, stain found, recall."""
    names, explanation = channel_names(material), material.explanation
    effects, recall = planted_effects(material.truth), _recall(material)
    found: Mapping[str, int] = {}
    if explanation is not None:
        found = _top_channels(explanation)
    lines: list[tuple[str, ...]] = []
    for perturbation in [name for name in material.screen.card.perturbations if name in effects or name in found]:
        effect = effects.get(perturbation, {})
        channels = [int(k) for k in effect.get("channels", ())]
        where = "every stain" if len(channels) == len(names) > 1 else ", ".join(_named(k, names) for k in channels)
        kind = str(effect.get("description") or effect.get("kind") or "")
        top = found.get(perturbation)
        mark = "–" if top is None or not channels else "yes" if top in channels else "no"
        right, of = recall.get(perturbation, (0, 0))
        lines.append((
            perturbation, where or "nothing", kind, "not explained" if top is None else _named(top, names), mark,
            f"{right} of {of}" if of else "–",
        ))  # fmt: skip
    return lines


def _shapley_table(explanation: Explanation, shapley: ChannelColumn, names: Sequence[str]) -> Markup:
    columns = [("mean", [_signed(value) for value in shapley.mean])]
    if shapley.null is not None:
        columns.append(("stains shuffled", [f"{_signed(low)} to {_signed(high)}" for low, high in shapley.null]))
    columns += _p(explanation, "shapley", names)
    columns += _tops(explanation, {"largest in": "shapley_top_channel"}, names)
    return _columns(names, columns, caption="Shapley value; largest in so many sites")


def _literal_table(explanation: Explanation, literal: ChannelColumn, names: Sequence[str]) -> Markup:
    columns = [("Eq. (15)", [f"{value:.3f}" for value in literal.mean])]
    if literal.null is not None:
        columns.append(("random maps", [f"{low:.3f} – {high:.3f}" for low, high in literal.null]))
    random_too = {"largest in": "eq15_top_channel", "random maps": "eq15_top_channel_of_random_maps"}
    columns += _tops(explanation, random_too, names)
    return _columns(names, columns, caption="Eq. (15); largest in so many sites, and with random maps")


def _columns(names: Sequence[str], columns: Sequence[tuple[str, Sequence[str]]], *, caption: str) -> Markup:
    rows = zip(names, *(cells for _, cells in columns), strict=True)
    heads = ["stain", *(head for head, _ in columns)]
    return table(heads, rows, numeric=range(1, len(heads)), caption=caption)


def _p(explanation: Explanation, name: str, names: Sequence[str]) -> list[tuple[str, list[str]]]:
    said = explanation.summary.get(name, {})
    values = _numbers(said.get("p_family"))
    return [("p", [f"{value:.2g}" for value in values])] if len(values) == len(names) else []


def _tops(explanation: Explanation, keys: Mapping[str, str], names: Sequence[str]) -> list[tuple[str, list[str]]]:
    found = []
    for title, key in keys.items():
        counts = explanation.summary.get(key)
        if isinstance(counts, Mapping) and len(counts) == len(names):
            cells = [f"{value:,}" if isinstance(value, int) else f"{float(value):.1f}" for value in counts.values()]
            found.append((title, cells))
    return found


def _by_perturbation(material: Material, explanation: Explanation, write: Write) -> Markup:
    means, names = stains_by_perturbation(explanation), channel_names(material)
    if not means:
        return Markup("")
    order = [name for name in material.screen.card.perturbations if name in means]
    order += [name for name in means if name not in order]
    shown, effects = order[:MOST_ROWS], planted_effects(material.truth)
    planted_in = [[int(k) - 1 for k in effects.get(name, {}).get("channels", ())] for name in shown] if effects else []
    values = np.stack([means[name] for name in shown])
    drawing = charts.stain_matrix(
        shown, names, values, unit=unit_of(explanation), planted=planted_in, stamp=material.stamp
    )
    said = f"Mean Shapley value of every stain, by explained perturbation ({len(shown)} of {len(order)})."
    said += " Framed: where the effect was planted." if planted_in else ""
    return figure(
        write("stains.svg", drawing), alternative="Mean Shapley value by perturbation and stain", caption=said
    )


def _agreement(explanation: Explanation, shapley: ChannelColumn) -> str:
    said, told = explanation.summary, ""
    over = f"{said.get('interval_over', 'group')}s"
    if isinstance(said.get("top_channel_share"), float):
        told += f" It is the largest in {percent(said['top_channel_share'], 0)} of the sites."
    if shapley.interval is not None:
        told += f" Lines: 95\u202f% intervals over {said.get('groups', '')} {over}."
    elif shapley.by_group:
        told += f" Rings: {', '.join(shapley.by_group)} by themselves, too few {over} for an interval."
    if shapley.null is not None:
        told += " Grey: the same with the stains shuffled."
    return told


def _marks(said: Mapping[str, Any]) -> Markup:
    """Draw how often the explanation named what was planted, each beside chance."""
    heads = ("", "right", "of", "share", "from 0 to 1", "95 % interval, over wells", "chance")
    rows = []
    for key, found in said.items():
        if not isinstance(found, Mapping) or found.get("share") is None:
            continue
        share, chance = float(found["share"]), float(found.get("chance", found.get("area", 0.0)))
        ends = (float(found["low"]), float(found["high"])) if found.get("low") is not None else None
        hits = found.get("sites", found.get("perturbations"))
        rows.append((
            _MARKS.get(key, _words(key)),
            "–" if hits is None else f"{hits:,}",
            f"{found['of']:,}",
            percent(share),
            interval_bar(share, ends, chance=chance),
            "–" if ends is None else f"{percent(ends[0])} – {percent(ends[1])}",
            percent(chance),
        ))  # fmt: skip
    return table(heads, rows, numeric=(1, 2, 3, 5, 6)) if rows else Markup("")


def _recall(material: Material) -> dict[str, tuple[int, int]]:
    if material.scores is None:
        return {}
    names, counts = material.scores.confusion.get("perturbations", []), material.scores.confusion.get("counts", [])
    if not isinstance(names, Sequence) or not isinstance(counts, Sequence):
        return {}
    return {
        str(name): (int(row[place]), int(sum(row))) for place, (name, row) in enumerate(zip(names, counts, strict=True))
    }


def _top_channels(explanation: Explanation) -> dict[str, int]:
    """Return the channel, counted from 1, of the largest mean Shapley value by explained perturbation."""
    means = stains_by_perturbation(explanation)
    return {name: int(np.nanargmax(values)) + 1 for name, values in means.items() if np.isfinite(values).any()}


def _named(channel: int, names: Sequence[str]) -> str:
    return names[channel - 1] if 1 <= channel <= len(names) else f"channel {channel}"


def _numbers(values: object) -> np.ndarray:
    if not isinstance(values, list | tuple):
        return np.empty(0)
    return np.array([np.nan if value is None else float(value) for value in values])


def _pairs(values: object, n_channels: int) -> np.ndarray | None:
    if not isinstance(values, list | tuple) or len(values) != n_channels:
        return None
    return np.array([[float(low), float(high)] for low, high in values])


def unit_of(explanation: Explanation) -> str:
    """Return what the Shapley values are measured in."""
    of = str(explanation.settings.get("of") or "logit")
    units = {"log_probability": "nats of log probability", "logit": "change of the logit", "probability": "probability"}
    return units.get(of, of.replace("_", " "))


def _signed(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:+.2f}".replace("-", "\u2212")


def _words(key: str) -> str:
    return key.replace("_", " ")
