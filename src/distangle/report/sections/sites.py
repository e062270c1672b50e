"""Compute the section on example sites: images, attribution maps, channels."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distangle.report.data import ReportData
from distangle.report.html import Content, count, missing_notice, paragraph, spaced
from distangle.report.inline_svg import Bar, bars
from distangle.report.sections.channels import channel_names, unit_of
from distangle.report.site_renderer import ChosenSite, SitePictures, SiteRenderer, choose_sites
from distangle.results import Explanation

_KINDS = {
    "correct": "correct",
    "wrong": "error",
    "unlabelled": "no known perturbation",
    "control": "control",
}


def example_sites(data: ReportData, renderer: SiteRenderer, *, advance: Callable[[str], None]) -> Content:
    """Show the chosen sites with attribution maps and channel attribution."""
    explanation = data.explanation
    if explanation is None:
        return missing_notice("No site has been explained.", f"distangle explain {data.command_path}")
    examples = choose_sites(explanation.table)
    if not examples:
        return paragraph("The explanation holds no site.")
    scale = renderer.scale()
    sites = []
    for number, site in enumerate(examples, start=1):
        pictures = renderer.render(site.key, explanation.maps[site.row], name=f"site-{number:02d}")
        sites.append(_site(site, pictures, data, explanation))
        advance(" ".join(map(str, site.key)))
    values = {
        "remark": str(explanation.settings.get("remark", "")),
        "shown": f"{len(examples)} of {count(len(explanation.table), 'explained site')}",
        "scale": scale,
        "sites": sites,
    }
    return Content("sections/sites.html.j2", values)


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
    names, channels = channel_names(data), data.screen.card.channels
    columns = [f"shapley_{k}" for k in range(1, len(names) + 1)]
    if not set(columns) <= set(site.entry):
        return {}
    values = [float(site.entry[column]) for column in columns]
    top = int(np.nanargmax(values)) if np.isfinite(values).any() else -1
    items = [
        Bar(name=name, value=value, colour=channel.colour, strong=index == top)
        for index, (name, value, channel) in enumerate(zip(names, values, channels, strict=True))
    ]
    title = f"Shapley value of each channel ({unit_of(explanation)})."
    text = ", ".join(f"{name} {value:.2f}" for name, value in zip(names, values, strict=True))
    return {
        "bars": bars(items, description=f"{title} {text}"),
        "bars_caption": title + _correlation_sentence(site, names),
    }


def _site(site: ChosenSite, pictures: SitePictures, data: ReportData, explanation: Explanation) -> dict[str, Any]:
    true = str(site.entry["perturbation"]) or "unknown"
    pictures_with_text = (
        (pictures.composite, "All channels merged in their colours"),
        (pictures.overlay, "Attribution map over the grey mean of the channels"),
    )
    channels = zip(pictures.channels, channel_names(data), data.screen.card.channels, strict=False)
    return {
        "title": true if site.kind != "wrong" else f"{true} predicted as {site.entry['predicted']}",
        "kind": site.kind,
        "tag": _KINDS[site.kind] if site.kind != "control" else spaced(str(site.entry["Metadata_Role"])),
        "pictures": [
            {"source": source, "alternative": alternative} for source, alternative in pictures_with_text if source
        ],
        "width": pictures.width,
        "problem": pictures.problem,
        "channels": [
            {"source": source, "name": name, "organelle": channel.organelle} for source, name, channel in channels
        ],
        "caption": site_sentence(site, explanation),
        **site_bars(site, data, explanation),
    }


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
    return f" The map resembles {names[top]} most (correlation {values[top]:.2f}; p = {p:.2g} among random maps)."
