"""The sections that say why: explained sites, channel attribution, what was planted and what was found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from distangle.report import charts
from distangle.report.marks import Bar, bars
from distangle.report.material import Material
from distangle.report.page import (
    Markup,
    absent,
    count,
    definitions,
    element,
    figure,
    joined,
    paragraph,
    percent,
    table,
)
from distangle.report.scored import Write, printed
from distangle.report.sites import ChosenSite, Painter, SitePictures, channel_label, choose_sites
from distangle.results import Explanation

_KINDS = {
    "correct": "correct",
    "wrong": "error",
    "unlabelled": "no known perturbation",
    "control": "control",
}
_NOT_EVIDENCE = (
    "Eq. 15 of the paper is a distance between an activation map and a channel, so it grows with the brightness of "
    "the channel whatever the network looked at: maps drawn at random (grey) give nearly the same figures. It is "
    "printed for comparison and is not evidence of which stain mattered."
)


@dataclass(frozen=True, kw_only=True)
class ChannelColumn:
    """One quantity per channel, over all explained sites.

    Attributes:
        mean: [channel].
        interval: [channel, 2]; None when the explanation does not tell.
        null: [channel, 2], range under random maps; None when it does not tell.
    """

    mean: np.ndarray
    interval: np.ndarray | None = None
    null: np.ndarray | None = None


def explained_sites(material: Material, painter: Painter, *, advance: Callable[[str], None]) -> Markup:
    """Show the chosen sites with their stains, activation maps and channel attributions."""
    explanation = material.explanation
    if explanation is None:
        return absent("No site has been explained.", f"distangle explain {material.name}")
    chosen = choose_sites(explanation.table)
    if not chosen:
        return paragraph("The explanation holds no site.")
    scale = painter.scale()
    cards = []
    for place, site in enumerate(chosen, start=1):
        name = f"site-{place:02d}"
        pictures = painter.paint(site.key, explanation.maps[site.row], name=name)
        cards.append(_card(site, pictures, material, explanation))
        advance(" ".join(map(str, site.key)))
    intro = paragraph(
        f"{len(chosen)} of {count(len(explanation.table), 'explained site')}: the best supported correct ones of "
        "different perturbations, then the most confident errors; controls come last. Left, all channels in their "
        "colours; pictures of one plate share their contrast. Right, the activation map over the grey mean of the "
        "channels: where the network looked, never which stain it used. The bars answer that.",
    )
    bar = element(
        "figure",
        element("img", src=scale, alt="Colour bar of the activation maps", width=256, height=12),
        element("figcaption", element("span", "0"), element("span", "activation map"), element("span", "1"), class_="ends"),
        class_="map-scale",
    )
    return joined([intro, bar, *cards])


def attribution(material: Material, write: Write) -> Markup:
    """Draw which stain mattered over all explained sites, and Eq. 15 beside its null."""
    explanation = material.explanation
    if explanation is None:
        return absent("No channel has been tested.", f"distangle explain {material.name}")
    names = channel_names(material)
    parts = []
    shapley = channel_column(explanation, "shapley", len(names))
    if shapley is not None:
        top = int(np.nanargmax(shapley.mean))
        said = (
            f"Over {count(len(explanation.table), 'explained site')}, {names[top]} carries the most: removing and "
            "returning it, averaged over all sets of the other stains, moves the explained logit by "
            f"{_signed(shapley.mean[top])}. The Shapley values of a site add up to the change from all stains removed "
            "to none removed."
        )
        if shapley.interval is not None:
            said += " Lines: 95\u202f% intervals."
        drawing = charts.channel_chart(
            names, shapley.mean, shapley.interval, title="Which stain: mean channel Shapley value",
            unit="change of the explained logit", null=shapley.null, highlighted=top,
        )  # fmt: skip
        parts.append(figure(write("shapley.svg", drawing), alternative="Mean Shapley value of every channel", caption=said))
    literal = channel_column(explanation, "eq15", len(names))
    if literal is not None:
        drawing = charts.channel_chart(
            names, literal.mean, literal.interval, title="Eq. (15) as printed, not evidence",
            unit="distance, largest channel = 1", null=literal.null,
        )  # fmt: skip
        parts.append(
            figure(write("eq15.svg", drawing), alternative="Eq. 15 of every channel", caption=_NOT_EVIDENCE)
        )
    drawn = element("div", *parts, class_="pair")
    return joined([drawn, _channel_table(material, explanation, names), _summary(explanation)])


def planted(material: Material) -> Markup | None:
    """Compare what was planted with what was found; None on a real screen."""
    said = {} if material.explanation is None else material.explanation.planted or {}
    effects = planted_effects(material.truth)
    if not said and not effects:
        return None
    parts: list[Markup] = [
        paragraph("This screen is synthetic: what every perturbation does is known, so the explanation can be marked.")
    ]
    rows = planted_rows(material)
    if rows:
        heads = ("perturbation", "planted in", "what was planted", "stain found", "found?", "sites recognised")
        parts.append(table(heads, rows, numeric=(5,)))
    numbers = [(_words(key), printed(value)) for key, value in said.items() if not _is_table(value)]
    if numbers:
        parts.append(definitions(numbers))
    return joined(parts)


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
        )
    if not set(columns) <= set(explanation.table.columns) or not len(explanation.table):
        return None
    return ChannelColumn(mean=explanation.table[columns].mean().to_numpy(dtype=np.float64))


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
        found = _top_channels(explanation, len(names))
    lines = []
    for perturbation in [name for name in material.screen.card.perturbations if name in effects or name in found]:
        effect = effects.get(perturbation, {})
        channels = [int(k) for k in effect.get("channels", ())]
        where = "every stain" if len(channels) == len(names) > 1 else ", ".join(_named(k, names) for k in channels)
        kind = str(effect.get("words") or effect.get("kind") or effect.get("name") or "")
        top = found.get(perturbation)
        mark = "–" if top is None or not channels else "yes" if top in channels else "no"
        right, of = recall.get(perturbation, (0, 0))
        lines.append((
            perturbation, where or "nothing", kind, "not explained" if top is None else _named(top, names), mark,
            f"{right} of {of}" if of else "–",
        ))  # fmt: skip
    return lines


def site_sentence(site: ChosenSite, explanation: Explanation) -> str:
    """Return the caption of a site in words."""
    entry = site.entry
    experiment, plate, well, number = site.key
    true = str(entry["perturbation"]) or "unknown"
    role = str(entry["Metadata_Role"]).replace("_", " ")
    what = f"{role}: {true}" if site.kind == "control" else true
    cell_type = str(entry.get("Metadata_Cell_Type", "") or "")
    where = f"{experiment}, plate {plate}, well {well}, site {number}" + (f" ({cell_type})" if cell_type else "")
    fold = {"held_out": "held out", "train": "training"}.get(str(entry.get("Metadata_Fold", "")), "")
    settings = explanation.settings
    how = ", ".join(
        f"{word} {settings[word]}" for word in ("head", "layer") if settings.get(word) not in (None, "")
    )
    sentence = f"{where}{', ' + fold if fold else ''}. True: {what}; predicted: {entry['predicted']}. "
    sentence += f"Explained: {entry['explained']}, probability {float(entry['probability']):.2f}"
    return sentence + (f"; {how}." if how else ".")


def _card(site: ChosenSite, pictures: SitePictures, material: Material, explanation: Explanation) -> Markup:
    true = str(site.entry["perturbation"]) or "unknown"
    tag = _KINDS[site.kind] if site.kind != "control" else str(site.entry["Metadata_Role"]).replace("_", " ")
    title = element("h3", true if site.kind != "wrong" else f"{true} taken for {site.entry['predicted']}", " ",
                    element("span", tag, class_=f"tag {site.kind}"))  # fmt: skip
    drawn = []
    if pictures.composite:
        drawn.append(_picture(pictures.composite, "All channels merged in their colours", pictures.width))
    if pictures.overlay:
        drawn.append(_picture(pictures.overlay, "Activation map over the grey mean of the channels", pictures.width))
    if pictures.problem:
        drawn.append(paragraph(pictures.problem, class_="absent"))
    names = channel_names(material)
    stains = []
    for source, name, channel in zip(pictures.stains, names, material.screen.card.channels, strict=False):
        told = [element("strong", name)] + ([f" {channel.organelle}"] if channel.organelle else [])
        stains.append(
            element("figure", element("img", src=source, alt=f"Channel {name} in grey", loading="lazy"),
                    element("figcaption", *told))  # fmt: skip
        )
    said = element("div", site_bars(site, material, explanation), paragraph(site_sentence(site, explanation), class_="caption"),
                   class_="why")  # fmt: skip
    return element(
        "article", title, element("div", element("div", *drawn, class_="pictures"), said, class_="columns"),
        element("div", *stains, class_="stains"), class_="site",
    )  # fmt: skip


def site_bars(site: ChosenSite, material: Material, explanation: Explanation) -> Markup:
    """Draw the Shapley values of one site, with the null's range behind where the explanation tells it."""
    names, channels = channel_names(material), material.screen.card.channels
    columns = [f"shapley_{k}" for k in range(1, len(names) + 1)]
    if not set(columns) <= set(site.entry):
        return paragraph("No channel attribution for this site.", class_="absent")
    values = [float(site.entry[column]) for column in columns]
    null = channel_column(explanation, "shapley", len(names))
    ranges = None if null is None else null.null
    top = int(np.nanargmax(values)) if np.isfinite(values).any() else -1
    items = [
        Bar(
            name=name,
            value=value,
            colour=channel.colour,
            strong=place == top,
            null=None if ranges is None else (float(ranges[place, 0]), float(ranges[place, 1])),
        )
        for place, (name, value, channel) in enumerate(zip(names, values, channels, strict=True))
    ]
    told = "Shapley value of each stain (change of the explained logit)"
    listed = ", ".join(f"{name} {value:.2f}" for name, value in zip(names, values, strict=True))
    null_told = "" if ranges is None else " Grey: null."
    return element("figure", bars(items, said=f"{told}: {listed}"), element("figcaption", told + "." + null_told))


def _channel_table(material: Material, explanation: Explanation, names: Sequence[str]) -> Markup:
    columns = {
        "Shapley": channel_column(explanation, "shapley", len(names)),
        "Eq. (15)": channel_column(explanation, "eq15", len(names)),
        "correlation": channel_column(explanation, "correlation", len(names)),
    }
    there = {title: column for title, column in columns.items() if column is not None}
    heads, rows = ["stain", "organelle"], [[name, channel.organelle or "–"] for name, channel in zip(names, material.screen.card.channels, strict=True)]
    for title, column in there.items():
        heads.append(title)
        for place, row in enumerate(rows):
            row.append(_signed(column.mean[place]))
        for more, values in (("interval", column.interval), ("under random maps", column.null)):
            if values is not None:
                heads.append(more)
                for place, row in enumerate(rows):
                    row.append(f"{_signed(values[place, 0])} to {_signed(values[place, 1])}")
    return table(heads, rows, numeric=range(2, len(heads)), caption="Means over the explained sites")


def _summary(explanation: Explanation) -> Markup:
    shown = {"shapley", "eq15", "correlation"}
    numbers = [
        (_words(key), printed(value)) for key, value in explanation.summary.items() if key not in shown and not _is_table(value)
    ]
    return definitions(numbers) if numbers else Markup("")


def _picture(source: str, alternative: str, width: int) -> Markup:
    return element("a", element("img", src=source, alt=alternative, width=width, loading="lazy"), href=source)


def _recall(material: Material) -> dict[str, tuple[int, int]]:
    if material.scores is None:
        return {}
    names, counts = material.scores.confusion.get("perturbations", []), material.scores.confusion.get("counts", [])
    if not isinstance(names, Sequence) or not isinstance(counts, Sequence):
        return {}
    return {str(name): (int(row[place]), int(sum(row))) for place, (name, row) in enumerate(zip(names, counts, strict=True))}


def _top_channels(explanation: Explanation, n_channels: int) -> dict[str, int]:
    columns = [f"shapley_{k}" for k in range(1, n_channels + 1)]
    if not set(columns) <= set(explanation.table.columns):
        return {}
    of = explanation.table.groupby("explained")[columns].mean()
    return {str(name): int(np.argmax(row)) + 1 for name, row in zip(of.index, of.to_numpy(), strict=True)}


def _named(channel: int, names: Sequence[str]) -> str:
    return names[channel - 1] if 1 <= channel <= len(names) else f"channel {channel}"


def _is_table(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(isinstance(item, Mapping | list | tuple) for item in value.values())
    return isinstance(value, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in value)


def _numbers(values: object) -> np.ndarray:
    if not isinstance(values, list | tuple):
        return np.empty(0)
    return np.array([np.nan if value is None else float(value) for value in values])


def _pairs(values: object, n_channels: int) -> np.ndarray | None:
    if not isinstance(values, list | tuple) or len(values) != n_channels:
        return None
    return np.array([[float(low), float(high)] for low, high in values])


def _signed(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:+.3f}".replace("-", "\u2212")


def _words(key: str) -> str:
    return key.replace("_", " ")
