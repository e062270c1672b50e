"""The section that shows explained sites: the image, the map, the stains, and what each stain was worth."""

from collections.abc import Callable, Sequence

import numpy as np

from distangle.report.marks import Bar, bars
from distangle.report.material import Material
from distangle.report.page import Markup, absent, count, element, joined, notice, paragraph
from distangle.report.sites import ChosenSite, Painter, SitePictures, choose_sites
from distangle.report.stains import channel_names, unit_of
from distangle.results import Explanation

_KINDS = {
    "correct": "correct",
    "wrong": "error",
    "unlabelled": "no known perturbation",
    "control": "control",
}


def explained_sites(material: Material, painter: Painter, *, advance: Callable[[str], None]) -> Markup:
    """Show the chosen sites with their stains, activation maps and channel attributions."""
    explanation = material.explanation
    if explanation is None:
        return absent("No site has been explained.", f"distangle explain {material.typed}")
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
        element(
            "figcaption", element("span", "0"), element("span", "activation map"), element("span", "1"), class_="ends"
        ),
        class_="map-scale",
    )
    seen = str(explanation.settings.get("remark", ""))
    return joined([*([notice(seen)] if seen else []), intro, bar, *cards])


def site_sentence(site: ChosenSite, explanation: Explanation) -> str:
    """Return the caption of a site in words."""
    entry = site.entry
    experiment, plate, well, number = site.key
    true = str(entry["perturbation"]) or "unknown"
    role = str(entry["Metadata_Role"]).replace("_", " ")
    what = f"{role}: {true}" if site.kind == "control" else true
    cell_type = str(entry.get("Metadata_Cell_Type", "") or "")
    where = f"{experiment}, plate {plate}, well {well}, site {number}" + (f" ({cell_type})" if cell_type else "")
    fold = {"held_out": "held out", "train": "training", "unlabelled": "unlabelled"}.get(
        str(entry.get("Metadata_Fold", "")), ""
    )
    if number := int(entry.get("Metadata_Cross_Validation", 0) or 0):
        fold += f" by fold {number}"
    settings = explanation.settings
    how = ", ".join(f"{word} {settings[word]}" for word in ("head", "layer") if settings.get(word) not in (None, ""))
    sentence = f"{where}{', ' + fold if fold else ''}. True: {what}; predicted: {entry['predicted']}. "
    sentence += f"Explained: {entry['explained']}, probability {float(entry['probability']):.2f}"
    return sentence + (f"; {how}." if how else ".")


def site_bars(site: ChosenSite, material: Material, explanation: Explanation) -> Markup:
    """Draw the Shapley values of one site, and say which stain its map follows, beside random maps."""
    names, channels = channel_names(material), material.screen.card.channels
    columns = [f"shapley_{k}" for k in range(1, len(names) + 1)]
    if not set(columns) <= set(site.entry):
        return paragraph("No channel attribution for this site.", class_="absent")
    values = [float(site.entry[column]) for column in columns]
    top = int(np.nanargmax(values)) if np.isfinite(values).any() else -1
    items = [
        Bar(
            name=name,
            value=value,
            colour=channel.colour,
            strong=place == top,
        )
        for place, (name, value, channel) in enumerate(zip(names, values, channels, strict=True))
    ]
    told = f"Shapley value of each stain ({unit_of(explanation)})."
    listed = ", ".join(f"{name} {value:.2f}" for name, value in zip(names, values, strict=True))
    return element("figure", bars(items, said=f"{told} {listed}"), element("figcaption", told + _followed(site, names)))


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
            element(
                "figure",
                element("img", src=source, alt=f"Channel {name} in grey", loading="lazy"),
                element("figcaption", *told),
            )  # fmt: skip
        )
    caption = paragraph(site_sentence(site, explanation), class_="caption")
    said = element("div", site_bars(site, material, explanation), caption, class_="why")
    return element(
        "article", title, element("div", element("div", *drawn, class_="pictures"), said, class_="columns"),
        element("div", *stains, class_="stains"), class_="site",
    )  # fmt: skip


def _picture(source: str, alternative: str, width: int) -> Markup:
    return element("a", element("img", src=source, alt=alternative, width=width, loading="lazy"), href=source)


def _followed(site: ChosenSite, names: Sequence[str]) -> str:
    columns = [(f"correlation_{k}", f"correlation_p_{k}") for k in range(1, len(names) + 1)]
    if not {name for pair in columns for name in pair} <= set(site.entry):
        return ""
    values = np.array([float(site.entry[value]) for value, _ in columns])
    if not np.isfinite(values).any():
        return ""
    top = int(np.nanargmax(values))
    # The largest of several was chosen: Bonferroni.
    p = min(1.0, len(names) * float(site.entry[columns[top][1]]))
    return f" The map resembles {names[top]} most (correlation {values[top]:.2f}; p = {p:.2g} among random maps)."
