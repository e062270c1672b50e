"""Write the data card of a screen: a page and a JSON of its contents."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distangle.core.io import write_bytes, write_json, write_text
from distangle.report import quality_charts
from distangle.report.html import Content, Section, Table, count, paragraph, render_page, spaced, write_style
from distangle.report.merging import merge_sentence, merged_channels
from distangle.screen import Channel, ScreenStatistics, channel_labels, statistics_table

MAX_PLATES = 24  # rows of the table of controls
EDGE_LEVEL = 0.01  # largest p of an edge effect


def write_card(
    card: Mapping[str, Any], folder: Path, *, example: tuple[Mapping[str, str], np.ndarray] | None = None
) -> list[Path]:
    """Write `card.json`, `index.html`, its style and its charts.

    Args:
        card: Numbers from `distangle.images.quality.summary`.
        folder: Folder of the page; other files in it stay.
        example: Key (experiment, plate, well, site) and image [channel, height, width] of an example site.

    Returns:
        Paths of the files.
    """
    writer = _FigureWriter(folder)
    path = folder / "card.json"
    write_json(path, dict(card))
    writer.written.append(path)
    sections = [
        Section(name="counts", title="Counts", content=_stack(tables=[_count_table(card), _class_set_table(card)])),
        Section(name="experiments", title="Experiments", content=_stack(tables=[_experiment_table(card)])),
    ]
    if example is not None:
        example_content = _stack(figures=[_example_figure(writer, card, *example)])
        sections.append(Section(name="example", title="Example site", content=example_content))
    sections.append(Section(name="wells", title="Wells per perturbation", content=_well_content(writer, card)))
    sections.append(Section(name="controls", title="Controls", content=_control_content(card)))
    if card.get("pixels"):
        sections.append(
            Section(name="intensity", title="Intensity", content=_intensity_content(writer, card["pixels"]))
        )
        sections.append(
            Section(name="plates", title="Plate effects", content=_plate_content(writer, card["pixels"], _labels(card)))
        )
    sections.append(Section(name="refused", title="Refused entries", content=_problem_content(card)))
    page = folder / "index.html"
    title = f"{card['source']} · distangle data card"
    write_text(page, render_page(title, stamp="", header=_header(card), sections=sections))
    return [*writer.written, write_style(folder), page]


def _labels(card: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of the channels by name."""
    channels = [Channel(**channel) for channel in card["channels"]]
    return dict(zip((channel.name for channel in channels), channel_labels(channels), strict=True))


def _stack(
    *, figures: Sequence[Mapping[str, str]] = (), tables: Sequence[Table] = (), sentences: Sequence[str] = ()
) -> Content:
    return Content("stacked.html.j2", {"figures": figures, "tables": tables, "sentences": sentences})


class _FigureWriter:
    """The folder of the page, and the paths of the files in it."""

    def __init__(self, folder: Path) -> None:
        self.written: list[Path] = []
        self._folder = folder

    def figure(self, name: str, content: str | bytes, *, alternative: str, caption: str) -> dict[str, str]:
        """Write a picture; return its path with its caption."""
        path = self._folder / "figures" / name
        write_bytes(path, content.encode() if isinstance(content, str) else content)
        self.written.append(path)
        return {"source": f"figures/{name}", "alternative": alternative, "caption": caption}


def _example_figure(
    writer: _FigureWriter, card: Mapping[str, Any], site: Mapping[str, str], image: np.ndarray
) -> dict[str, str]:
    picture = quality_charts.channels_side_by_side(image)
    channels = [Channel(**channel) for channel in card["channels"]]
    names = ", ".join(channel_labels(channels))
    site_label = f"{site['experiment']} plate {site['plate']} well {site['well']} site {site['site']}"
    merged = f", and merged: {merge_sentence(channels, merged_channels(image))}" if len(image) > 1 else ""
    caption = f"{site_label}: {names}{merged} (as Figure 1 of the paper)."
    return writer.figure("channels.png", picture, alternative="The channels of one site", caption=caption)


def _well_content(writer: _FigureWriter, card: Mapping[str, Any]) -> Content:
    if not card["wells_by_perturbation"]:
        return paragraph("The screen has no perturbation.")
    counts = card["wells_by_perturbation"]
    if all(len(set(wells)) == 1 for wells in counts.values()):
        # Equal numbers would be a flat line: a sentence says more.
        sentences = [
            f"{spaced(role).capitalize()}: {count(len(wells), 'perturbation')} with {count(wells[0], 'well')}"
            f"{' each' if len(wells) > 1 else ''} (as Figure 2 of the paper)."
            for role, wells in counts.items()
        ]
        return _stack(sentences=sentences)
    chart = quality_charts.wells_per_perturbation(counts)
    caption = "Wells of each perturbation by role, on a logarithmic scale (as Figure 2 of the paper)."
    return _stack(
        figures=[writer.figure("wells.svg", chart, alternative="Wells of each perturbation", caption=caption)]
    )


def _intensity_content(writer: _FigureWriter, pixels: Mapping[str, Any]) -> Content:
    channels = pixels["channels"]
    intensity = writer.figure(
        "intensity.svg",
        quality_charts.intensity_by_experiment(channels),
        alternative="Mean intensity by channel and experiment",
        caption="Mean intensity of a site: range, quartiles and median by experiment (as Figure 3 of the paper). "
        f"{pixels['sites_read']:,} of {pixels['of_sites']:,} sites were read.",
    )
    variance = writer.figure(
        "variance.svg",
        quality_charts.variance_shares(channels),
        alternative="Share of the variance by level",
        caption=f"Where the {pixels['quantity']} varies: between experiments, plates of one experiment, wells of "
        "one plate and sites of one well (nested analysis of variance, unbiased). A level that cannot be "
        "estimated is part of the next coarser one.",
    )
    return Content(
        "sections/intensity.html.j2",
        {"intensity": intensity, "table": _intensity_table(channels), "variance": variance},
    )


def _plate_content(writer: _FigureWriter, pixels: Mapping[str, Any], labels: Mapping[str, str]) -> Content:
    figures, sentences = [], []
    for k, channel in enumerate(pixels["channels"], start=1):
        label = labels.get(channel["channel"], channel["channel"])
        if channel["planes_of_zero"] == channel["planes"]:
            sentences.append(f"{label}: every plane is zero.")
            continue
        figures.append(writer.figure(
            f"plate-{k}.svg",
            quality_charts.plate_and_light(channel, quantity=str(pixels["quantity"])),
            alternative=f"Median plate of {label}",
            caption=f"{label}. {edge_sentence(channel['edge'])} {_light_sentence(channel)}",
        ))  # fmt: skip
    return _stack(sentences=sentences, figures=figures)


def edge_sentence(edge: Mapping[str, Any] | None) -> str:
    """Describe the difference between border and inner wells in a sentence."""
    if edge is None:
        return "No plate has both border and inner wells."
    size = f"{edge['in_deviations']:+.2f} standard deviations at the border of the plate"
    over = f"over {edge['n_plates']} plate{'s' * (edge['n_plates'] != 1)}, p = {edge['p_value']:.3f}"
    verdict = "Edge effect" if edge["p_value"] < EDGE_LEVEL else f"No edge effect shown at p < {EDGE_LEVEL:g}"
    return f"{verdict}: {size} ({over})."


def _light_sentence(channel: Mapping[str, Any]) -> str:
    share = channel["darkest_to_brightest"]
    if share is None:
        return ""
    return f"The darkest part of the field has {100 * share:.0f} % of the light of the brightest."


def _header(card: Mapping[str, Any]) -> Content:
    image = card["image"]
    size = f"{image['shape'][0]} × {image['shape'][1]} px, {image['dtype']}" if image["shape"] else "not read"
    facts = [
        ("layout", str(card["layout"])),
        ("images", size),
        ("channels", ", ".join(str(channel["name"]) for channel in card["channels"]) or "not read"),
        ("cell types", ", ".join(card["cell_types"]) or "not given"),
        ("plate", f"{card['plate'][0]} × {card['plate'][1]} wells"),
        ("entries", f"found {card['found']:,} = indexed {card['indexed']:,} + refused {card['refused']:,}"),
    ]
    return Content("card_header.html.j2", {"kind": "distangle data card", "name": str(card["source"]), "facts": facts})


def _count_table(card: Mapping[str, Any]) -> Table:
    statistics = ScreenStatistics.model_validate(card["counts"])
    rows = [row for row in statistics_table(statistics) if not row[0].startswith("treatments with")]
    return Table(columns=("counted", "number"), rows=rows, numeric=(1,))


def _class_set_table(card: Mapping[str, Any]) -> Table:
    statistics = card["counts"]
    sets = [
        (f"S_{size}", f"{int(size):,}", f"{n:,}", f"{int(size) * n:,}") for size, n in statistics["class_sets"].items()
    ]
    total = ("all", "", f"{statistics['n_treatment_classes']:,}", f"{statistics['n_train_wells']:,}")
    caption = (
        "Treatments of the training part by their number of wells (as Table 1 of the paper: S_n is the set of "
        "treatments with n wells); both sums are checked."
    )
    columns = ("set", "wells each", "treatments", "wells")
    return Table(columns=columns, rows=[*sets, total], numeric=(1, 2, 3), caption=caption)


def _experiment_table(card: Mapping[str, Any]) -> Table:
    names = ("experiment", "cell_type", "plates", "wells", "sites", "perturbations")
    rows = [tuple(_format_cell(row[name]) for name in names) for row in card["experiments"]]
    return Table(columns=tuple(map(spaced, names)), rows=rows, numeric=(2, 3, 4, 5))


def _control_content(card: Mapping[str, Any]) -> Content:
    names = ("experiment", "plate", "negative", "positive", "wells")
    rows = [tuple(_format_cell(row[name]) for name in names) for row in card["controls"]]
    n_others = len(rows) - MAX_PLATES
    table = Table(columns=names, rows=rows[:MAX_PLATES], numeric=(2, 3, 4), caption="Control wells on each plate")
    return _stack(tables=[table], sentences=[f"{n_others} more plates are in card.json."] if n_others > 0 else [])


def _intensity_table(channels: Sequence[Mapping[str, Any]]) -> Table:
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
    columns = ("channel", "planes", "mean", "variance of site means", "zero: not in the shares below", "clipped planes")
    return Table(columns=columns, rows=rows, numeric=(1, 2, 3, 4, 5))


def _problem_content(card: Mapping[str, Any]) -> Content:
    if not card["problems"]:
        return paragraph("No entry was refused, and there was no warning.")
    rows = [(str(row["severity"]), str(row["kind"]), f"{row['count']:,}") for row in card["problems"]]
    return _stack(tables=[Table(columns=("severity", "kind", "entries"), rows=rows, numeric=(2,))])


def _format_cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
