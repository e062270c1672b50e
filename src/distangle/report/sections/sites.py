"""Compute the section on example sites: images, attribution maps, channels."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distangle.report.data import ReportData
from distangle.report.html import Content, count, missing_notice, paragraph, spaced
from distangle.report.inline_svg import Bar, bars
from distangle.report.scale_bar import length_text
from distangle.report.sections.channels import unit_of
from distangle.report.site_renderer import ChosenSite, SitePictures, SiteRenderer, choose_sites
from distangle.results import STANDS_OUT, Explanation
from distangle.screen import NEGATIVE, channel_labels

_KINDS = {
    "correct": "correct",
    "wrong": "error",
    "unlabelled": "no known perturbation",
    "control": "control",
}


def example_sites(data: ReportData, renderer: SiteRenderer, *, advance: Callable[[str], None]) -> Content:
    """Show example sites beside a control well, with map and channels."""
    explanation = data.explanation
    if explanation is None:
        return missing_notice("No site has been explained.", f"distangle explain {data.command_path}")
    examples = choose_sites(explanation.table)
    if not examples:
        return paragraph("The explanation holds no site.")
    scale = renderer.scale()
    sites = []
    for number, site in enumerate(examples, start=1):
        top = top_channel(site, len(data.screen.metadata.channels))
        name = f"site-{number:02d}"
        pictures = renderer.render(site.key, explanation.maps[site.row], name=name, channel=max(top, 0))
        files = [("this well", renderer.files(site.key))]
        if pictures.control_key is not None:
            files.append(("control well", renderer.files(pictures.control_key)))
        sites.append({"anchor": name, "files": files, **_site(site, pictures, data, explanation)})
        advance(" ".join(map(str, site.key)))
    values = {
        "remark": str(explanation.settings.get("remark", "")),
        "shown": f"{len(examples)} of {count(len(explanation.table), 'explained site')}",
        "pixel_size": _pixel_size_sentence(data),
        "scale": scale,
        "n_explained": len(explanation.table),
        "n_empty": int((explanation.maps.max(axis=(1, 2)) <= 0).sum()),
        "sites": sites,
    }
    return Content("sections/sites.html.j2", values)


def picture_anchors(data: ReportData) -> dict[str, str]:
    """Return the anchor of the first example of each perturbation, by name."""
    anchors: dict[str, str] = {}
    examples = [] if data.explanation is None else choose_sites(data.explanation.table)
    for number, site in enumerate(examples, start=1):
        anchors.setdefault(str(site.entry["perturbation"]), f"site-{number:02d}")
    return anchors


def top_channel(site: ChosenSite, n_channels: int) -> int:
    """Return the index of the channel with the largest value; -1 without values."""
    columns = [f"shapley_{k}" for k in range(1, n_channels + 1)]
    values = np.array([float(site.entry.get(column, np.nan)) for column in columns])
    return int(np.nanargmax(values)) if np.isfinite(values).any() else -1


def _pixel_size_sentence(data: ReportData) -> str:
    size = data.screen.metadata.pixel_size_um
    if size is None:
        return "The pixel size is unknown, so no picture has a scale bar."
    return f"One pixel is {size:.3g}\u202fµm; the white bar in the large pictures is the scale."


def site_sentence(site: ChosenSite, explanation: Explanation) -> str:
    """Return the caption of a site: its position, its labels, and what was explained."""
    entry = site.entry
    experiment, plate, well, number = site.key
    true = str(entry["perturbation"]) or "unknown"
    label = f"{spaced(str(entry['Metadata_Role']))}: {true}" if site.kind == "control" else true
    cell_type = str(entry.get("Metadata_Cell_Type", "") or "")
    position = f"{experiment}, plate {plate}, well {well}, site {number}" + (f" ({cell_type})" if cell_type else "")
    fold = {"held_out": "held out", "train": "training", "unlabelled": "unlabelled"}.get(
        str(entry.get("Metadata_Fold", "")), ""
    )
    if number := int(entry.get("Metadata_Cross_Validation", 0) or 0):
        fold += f" by fold {number}"
    settings = explanation.settings
    setting_text = ", ".join(
        f"{word} {settings[word]}" for word in ("head", "layer") if settings.get(word) not in (None, "")
    )
    sentence = f"{position}{', ' + fold if fold else ''}. True: {label}; predicted: {entry['predicted']}. "
    sentence += f"Explained: {entry['explained']}, probability {float(entry['probability']):.2f}"
    return sentence + (f"; {setting_text}." if setting_text else ".")


def site_bars(site: ChosenSite, data: ReportData, explanation: Explanation) -> dict[str, str]:
    """Draw the Shapley values of one site with a caption; empty without values."""
    names, channels = channel_labels(data.screen.metadata.channels), data.screen.metadata.channels
    columns = [f"shapley_{k}" for k in range(1, len(names) + 1)]
    if not set(columns) <= set(site.entry):
        return {}
    values = [float(site.entry[column]) for column in columns]
    top = top_channel(site, len(names))
    items = [
        Bar(name=name, value=value, color=channel.color, strong=index == top)
        for index, (name, value, channel) in enumerate(zip(names, values, channels, strict=True))
    ]
    title = f"How much each channel adds to this answer (Shapley value, {unit_of(explanation)})."
    text = ", ".join(f"{name} {value:.2f}" for name, value in zip(names, values, strict=True))
    return {
        "bars": bars(items, description=f"{title} {text}"),
        "bars_caption": title + _correlation_sentence(site, names),
    }


def _site(site: ChosenSite, pictures: SitePictures, data: ReportData, explanation: Explanation) -> dict[str, Any]:
    true = str(site.entry["perturbation"]) or "unknown"
    labels = channel_labels(data.screen.metadata.channels)
    top = top_channel(site, len(labels))
    shown = labels[max(top, 0)] if labels else ""
    is_pointing = bool(explanation.maps[site.row].max() > 0)
    large = [
        (pictures.treated, f"This well: {shown}"),
        (pictures.control, f"Control well: {shown}"),
        (pictures.overlay, "Where the network looked" if is_pointing else "Where the network looked: an empty map"),
    ]
    return {
        "title": true if site.kind != "wrong" else f"{true} predicted as {site.entry['predicted']}",
        "kind": site.kind,
        "tag": _KINDS[site.kind] if site.kind != "control" else spaced(str(site.entry["Metadata_Role"])),
        "pictures": [{"source": source, "caption": caption} for source, caption in large if source],
        "why_shown": "" if top < 0 else f"The channel with the largest Shapley value here is {shown}.",
        "width": pictures.width,
        "problem": pictures.problem,
        "bar": length_text(pictures.bar_um) if pictures.bar_um else "",
        "labels": labels if pictures.channels and len(labels) > 1 else [],
        "channels": pictures.channels,
        "control_channels": pictures.control_channels,
        "control": _control_sentence(site, pictures),
        "caption": site_sentence(site, explanation),
        **site_bars(site, data, explanation),
    }


def _control_sentence(site: ChosenSite, pictures: SitePictures) -> str:
    """Say which control well is shown, or why none is."""
    if pictures.control_key is not None:
        _, plate, well, number = pictures.control_key
        return f"The nearest control well of this plate: {well}, site {number}, plate {plate}. Both share one contrast."
    if str(site.entry["Metadata_Role"]) in NEGATIVE:
        return "This well is a control itself."
    return "" if pictures.problem else "This plate has no control well to compare with."


def _correlation_sentence(site: ChosenSite, names: Sequence[str]) -> str:
    columns = [(f"correlation_{k}", f"correlation_p_{k}") for k in range(1, len(names) + 1)]
    if not {name for pair in columns for name in pair} <= set(site.entry):
        return ""
    values = np.array([float(site.entry[value]) for value, _ in columns])
    if not np.isfinite(values).any():
        return ""
    top = int(np.nanargmax(values))
    # Bonferroni correction for taking the largest of several.
    p = min(1.0, len(names) * float(site.entry[columns[top][1]]))
    if not p <= STANDS_OUT:
        return (
            " The map resembles no channel more than random maps do "
            f"(largest correlation {values[top]:.2f}, p = {p:.2g})."
        )
    return f" The map resembles {names[top]} most (correlation {values[top]:.2f}; p = {p:.2g} among random maps)."
