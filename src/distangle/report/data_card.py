"""The data card of a screen: one page and one JSON that say what is in it and what to beware of."""

import importlib.resources
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distangle.commit import commit_bytes, commit_json, commit_text
from distangle.report import card_charts
from distangle.report.page import Markup, definitions, document, element, figure, joined, paragraph, section, table
from distangle.screen import Channel, Statistics, statistics_table

MOST_PLATES = 24  # rows of the table of controls before it is summed up


def write_card(
    card: Mapping[str, Any], folder: Path, *, example: tuple[Mapping[str, str], np.ndarray] | None = None
) -> list[Path]:
    """Write `card.json`, `index.html`, its style and its charts; return the paths.

    Args:
        card: From `distangle.images.planes.describe`.
        folder: Of the page; other files in it stay.
        example: Key (experiment, plate, well, site) and image [channel, height, width] of a site to show.
    """
    sheet = _Sheet(folder)
    path = folder / "card.json"
    commit_json(path, dict(card))
    sheet.written.append(path)
    sections = [
        ("counts", "Counts", section("counts", "How much there is", _counts(card), _class_sets(card))),
        ("experiments", "Experiments", section("experiments", "Experiments", _experiments(card))),
    ]
    if example is not None:
        shown = section("example", "The channels of one site", _example(sheet, card, *example))
        sections.append(("example", "Example", shown))
    shown = section("wells", "Wells of each perturbation", _wells(sheet, card))
    sections.append(("wells", "Wells", shown))
    sections.append(("controls", "Controls", section("controls", "Controls on each plate", _controls(card))))
    if card.get("pixels"):
        shown = section("intensity", "Intensity of the channels", *_intensity(sheet, card["pixels"]))
        sections.append(("intensity", "Intensity", shown))
        shown = section("plates", "On the plates, and in the field", *_plates(sheet, card["pixels"]))
        sections.append(("plates", "Plates", shown))
    sections.append(("refused", "Refused", section("refused", "What was refused or looked odd", _problems(card))))
    style = folder / "style.css"
    commit_text(style, importlib.resources.files("distangle.report").joinpath("assets/style.css").read_text("utf-8"))
    page = folder / "index.html"
    commit_text(page, document(f"{card['source']} data card", stamp="", header=_header(card), sections=sections))
    return [*sheet.written, style, page]


class _Sheet:
    """The folder of the page, and what was written into it so far."""

    def __init__(self, folder: Path) -> None:
        self.written: list[Path] = []
        self._folder = folder

    def figure(self, name: str, content: str | bytes, *, alternative: str, caption: str) -> Markup:
        """Write a picture, and show it with its caption."""
        path = self._folder / "figures" / name
        commit_bytes(path, content.encode() if isinstance(content, str) else content)
        self.written.append(path)
        return figure(f"figures/{name}", alternative=alternative, caption=caption)


def _example(sheet: _Sheet, card: Mapping[str, Any], site: Mapping[str, str], image: np.ndarray) -> Markup:
    picture = card_charts.channels_side_by_side(image, [Channel(**channel) for channel in card["channels"]])
    names = ", ".join(str(channel["name"]) for channel in card["channels"])
    place = f"{site['experiment']} plate {site['plate']} well {site['well']} site {site['site']}"
    caption = f"{place}: {names}, and all of them merged (Figure 1)."
    return sheet.figure("channels.png", picture, alternative="The channels of one site", caption=caption)


def _wells(sheet: _Sheet, card: Mapping[str, Any]) -> Markup:
    if not card["wells_by_perturbation"]:
        return paragraph("No perturbation is known.")
    chart = card_charts.wells_per_perturbation(card["wells_by_perturbation"])
    caption = "Wells of each perturbation by role, on a logarithmic scale (Figure 2)."
    return sheet.figure("wells.svg", chart, alternative="Wells of each perturbation", caption=caption)


def _intensity(sheet: _Sheet, pixels: Mapping[str, Any]) -> Iterator[Markup]:
    channels = pixels["channels"]
    yield sheet.figure(
        "intensity.svg",
        card_charts.intensity_by_experiment(channels),
        alternative="Mean intensity by channel and experiment",
        caption="Mean intensity of a site: range, quartiles and median by experiment (Figure 3). "
        f"{pixels['sites_read']:,} of {pixels['of_sites']:,} sites were read.",
    )
    yield _intensities(channels)
    yield sheet.figure(
        "variance.svg",
        card_charts.variance_shares(channels),
        alternative="Share of the variance by level",
        caption=f"Where {pixels['quantity']} varies: between experiments, plates of one experiment, wells of one plate "
        "and sites of one well (nested analysis of variance, without bias). A level that cannot be told is part of the "
        "next coarser one.",
    )


def _plates(sheet: _Sheet, pixels: Mapping[str, Any]) -> Iterator[Markup]:
    for k, channel in enumerate(pixels["channels"], start=1):
        if channel["planes_of_zero"] == channel["planes"]:
            yield paragraph(f"{channel['channel']}: every plane is zero.")
            continue
        yield sheet.figure(
            f"plate-{k}.svg",
            card_charts.plate_and_light(channel, quantity=str(pixels["quantity"])),
            alternative=f"Median plate of {channel['channel']}",
            caption=f"{channel['channel']}. {edge_sentence(channel['edge'])} {_light_sentence(channel)}",
        )


def edge_sentence(edge: Mapping[str, Any] | None) -> str:
    """Say whether the border of the plates differs from the inside."""
    if edge is None:
        return "No plate has wells both at the border and inside."
    size = f"{edge['in_deviations']:+.2f} standard deviations of a well at the border"
    over = f"over {edge['n_plates']} plate{'s' * (edge['n_plates'] != 1)}, p = {edge['p_value']:.3f}"
    return f"{'Edge effect' if edge['p_value'] < 0.01 else 'No edge effect shown'}: {size} ({over})."


def _light_sentence(channel: Mapping[str, Any]) -> str:
    share = channel["darkest_to_brightest"]
    return (
        "" if share is None else f"The darkest part of the field has {100 * share:.0f} % of the light of the brightest."
    )


def _header(card: Mapping[str, Any]) -> Markup:
    image = card["image"]
    size = f"{image['shape'][0]} × {image['shape'][1]} px, {image['dtype']}" if image["shape"] else "not read"
    facts = [
        ("layout", str(card["layout"])),
        ("images", size),
        ("channels", ", ".join(str(channel["name"]) for channel in card["channels"]) or "not looked for"),
        ("cell types", ", ".join(card["cell_types"]) or "not told"),
        ("plate", f"{card['plate'][0]} × {card['plate'][1]} wells"),
        ("law", f"found {card['found']:,} = indexed {card['indexed']:,} + refused {card['refused']:,}"),
    ]
    title = element("header", paragraph("distangle data card", class_="kicker"), element("h1", str(card["source"])))
    return joined([title, definitions(facts)])


def _counts(card: Mapping[str, Any]) -> Markup:
    counted = Statistics.model_validate(card["counts"])
    rows = [row for row in statistics_table(counted) if not row[0].startswith("treatments with")]
    return table(("counted", "number"), rows, numeric=(1,))


def _class_sets(card: Mapping[str, Any]) -> Markup:
    counted = card["counts"]
    sets = [
        (f"S_{size}", f"{int(size):,}", f"{n:,}", f"{int(size) * n:,}") for size, n in counted["class_sets"].items()
    ]
    total = ("all", "", f"{counted['n_treatment_classes']:,}", f"{counted['n_train_wells']:,}")
    said = "Table 1: treatments of the training part by their number of wells; both sums are checked."
    return table(("set", "wells each", "treatments", "wells"), [*sets, total], numeric=(1, 2, 3), caption=said)


def _experiments(card: Mapping[str, Any]) -> Markup:
    names = ("experiment", "cell_type", "plates", "wells", "sites", "perturbations")
    rows = [tuple(_said(row[name]) for name in names) for row in card["experiments"]]
    return table(tuple(name.replace("_", " ") for name in names), rows, numeric=(2, 3, 4, 5))


def _controls(card: Mapping[str, Any]) -> Markup:
    rows = [tuple(_said(row[name]) for name in ("experiment", "plate", "negative", "positive", "wells"))
            for row in card["controls"]]  # fmt: skip
    more = len(rows) - MOST_PLATES
    shown = table(("experiment", "plate", "negative", "positive", "wells"), rows[:MOST_PLATES], numeric=(2, 3, 4))
    if more <= 0:
        return shown
    return joined([shown, paragraph(f"{more} more plates are in card.json.", class_="small")])


def _intensities(channels: Sequence[Mapping[str, Any]]) -> Markup:
    rows = [
        (
            str(channel["channel"]),
            f"{channel['planes']:,}",
            f"{channel['mean']:,.2f}",
            "–" if channel["variance_of_site_means"] is None else f"{channel['variance_of_site_means']:,.2f}",
            f"{channel['planes_of_zero']:,}",
            f"{channel['clipped_planes']:,}",
        )
        for channel in channels
    ]
    heads = ("channel", "planes", "mean", "variance of site means", "zero: not in the shares below", "planes that clip")
    return table(heads, rows, numeric=(1, 2, 3, 4, 5))


def _problems(card: Mapping[str, Any]) -> Markup:
    if not card["problems"]:
        return paragraph("Nothing.")
    rows = [(str(row["severity"]), str(row["kind"]), f"{row['count']:,}") for row in card["problems"]]
    return table(("severity", "kind", "entries"), rows, numeric=(2,))


def _said(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
